"""Backends that break the protocol: the call at fault gets an error of ours, every other call goes on untouched."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.gateway import http_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server
from tests.e2e.third_party import SERVERS
from tests.e2e.wire_client import RpcError, WireClient

SCRIPT = SERVERS / "misbehaving.py"
BACKEND_TIMEOUT_MS = 1500
STATUS_OF = {-31001: 503, -31002: 504, -31007: 502}
GOOD_ON_STDIO = ["garbage_then_answer", "twice", "stderr_flood"]
BAD_ON_STDIO = ["silence", "garbage", "half_json", "not_utf8", "wrong_id", "no_result", "die", "huge_line"]
BAD_ON_HTTP = [
    "silence",
    "garbage",
    "html_error",
    "empty",
    "wrong_id",
    "no_result",
    "wrong_type",
    "cut_short",
    "two_lengths",
    "bad_chunk",
    "stream_without_answer",
    "stream_garbage",
    "redirect",
    "not_http",
    "reset",
]
MEMORY_LIMIT_KB = 200_000


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of a misbehaving child, a misbehaving HTTP server, and a second child that stays good."""
    directory = tmp_path_factory.mktemp("rough")
    child = {"transport": "stdio", "command": sys.executable, "args": [str(SCRIPT)], "timeout_ms": BACKEND_TIMEOUT_MS}
    with Server(Path(sys.executable), SCRIPT, directory / "http.log", "--http") as server:
        servers = [
            {"id": "child", "name": "child", **child},
            http_backend("http", server.url, timeout_ms=BACKEND_TIMEOUT_MS),
            {"id": "good", "name": "good", **child},
        ]
        with Proxy(directory / "proxy", servers) as proxy:
            wait_for_tools(proxy, "ok", "http__ok", "good__ok")
            yield proxy


@pytest.mark.parametrize("tool", GOOD_ON_STDIO)
async def test_noise_around_the_answer_does_no_harm(rough: Proxy, tool: str) -> None:
    async with WireClient(rough.url) as client:
        assert await client.text(f"child__{tool}") == "fine"
        assert await client.text("child__ok") == "fine"


@pytest.mark.parametrize("tool", BAD_ON_STDIO)
async def test_child_breaks_the_protocol(rough: Proxy, tool: str) -> None:
    await _check(rough, f"child__{tool}", "child__ok")


@pytest.mark.parametrize("tool", BAD_ON_HTTP)
async def test_http_server_breaks_the_protocol(rough: Proxy, tool: str) -> None:
    await _check(rough, f"http__{tool}", "http__ok")


def test_a_huge_line_was_never_held(rough: Proxy) -> None:
    status = Path(f"/proc/{rough.pid}/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak < MEMORY_LIMIT_KB


async def _check(proxy: Proxy, bad: str, same_backend: str) -> None:
    async with WireClient(proxy.url) as victim, WireClient(proxy.url) as other:
        call = asyncio.create_task(victim.call(bad))
        for _ in range(20):
            assert await other.text("good__ok") == "fine"
        with pytest.raises(RpcError) as caught:
            async with asyncio.timeout(BACKEND_TIMEOUT_MS / 1000 + 5):
                await call
        assert caught.value.status == STATUS_OF[caught.value.code]
        assert "secret" not in str(caught.value.error)
        # The backend itself goes on as well; a child that had to be replaced says so until it is back.
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await victim.text(same_backend) == "fine"
                    break
                except RpcError as error:
                    assert error.code == -31001, error
