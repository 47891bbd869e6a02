"""`start` as a newcomer meets it: what it prints, what it refuses, and that nothing is left when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import Result
from tests.cli.conftest import PROGRAM
from tests.e2e.processes import Process, command_line, descendants, is_alive, until
from tests.mcp_backend import Backend, echo

from only1mcp.cli.client import ProxyClient

GONE_S = 10.0
DEMO = [PROGRAM, "start", "--demo", "--port", "0"]


@contextmanager
def started(log: Path, command: list[str] = DEMO, **env: str) -> Iterator[Process]:
    """Run a proxy whose banner is complete."""
    with Process(command, log, env=env) as proxy:
        proxy.wait_for_line(r"^try it.*\n.*\n  .*\n")
        yield proxy


def written(folder: Path, **sections: Any) -> list[str]:
    """Write a configuration and return the command that starts it."""
    values = {"version": "1.0", "proxy": {"port": 0}, "metrics": {"enabled": False}, "logging": {"format": "text"}}
    (folder / "c.yaml").write_text(yaml.safe_dump(values | sections))
    return [PROGRAM, "start", "--config", str(folder / "c.yaml")]


def refused(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# The banner.


def test_demo_tells_where_it_is_what_came_up_and_lines_that_work(tmp_path: Path) -> None:
    bin_folder = Path(PROGRAM).parent
    # As `make run` does: by a path relative to where the user stands.
    command = [os.path.relpath(PROGRAM, tmp_path), *DEMO[1:]]
    with started(tmp_path / "log", command, PATH=without(bin_folder)) as proxy:
        assert re.match(r"only1mcp \S+ listens on http://127\.0\.0\.1:\d+/mcp\n", proxy.output)
        assert re.search(r"^demo-stdio +stdio +up +3 tools +2026-07-28$", proxy.output, re.MULTILINE)
        assert re.search(r"^demo-http +http +up +3 tools +2026-07-28$", proxy.output, re.MULTILINE)
        curl, call = (line.strip() for line in proxy.output.splitlines()[-2:])
        assert curl.startswith("curl ")
        assert " call --url " in call
        assert pasted(call, PATH=without(bin_folder)) == "hello\n"
        answer = pasted(curl, PATH=without(bin_folder))
        assert json.loads(answer)["result"]["content"] == [{"type": "text", "text": "hello"}]


def without(folder: Path) -> str:
    return os.pathsep.join(name for name in os.environ["PATH"].split(os.pathsep) if Path(name) != folder)


def pasted(line: str, **env: str) -> str:
    if line.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_program_on_the_path_is_called_by_its_name(tmp_path: Path) -> None:
    path = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"
    with started(tmp_path / "log", PATH=path) as proxy:
        call = proxy.output.splitlines()[-1].strip()
        assert call.startswith("only1mcp call ")
        assert pasted(call, PATH=path) == "hello\n"


def test_without_demo_the_lines_list_what_there_is(tmp_path: Path) -> None:
    command = written(tmp_path, proxy={"port": 0, "path": "/else/where"})
    with started(tmp_path / "log", command) as proxy:
        curl, call = (line.strip() for line in proxy.output.splitlines()[-2:])
        assert pasted(call).startswith("no tools")
        assert '"id":1' in pasted(curl)


def test_backends_that_do_not_come_up_are_named_with_the_reason(tmp_path: Path) -> None:
    servers = [
        {"id": "nobody", "transport": "http", "url": "http://127.0.0.1:1/mcp"},
        {"id": "missing", "transport": "stdio", "command": "no-such-program-anywhere"},
    ]
    with started(tmp_path / "log", written(tmp_path, servers=servers)) as proxy:
        assert re.search(r"^nobody +http +(down|connecting) .*refused", proxy.output, re.MULTILINE)
        assert re.search(r"^missing +stdio +(down|connecting) .*was not found", proxy.output, re.MULTILINE)


def test_json_logs_keep_standard_output_to_themselves(tmp_path: Path) -> None:
    command = written(
        tmp_path, logging={"format": "json"}, servers=[{"id": "a", "transport": "stdio", "command": "cat"}]
    )
    with open(tmp_path / "err", "wb") as err:
        proxy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err)
        try:
            until(lambda: "try it" in (tmp_path / "err").read_text(), 20, "the banner on standard error")
            proxy.send_signal(signal.SIGTERM)
            lines = proxy.communicate(timeout=20)[0].splitlines()
        finally:
            proxy.kill()
            proxy.communicate()
    assert lines
    assert all(json.loads(line)["event"] for line in lines)


def test_a_reader_of_the_banner_who_leaves_does_not_stop_the_proxy(tmp_path: Path) -> None:
    with open(tmp_path / "err", "wb") as err:
        proxy = subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=err)
        try:
            assert proxy.stdout is not None
            proxy.stdout.close()
            demo = until(lambda: [p for p, c in descendants(proxy.pid).items() if "demo.http" in c], 20, "its child")
            until(lambda: len(descendants(proxy.pid)) >= 3, 20, "the other backend and its guard")
            assert proxy.poll() is None
            proxy.send_signal(signal.SIGTERM)
            assert proxy.wait(20) == 0
            assert not is_alive(demo[0])
        finally:
            proxy.kill()
            proxy.wait()
    assert "Traceback" not in (tmp_path / "err").read_text()


# What it refuses.


def test_a_busy_port_is_one_line(tmp_path: Path, taken: int) -> None:
    done = refused([PROGRAM, "start", "--demo", "--port", str(taken)])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1:{taken}: address already in use; --port takes another, 0 a free one\n"
    )
    command = written(tmp_path, metrics={"port": taken})
    done = refused(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: metrics: cannot listen on 127.0.0.1:{taken}: address already in use; set ")
    assert len(done.stderr.splitlines()) == 1


def test_a_busy_metrics_port_does_not_keep_the_demo_from_running(tmp_path: Path) -> None:
    try:
        busy = socket.create_server(("127.0.0.1", 9090))
    except OSError:
        busy = None  # somebody else's will do
    try:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with started(tmp_path / "log", [PROGRAM, "start", "--demo", "--port", str(port)]) as proxy:
            assert f"listens on http://127.0.0.1:{port}/mcp" in proxy.output
            (metrics,) = re.findall(r"metrics on http://127\.0\.0\.1:(\d+)/metrics", proxy.output)
            assert metrics != "9090"
    finally:
        if busy is not None:
            busy.close()


def test_the_demo_obeys_the_environment_and_the_rules(tmp_path: Path, taken: int) -> None:
    done = refused(DEMO[:3], ONLY1MCP_PORT=str(taken), ONLY1MCP_METRICS_PORT="0")
    assert f"127.0.0.1:{taken}" in done.stderr
    done = refused([*DEMO, "--host", "0.0.0.0"])
    assert done.returncode == 3
    assert "reachable from other machines" in done.stderr
    assert refused(DEMO[:3], ONLY1MCP_PORT="x").returncode == 3


def test_every_mistake_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text('version: "1.0"\nprox: {}\nmetrics: {port: -1}')
    done = refused([PROGRAM, "start", "--config", "c.yaml"])
    assert (done.returncode, done.stdout) == (3, "")
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["c.yaml:2:1", "c.yaml:3:17"]


def test_no_configuration_anywhere(cli: Callable[..., Result]) -> None:
    result = cli("start")
    assert (result.exit_code, result.stdout) == (3, "")
    for words in ("./only1mcp.yaml", ".config/only1mcp/config.yaml", "/etc/only1mcp/config.yaml", "config init"):
        assert words in result.stderr
    result = cli("start", "--config", "not-there.yaml")
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert "not-there.yaml: no such file" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--port", "65536"], ["--port", "x"], ["--demo", "--config", "c.yaml"], ["extra"], ["--nonsense"]]
)
def test_usage(cli: Callable[..., Result], arguments: list[str]) -> None:
    assert cli("start", *arguments).exit_code == 2


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    with started(tmp_path / "log", written(tmp_path, proxy={"port": 0, "health": {"interval_seconds": 1}})) as proxy:
        assert proxy.output.startswith("notice: proxy.health: accepted, but has no effect in this version")


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_child_is_left(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path / "log") as proxy:
        children = descendants(proxy.pid)
        for name in ("demo.http", "demo.stdio"):
            assert any(name in command for command in children.values()), children
        proxy.signal(number)
        assert proxy.wait() == (-9 if number == signal.SIGKILL else 0), proxy.output
    until(
        lambda: not any(is_alive(pid) for pid in children),
        GONE_S if number == signal.SIGKILL else 0,
        f"the end of {[command_line(pid) for pid in children if is_alive(pid)]}",
    )
    assert "Traceback" not in proxy.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_it_starts_leaves_no_child(tmp_path: Path, number: signal.Signals) -> None:
    with Process(DEMO, tmp_path / "log") as proxy:
        (child,) = until(lambda: descendants(proxy.pid), 20, "the first child")
        proxy.signal(number)
        assert proxy.wait() in (0, 1, -number)
    until(lambda: not is_alive(child), GONE_S, "the end of the demo server")
    assert "Traceback" not in proxy.output


async def test_the_first_ctrl_c_waits_for_running_calls_and_the_second_does_not(tmp_path: Path) -> None:
    async with Backend(tools={"echo": echo}) as backend:
        backend.tools["hold"] = backend.hold
        servers = [
            {"id": "http", "transport": "http", "url": backend.url},
            {"id": "stdio", "transport": "stdio", "command": sys.executable, "args": ["-m", "only1mcp.demo.stdio"]},
        ]
        command = written(tmp_path, servers=servers)
        with Process(command, tmp_path / "log") as proxy:
            url = (await asyncio.to_thread(proxy.wait_for_line, r"listens on (\S+)$"))[1]
            await asyncio.to_thread(proxy.wait_for_line, r"^try it")
            children = descendants(proxy.pid)
            call = asyncio.create_task(asyncio.to_thread(outcome, url))
            await asyncio.wait_for(backend.holding.wait(), 10)
            proxy.signal(signal.SIGINT)
            await asyncio.to_thread(until, lambda: not listens(url), 10, "the end of listening")
            assert proxy.is_running
            assert not call.done()
            proxy.signal(signal.SIGINT)
            assert await asyncio.to_thread(proxy.wait, 10) == 0
            assert await call != "released"
            assert [command for pid, command in children.items() if is_alive(pid)] == []
            assert "Traceback" not in proxy.output


def outcome(url: str) -> str:
    try:
        text: str = ProxyClient(url, timeout_s=30).call_tool("hold", b"{}")["content"][0]["text"]
        return text
    except Exception as error:
        return repr(error)


def listens(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 1).close()
    except OSError:
        return False
    return True
