"""A dead backend, one that never answers and a slow one: none of them delays or fails the others."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.gateway import http_backend, sdk_server, wait_for_tools
from tests.e2e.processes import Proxy, free_port
from tests.e2e.wire_client import RpcError, WireClient

# Far below every timeout that a black hole could make the proxy wait for, far above what a busy machine needs.
PROMPT_S = 3.0
FLOOD_S = 1.0


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory, sdk: Path) -> Iterator[Proxy]:
    """A proxy with a good backend behind three bad ones: refused connections, silence, and a command that ends."""
    directory = tmp_path_factory.mktemp("troubled")
    # A listener whose connections nobody accepts: the kernel takes them, and nothing ever comes back.
    with sdk_server(sdk, directory, "good", "dual") as good, socket.create_server(("127.0.0.1", 0)) as silence:
        servers = [
            http_backend("dead", f"http://127.0.0.1:{free_port()}/mcp"),
            http_backend("silent", f"http://127.0.0.1:{silence.getsockname()[1]}/mcp"),
            {"id": "ended", "name": "ended", "transport": "stdio", "command": "false"},
            {"id": "garbage", "name": "garbage", "transport": "stdio", "command": "yes", "args": ["not JSON"]},
            http_backend("good", good.url),
        ]
        started = time.monotonic()
        with Proxy(directory / "proxy", servers) as proxy:
            wait_for_tools(proxy, "good_filler_19")
            assert time.monotonic() - started < 10, "bad backends held up the start"
            yield proxy


async def test_lists_and_calls_do_not_wait_for_bad_backends(troubled: Proxy, era: str) -> None:
    async with asyncio.timeout(PROMPT_S), WireClient(troubled.url, era) as client:
        assert len(await client.all("tools/list")) == 26
        assert len(await client.all("resources/list")) == 12
        assert await client.text("good_echo", text="fine") == "fine"


@pytest.mark.parametrize("id", ["dead", "silent", "ended", "garbage"])
async def test_call_to_a_bad_backend_is_refused_promptly(troubled: Proxy, era: str, id: str) -> None:
    async with asyncio.timeout(PROMPT_S), WireClient(troubled.url, era) as client:
        with pytest.raises(RpcError) as caught:
            await client.call(f"{id}__anything")
        assert caught.value.code in {-32602, -31001}


async def test_slow_call_delays_no_other(troubled: Proxy, era: str) -> None:
    async with WireClient(troubled.url, era) as slow, WireClient(troubled.url, era) as quick:
        waiting = asyncio.create_task(slow.text("good_wait", seconds=3))
        for i in range(10):
            assert await quick.text("good_echo", text=str(i)) == str(i)
        assert not waiting.done()
        assert await waiting == "waited 3"


def test_flooding_child_costs_little(troubled: Proxy) -> None:
    before = _cpu_seconds(troubled.pid)
    time.sleep(FLOOD_S)
    assert _cpu_seconds(troubled.pid) - before < 0.2 * FLOOD_S


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
