"""The Dockerfile, as a linter reads it: the stages that are built from other images cannot be built everywhere."""

from __future__ import annotations

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
