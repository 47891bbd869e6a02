"""Children of the proxy: a killed one comes back and disturbs nobody, and none outlives the proxy, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.gateway import http_backend, npx_backend, sdk_server, stdio_backend, wait_for_tools
from tests.e2e.processes import Proxy, command_line, descendants, is_alive, until
from tests.e2e.wire_client import RpcError, WireClient

GONE_S = 10.0
RESTART_S = 20.0


@pytest.fixture
def family(tmp_path: Path, node_packages: Path, sdk: Path) -> Iterator[Proxy]:
    """A proxy with two stdio children, one of them two processes deep, and an HTTP backend."""
    with sdk_server(sdk, tmp_path, "flow", "stateless") as flow:
        servers = [
            npx_backend(node_packages, "everything", "mcp-server-everything"),
            stdio_backend("pipe", sdk, "sdk_server.py", "--name", "pipe"),
            http_backend("flow", flow.url),
        ]
        with Proxy(tmp_path / "proxy", servers) as proxy:
            wait_for_tools(proxy, "get-sum", "pipe_echo", "flow_echo")
            yield proxy


async def test_killed_child_is_restarted_and_the_others_go_on(family: Proxy, era: str) -> None:
    async with WireClient(family.url, era) as client:
        pid = int(await client.text("pipe_pid"))
        assert pid in descendants(family.pid)
        everything = _pid_of(family, "mcp-server-everything")
        os.kill(pid, signal.SIGKILL)
        assert await client.text("flow_echo", text="a") == "a"
        assert "5" in await client.text("get-sum", a=2, b=3)
        assert _pid_of(family, "mcp-server-everything") == everything
        new = int(await _after_restart(client, "pipe_pid"))
    assert new != pid
    assert new in descendants(family.pid)


async def test_call_in_flight_at_a_killed_child_gets_an_error_at_once(family: Proxy, era: str) -> None:
    async with WireClient(family.url, era) as client, WireClient(family.url, era) as killer:
        pid = int(await client.text("pipe_pid"))
        os.kill(pid, signal.SIGSTOP)  # so that the call is certainly in flight when the child dies
        call = asyncio.create_task(client.text("pipe_echo", text="never"))
        await killer.text("flow_echo", text="the loop has turned")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RpcError) as caught:
            async with asyncio.timeout(5):
                await call
        assert caught.value.code in {-31001, -31007}
        await _after_restart(killer, "pipe_pid")


async def test_killed_wrapper_takes_the_server_behind_it_along(family: Proxy, era: str) -> None:
    everything = _pid_of(family, "mcp-server-everything")
    (npx,) = [pid for pid, command in descendants(family.pid).items() if "npm exec" in command or "npx" in command]
    os.kill(npx, signal.SIGKILL)
    until(lambda: not is_alive(everything), GONE_S, f"the end of {command_line(everything)!r}")
    async with WireClient(family.url, era) as client:
        total = await _after_restart(client, "get-sum", a=2, b=3)
    assert "5" in total
    assert _pid_of(family, "mcp-server-everything") != everything


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_ends_the_proxy_with_status_0_and_no_child_left(family: Proxy, number: signal.Signals) -> None:
    children = descendants(family.pid)
    assert len(children) >= 2
    family.signal(number)
    assert family.wait() == 0, family.output
    assert [children[pid] for pid in children if is_alive(pid)] == []


async def test_call_in_flight_is_answered_before_the_proxy_ends(family: Proxy, era: str) -> None:
    async with WireClient(family.url, era) as client, WireClient(family.url, era) as other:
        call = asyncio.create_task(client.text("pipe_wait", seconds=1))
        for _ in range(3):  # later than the call, and over the same pipe
            await other.text("pipe_echo", text="the call has left")
        family.signal(signal.SIGTERM)
        assert await call == "waited 1"
    assert family.wait() == 0, family.output


def test_sigkill_of_the_proxy_leaves_no_child(family: Proxy) -> None:
    children = descendants(family.pid)
    assert len(children) >= 2
    family.signal(signal.SIGKILL)
    assert family.wait() == -signal.SIGKILL
    until(lambda: not any(is_alive(pid) for pid in children), GONE_S, f"the end of {children}")


async def _after_restart(client: WireClient, tool: str, **arguments: int) -> str:
    """Call until the restarted child answers; calls before that may fail, but say why."""
    async with asyncio.timeout(RESTART_S):
        while True:
            try:
                return await client.text(tool, **arguments)
            except RpcError as error:
                assert error.code in {-31001, -31007}, error


def _pid_of(proxy: Proxy, program: str) -> int:
    pids = [pid for pid, command in descendants(proxy.pid).items() if program in command and "npx" not in command]
    return max(pids)
