"""`only1mcp` itself: its version, its help, and what each costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from only1mcp import __version__, _fast

ASK = "import sys{before}; from only1mcp.cli import main\ntry: main(['--version'])\nfinally: print(sorted(sys.modules))"
# What a command needs, but not the answer to a question about the program itself.
HEAVY = ("asyncio", "cryptography", "http.client", "msgspec", "prometheus_client", "ssl", "uvloop", "yaml")


@pytest.mark.parametrize("compiled", [True, False])
def test_version_says_which_implementation_is_in_use_and_imports_little(compiled: bool) -> None:
    if compiled and not _fast.COMPILED:
        pytest.skip("the compiled parts are not built")
    before = "" if compiled else "; sys.modules['only1mcp._fast.counters'] = None"
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(before=before)], capture_output=True, text=True, timeout=30, check=True
    )
    said, modules = done.stdout.splitlines()
    assert said == f"only1mcp {__version__} ({'compiled' if compiled else 'plain Python, slow'})"
    assert done.stderr == ""
    assert [name for name in HEAVY if f"'{name}'" in modules] == []


def test_what_start_loads_is_what_serving_needs() -> None:
    ask = "import sys, only1mcp.cli.start; print([name for name in {names} if name in sys.modules])"
    unneeded = ("cryptography.hazmat", "email", "http.client", "prometheus_client", "jwt")
    done = subprocess.run(
        [sys.executable, "-c", ask.format(names=unneeded)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["start", "--help"], ["config", "show", "-h"]])
def test_help(cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["list", "nonsense"], ["call"]])
def test_what_cannot_be_meant_is_usage(cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
