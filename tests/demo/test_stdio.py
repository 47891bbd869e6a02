"""The stdio demo server as the proxy starts it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import count
from typing import Any

import pytest

from only1mcp.backend.base import BackendCall
from only1mcp.backend.era import establish
from only1mcp.backend.guard import Guard
from only1mcp.backend.stdio import StdioTransport
from only1mcp.config.schema import BackendConfig
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import Era

ARGS = ("-m", "only1mcp.demo.stdio")


@pytest.mark.parametrize(("probe", "era"), [(True, Era.STATELESS), (False, Era.HANDSHAKE)])
async def test_it_works_as_a_backend_of_either_era(probe: bool, era: Era) -> None:
    numbers = count(1)
    guard = Guard()
    config = BackendConfig(id="demo", transport="stdio", command=sys.executable, args=ARGS)
    transport = StdioTransport(config, guard=guard)
    try:
        await transport.start()
        peer = await establish(
            transport, lambda: b"%d" % next(numbers), timeout_s=20.0, client_version="1", probe=probe
        )
        assert peer.era is era
        assert set(peer.capabilities) == {"tools", "resources", "prompts"}
        request = jsonrpc.request(b"99", "tools/call", b'{"name":"echo","arguments":{"text":"hi"}}')
        answer = await transport.call(BackendCall("tools/call", request, b"99", 5.0))
        assert answer.result is not None
        assert jsonrpc.decode(answer.data, answer.result)["content"][0]["text"] == "hi"
    finally:
        await transport.aclose()
        await guard.aclose()


def run(data: bytes) -> list[Any]:
    done = subprocess.run([sys.executable, *ARGS], input=data, capture_output=True, timeout=30, check=True)
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_garbage_gets_errors_and_harms_nothing() -> None:
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n'
    answers = run(b"garbage\n\n\xff\n[]\n" + ping + b'{"jsonrpc":"2.0","method":"notifications/x"}\n')
    assert [answer.get("error", {}).get("code") for answer in answers] == [-32700, -32700, -32600, None]
    assert answers[-1] == {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_it_ends_quietly_when_nobody_reads() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *ARGS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    await process.stdout.readline()
    process.stdin.close()
    async with asyncio.timeout(20):
        assert (await process.communicate())[1] == b""
    assert process.returncode == 0
