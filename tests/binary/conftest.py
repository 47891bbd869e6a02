"""The static binary that these tests run: built here where what takes long is there already, else the one in dist/."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from tests.readme import way_to_install

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and "binary" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT_S))


@pytest.fixture(scope="session")
def binary() -> Path:
    """The static binary of this working tree."""
    if sys.platform != "linux":
        pytest.skip("the static binary is for Linux")
    parts = Path(os.environ.get("ONLY1MCP_BINARY_PARTS") or ROOT / "build" / "binary" / "parts")
    target = ROOT / "dist" / f"only1mcp-linux-{platform.machine()}"
    if (parts / ".stamp-cpython").is_file():
        command = [*way_to_install("make", "binary"), "--no-print-directory"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    elif not target.is_file():
        pytest.skip("there is no static binary: `make binary` builds it, which takes minutes the first time")
    return target
