"""What CI runs: everything in its order, no further than what fails, and the tests even without a static binary."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"
MAKE = """#!/bin/sh
echo "$*" >> said
case "$*" in "$FAILING" | *" $FAILING") exit 1 ;; esac
"""

pytestmark = pytest.mark.skipif(
    not RUN.exists() or sys.platform == "win32", reason="there is no .ci/run: this is no clone, or it is for Unix"
)


def run(folder: Path, failing: str) -> tuple[int, list[str], str]:
    """Run it where `make` fails for these targets; return status, the calls of make, and standard error."""
    (folder / ".ci").mkdir()
    shutil.copy(RUN, folder / ".ci")
    for name, text in {".ci/packages": "#!/bin/sh\n", "bin/make": MAKE}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder), "FAILING": failing}
    done = subprocess.run([folder / ".ci" / "run"], env=env, capture_output=True, text=True, timeout=30, check=False)
    said = (folder / "said").read_text().splitlines()
    return done.returncode, [line.removeprefix("--no-print-directory ") for line in said], done.stderr


def test_all_is_well(tmp_path: Path) -> None:
    status, said, errors = run(tmp_path, "nothing")
    assert (status, errors) == (0, "")
    assert sorted(said[:3]) == ["binary-parts", "fetch", "lint"]
    assert said[3:] == ["binary", "-o lint test"]


@pytest.mark.parametrize(("failing", "after"), [("binary-parts", []), ("binary", ["binary"])])
def test_a_binary_that_cannot_be_built_is_told_and_the_tests_run(
    tmp_path: Path, failing: str, after: list[str]
) -> None:
    status, said, errors = run(tmp_path, failing)
    assert (status, said[3:]) == (0, [*after, "-o lint test"])
    assert "the static binary could not be built" in errors


def test_what_cannot_be_fetched_is_left_to_the_tests(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, "fetch")
    assert (status, said[-1]) == (0, "-o lint test")


def test_nothing_comes_after_lint_that_fails(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, "lint")
    assert status == 1
    assert set(said) <= {"binary-parts", "fetch", "lint"}


def test_tests_that_fail_fail_it(tmp_path: Path) -> None:
    assert run(tmp_path, "test")[0] == 1
