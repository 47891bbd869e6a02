"""Every micro benchmark runs, once and unmeasured; those of a million entries, which take a minute, are left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_runs() -> None:
    command = [sys.executable, "-m", "pytest", "benches/micro", "-q", "--benchmark-disable", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", "not million and not 1000000"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
