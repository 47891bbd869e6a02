"""Results of one and of ten megabytes: every byte arrives, also many at once, and a client that stalls costs little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.processes import Proxy
from tests.mcp_caller import Caller, Reply, stateless
from tests.scale.server import COMMON, long_result
from tests.scale.stage import Numbers, forget_peak, peak_bytes, resident_bytes
from tests.scale.stage import staged as staged_here

MEBI = 1 << 20
TIMEOUT_S = 60.0
# What a stalled client may make us hold, whatever it has asked for: our write buffer with a piece of the answer in it,
# the reads of the backend's side, and as much again for how memory is handed out.
HELD_BYTES = 2 * MEBI


@asynccontextmanager
async def proxied(directory: Path) -> AsyncIterator[Proxy]:
    held = staged_here(directory, 1, 2)
    _, proxy = await asyncio.to_thread(held.__enter__)
    try:
        yield proxy
    finally:
        await asyncio.to_thread(held.__exit__, None, None, None)


def ask(caller: Caller, octets: int, *, sse: bool) -> None:
    arguments = {"octets": octets, "sse": sse}
    caller.write(*stateless("tools/call", name=COMMON, arguments=arguments, meta={"progressToken": 1}))


async def big_call(caller: Caller, octets: int, *, sse: bool) -> Reply:
    ask(caller, octets, sse=sse)
    reply = await caller.reply()
    assert reply.status == 200
    assert reply.streamed is sse
    return reply


@pytest.mark.parametrize("sse", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("size", ["one", "ten"])
async def test_every_byte_arrives(
    tmp_path: Path, numbers: Numbers, measured: Callable[[str], None], size: str, sse: bool
) -> None:
    octets = (1 if size == "one" else numbers.big_mb) * MEBI
    at_once = numbers.big_answers if size == "one" else max(2, numbers.big_answers // 4)
    result = long_result(octets)
    async with proxied(tmp_path) as proxy, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(proxy.port)) for _ in range(at_once)]
        before, began = resident_bytes(proxy.pid), time.monotonic()
        async with asyncio.timeout(TIMEOUT_S):
            replies = await asyncio.gather(*(big_call(caller, octets, sse=sse) for caller in callers))
        took_s = time.monotonic() - began
        for reply in replies:
            assert reply.body.count(result) == 1, (len(reply.body), reply.body[:200], reply.body[-200:])
            assert len(reply.body) - len(result) < 300, "the answer holds more than it was sent"
            assert len(reply.messages) == 1 + sse
        held = peak_bytes(proxy.pid) - before
        measured(
            f"{at_once} results of {octets // MEBI} MiB at once in {took_s:.2f} s, "
            f"{at_once * octets / MEBI / took_s:.0f} MiB/s, at most {held / MEBI:.1f} MiB held"
        )


@pytest.mark.parametrize("sse", [False, True], ids=["json", "sse"])
async def test_client_that_stalls(tmp_path: Path, numbers: Numbers, measured: Callable[[str], None], sse: bool) -> None:
    """Big answers for clients that read nothing stay with the backend; others are served; then all of it arrives."""
    octets = numbers.big_mb * MEBI
    result = long_result(octets)
    async with proxied(tmp_path) as proxy, AsyncExitStack() as stack:
        other = await stack.enter_async_context(Caller(proxy.port))
        await big_call(other, octets, sse=sse)
        stalled = [await stack.enter_async_context(Caller(proxy.port)) for _ in range(4)]
        forget_peak(proxy.pid)
        before = resident_bytes(proxy.pid)
        for caller in stalled:
            caller.writer.transport.pause_reading()
            ask(caller, octets, sse=sse)
        # As many calls as the proxy needs to have begun with all the answers.
        for _ in range(200):
            assert (await other.call(COMMON, text="meanwhile")).text == f"0/{COMMON}/meanwhile"
        held = (peak_bytes(proxy.pid) - before) / len(stalled)
        measured(f"a client that reads nothing of {octets // MEBI} MiB makes the proxy hold {held / MEBI:.2f} MiB")
        for caller in stalled:
            caller.writer.transport.resume_reading()
        async with asyncio.timeout(TIMEOUT_S):
            replies = await asyncio.gather(*(caller.reply() for caller in stalled))
        assert all(result in reply.body for reply in replies)
        assert held < HELD_BYTES
