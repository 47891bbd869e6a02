"""The limit on open files is raised as far as the system allows, and what is missing is said."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from only1mcp.config.schema import BackendConfig, Config, Limits, Proxy
from only1mcp.process.descriptors import LEAST, allow, wanted

PROGRAM = str(Path(sys.executable).with_name("only1mcp"))
SERVER = {"id": "demo", "transport": "stdio", "command": sys.executable, "args": ["-m", "only1mcp.demo.stdio"]}
CONFIG = json.dumps({"version": "1.0", "servers": [SERVER]})
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit on Windows")

SCRIPT = """
import resource, sys
soft, hard, number = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from only1mcp.process.descriptors import allow
print(allow(number), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after(soft: int, hard: int, number: int) -> list[int]:
    """Return what `allow` says in a process with these limits, and the limits that it then has."""
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return [int(word) for word in done.stdout.split()]


def test_the_soft_limit_is_raised_to_what_is_wanted() -> None:
    assert limits_after(100, 500, 300) == [300, 300, 500]


def test_the_hard_limit_stays() -> None:
    assert limits_after(100, 200, 300) == [200, 200, 200]


def test_a_higher_limit_is_not_lowered() -> None:
    assert limits_after(400, 500, 300) == [400, 400, 500]


def test_too_few_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with caplog.at_level(logging.WARNING):
            assert allow(hard + 1) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    (record,) = caplog.records
    assert record.message == "process.few_descriptors"


@pytest.mark.parametrize("command", [["start", "--demo"], ["start"], ["stdio"], ["test"]])
@pytest.mark.parametrize("limit", [5, 7, LEAST - 1])
def test_fewer_than_anything_needs_are_refused_in_one_line(command: list[str], limit: int, tmp_path: Path) -> None:
    # Between 7 and a dozen the event loop itself would end the process, without a word.
    done = run_limited(limit, limit, *command, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: no more than {limit} files may be open, expected at least {LEAST}: raise the limit (ulimit -n)\n"
    )


def test_the_least_is_enough(tmp_path: Path) -> None:
    (tmp_path / "only1mcp.yaml").write_text(CONFIG)
    done = run_limited(LEAST, LEAST, "stdio", folder=tmp_path, said=json.dumps(HELLO) + "\n")
    assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "only1mcp", done.stderr
    assert "1 of 1 backends are up" in done.stderr


def test_a_soft_limit_is_no_reason_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "only1mcp.yaml").write_text(CONFIG)
    done = run_limited(5, 200, "test", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def run_limited(soft: int, hard: int, *command: str, folder: Path, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of ours, with no configuration but that in the folder, under these limits."""
    return subprocess.run(
        ["sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", PROGRAM, *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        input=said,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_what_the_limits_may_take() -> None:
    servers = (BackendConfig(id="a", transport="stdio", command="x"),)
    small = Config(version="1.0", proxy=Proxy(limits=Limits(max_connections=100, max_in_flight=10)))
    large = Config(version="1.0", proxy=Proxy(limits=Limits(max_connections=1100, max_in_flight=10)), servers=servers)
    assert 110 < wanted(small) < 1000
    assert wanted(large) > wanted(small) + 1000
