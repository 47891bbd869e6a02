"""The Dockerfile, as a linter reads it: the stages that are built from other images cannot be built everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not HADOLINT.is_file(), reason="hadolint is for Linux on x86_64 and arm64")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_build_needs_is_listed_where_both_read_it() -> None:
    from binary import build

    listed = (ROOT / "binary" / "debian.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed))
    assert set(build.NEEDED.values()) <= set(listed)
    assert "xargs apt-get install -y --no-install-recommends < binary/debian.txt" in (ROOT / "Dockerfile").read_text()


def test_the_package_can_be_built_of_what_the_build_is_given(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    everything, *rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert everything == "*"
    ignored = shutil.ignore_patterns(*(rule.rpartition("/")[2] for rule in rules if not rule.startswith("!")))
    for name in (rule.removeprefix("!") for rule in rules if rule.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, context)
    command = [sys.executable, "-P", "setup.py", "--quiet", "build", "--build-lib", tmp_path / "built"]
    env = {"PATH": os.environ["PATH"], "ONLY1MCP_EXTENSIONS": "skip"}
    done = subprocess.run(command, cwd=context, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.relative_to(tmp_path / "built") for path in (tmp_path / "built").rglob("*.py")}
    assert built == {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")}
    subprocess.run(["make", "--dry-run", "binary"], cwd=context, capture_output=True, check=True)
