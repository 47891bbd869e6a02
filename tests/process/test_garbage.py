"""Connections come and go at any rate: what one leaves behind is freed with it, not when a collector comes by.

Cycles would be found in the end. Until then they are memory that grows, and finding them stops everything. Streams that
live long (HTTP+SSE, subscriptions) may leave some.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.in_process import configured, running
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import Caller, stateless
from tests.proxy.test_plain import until

from only1mcp.process.worker import Worker

CONNECTIONS = 3
# So many that later ones are plain calls.
CALLS = 6
Visit = Callable[[int, Backend], Awaitable[None]]


async def working(call: Call) -> Outcome:
    await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
    return text("done")


async def hanging(call: Call) -> Outcome:
    await asyncio.sleep(0.05)
    return text("late")


async def calls(port: int, backend: Backend) -> None:
    async with Caller(port) as caller:
        for _ in range(CALLS):
            assert (await caller.call("echo", text="hi")).text == "hi"


async def session(port: int, backend: Backend) -> None:
    async with Caller(port) as caller:
        await caller.initialize()
        for _ in range(CALLS):
            assert (await caller.call("echo", text="hi")).text == "hi"


async def lists(port: int, backend: Backend) -> None:
    async with Caller(port) as caller:
        for _ in range(CALLS):
            assert len((await caller.ask("tools/list")).result["tools"]) == 3


async def mistakes(port: int, backend: Backend) -> None:
    async with Caller(port) as caller:
        for _ in range(CALLS):
            assert (await caller.send(b"]", stateless("tools/list")[1])).status == 400
        caller.writer.write(b"not HTTP\r\n\r\n")
        assert (await caller.reply()).status == 400


async def progress(port: int, backend: Backend) -> None:
    async with Caller(port) as caller:
        for _ in range(CALLS):
            assert (await caller.call("work", meta={"progressToken": 1})).text == "done"


async def gone_in_the_middle(port: int, backend: Backend) -> None:
    for before in (0, CALLS):
        async with Caller(port) as caller:
            for _ in range(before):
                await caller.call("hang")
            seen = len(backend.received)
            caller.write(*stateless("tools/call", name="hang", arguments={}))
            await until(lambda seen=seen: len(backend.received) > seen)  # type: ignore[misc]
            caller.writer.transport.abort()


VISITS: dict[str, Visit] = {
    visit.__name__: visit for visit in (calls, session, lists, mistakes, progress, gone_in_the_middle)
}


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend(tools={"echo": echo, "work": working, "hang": hanging}) as backend:
        yield backend


@pytest.mark.parametrize("visit", VISITS)
async def test_a_connection_that_ends_leaves_nothing_to_the_collector(backend: Backend, visit: str) -> None:
    async with running(configured(backend)) as worker:
        assert worker.listener is not None
        port = worker.listener.port
        await VISITS[visit](port, backend)  # what is made once
        await left(worker)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(CONNECTIONS):
                await VISITS[visit](port, backend)
            await left(worker)
            gc.collect()
            found = Counter(f"{type(each).__module__}.{type(each).__name__}" for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    ours = {name: count for name, count in found.items() if name.startswith("only1mcp.")}
    assert ours == {}, sorted(ours)


async def left(worker: Worker) -> None:
    """Wait until every connection has ended, and what hung with it."""
    listener = worker.listener
    assert listener is not None
    await until(lambda: not listener.connections)
    await asyncio.sleep(0.1)
