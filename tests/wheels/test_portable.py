"""Our C is taken without a warning with the headers of Windows and macOS; and a warning would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.wheels.available import available
from wheels import environments, foreign, portable
from wheels.environments import Failed

# What speaks to the system, what is all bytes, and an ordinary module; `make wheel-portable` takes every one.
MODULES = ("only1mcp/_fast/sockets", "only1mcp/_fast/framing", "only1mcp/frontend/timer")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def headers() -> None:
    available(environments.tools)
    available(foreign.home, foreign.WINDOWS)
    available(foreign.home, foreign.MACOS)


@pytest.fixture(scope="module")
def sources() -> list[Path]:
    return portable.generated(MODULES)


@pytest.mark.parametrize("name", portable.TARGETS)
def test_no_warnings(sources: list[Path], name: str) -> None:
    assert portable.warnings(name, sources) == []


def test_a_warning_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "careless.c"
    source.write_text("#include <Python.h>\nint careless(unsigned a) { int b; return a < -1; }\n")
    (found,) = portable.warnings("win_amd64", [source])
    assert "unused variable 'b'" in found
    assert "comparison of integers of different signs" in found


def test_a_module_that_is_not_compiled() -> None:
    with pytest.raises(Failed, match="Cython makes no such file"):
        portable.generated(["only1mcp/cli/start"])
