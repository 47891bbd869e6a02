"""Commands tell how they failed, and what is not there is told apart from what is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from wheels import environments
from wheels.environments import Failed, NotAvailable, run

LOCKS = sorted(path.stem for path in environments.HERE.glob("*.in"))


def test_what_was_printed() -> None:
    assert run(sys.executable, "-c", "print('one')") == "one\n"


def test_a_failure_shows_the_end_of_its_errors() -> None:
    script = "import sys; sys.stderr.write('\\n'.join(map(str, range(100)))); sys.exit(3)"
    with pytest.raises(Failed, match=r"failed:\n80\n") as caught:
        run(sys.executable, "-c", script)
    assert not isinstance(caught.value, NotAvailable)


def test_a_command_that_takes_too_long() -> None:
    with pytest.raises(Failed, match=r"took more than 0\.2 s"):
        run(sys.executable, "-c", "import threading; threading.Event().wait(30)", timeout_s=0.2)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(NotAvailable, match="no-such-command is not installed"):
        run("no-such-command")


def test_the_tag_of_an_interpreter() -> None:
    assert environments.tag(sys.executable) == f"cp{sys.version_info[0]}{sys.version_info[1]}"


def test_what_cannot_be_installed_is_not_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # What is on no index, under a hash that nothing has.
    (tmp_path / "build.txt").write_text(f"./nothing.whl --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(environments, "HERE", tmp_path)
    monkeypatch.setattr(environments, "MADE", tmp_path / "made")
    with pytest.raises(NotAvailable, match=r"build\.txt cannot be installed"):
        environments.build_environment()
    assert not list(tmp_path.glob("made/*/.installed"))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_version_is_locked_by_hash(lock: str) -> None:
    text = (environments.HERE / f"{lock}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    locked = {line.split("==")[0].strip() for line in lines}
    asked = (environments.HERE / f"{lock}.in").read_text().splitlines()
    assert {line.split("[")[0] for line in asked if not line.startswith("#")} <= locked


def test_a_tool_is_of_the_same_version_wherever_it_is_locked() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in re.findall(
            r"^([\w-]+)==(\S+)", (environments.HERE / f"{lock}.txt").read_text(), re.MULTILINE
        ):
            versions.setdefault(name, set()).add(version)
    assert len(versions["cibuildwheel"]) == 1
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_what_pyproject_builds_with_is_locked() -> None:
    import tomllib

    project = tomllib.loads((environments.ROOT / "pyproject.toml").read_text())
    needed = {requirement.split(">=")[0] for requirement in project["build-system"]["requires"]}
    assert needed < set((environments.HERE / "build.in").read_text().split())
