"""A thousand SSE streams at once, each with progress that arrives while all of them are open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.mcp_caller import Caller, stateless
from tests.scale.server import COMMON
from tests.scale.stage import SPARE_DESCRIPTORS, Numbers, Site, cpu_seconds, raise_descriptor_limit, resident_bytes
from tests.scale.stage import staged as staged_here

STEPS = 3
OPEN_S = 60.0
BYTES_EACH = 128 * 1024


async def test_concurrent_streams(tmp_path: Path, numbers: Numbers, measured: Callable[[str], None]) -> None:
    limit = raise_descriptor_limit()
    if 2 * numbers.streams + SPARE_DESCRIPTORS > limit:
        pytest.skip(f"a process may open {limit} files here (RLIMIT_NOFILE)")
    async with AsyncExitStack() as stack:
        held = staged_here(tmp_path, 2, 2, proxy={"limits": {"max_in_flight": numbers.streams + 10}})
        site, proxy = await asyncio.to_thread(held.__enter__)
        stack.push_async_callback(asyncio.to_thread, held.__exit__, None, None, None)
        before, used, began = resident_bytes(proxy.pid), cpu_seconds(proxy.pid), time.monotonic()
        callers = [Caller(proxy.port) for _ in range(numbers.streams)]
        async with asyncio.timeout(OPEN_S):
            await all_open(stack, site, callers)
        opened_s = time.monotonic() - began
        each = (resident_bytes(proxy.pid) - before) / numbers.streams
        for step in range(1, STEPS + 1):
            await asyncio.to_thread(site.control, "step")
            async with asyncio.timeout(OPEN_S):
                heard = await asyncio.gather(*(next_event(caller) for caller in callers))
            for number, message in enumerate(heard):
                assert message["method"] == "notifications/progress"
                assert message["params"] == {"progressToken": f"t{number}", "progress": step, "message": "x" * 60}
        async with Caller(proxy.port) as other:
            assert (await other.call(COMMON, text="meanwhile")).text == f"0/{COMMON}/meanwhile"
        await asyncio.to_thread(site.control, "finish")
        async with asyncio.timeout(OPEN_S):
            answers = await asyncio.gather(*(last_event(caller) for caller in callers))
        for number, answer in enumerate(answers):
            assert answer["id"] == number
            assert answer["result"]["content"] == [{"type": "text", "text": f"done {number}"}]
        measured(
            f"{numbers.streams} streams open after {opened_s:.2f} s, {each / 1024:.1f} KiB each, "
            f"{STEPS + 2} events each, {(cpu_seconds(proxy.pid) - used) * 1e6 / numbers.streams:.0f} us of CPU a stream"
        )
        assert each < BYTES_EACH
        # The connections are as good as new.
        replies = await asyncio.gather(*(caller.call(COMMON, text="after") for caller in callers[:50]))
        assert {reply.text for reply in replies} == {f"0/{COMMON}/after"}


async def all_open(stack: AsyncExitStack, site: Site, callers: list[Caller]) -> None:
    """Open every stream, the second backend's half of them too, and read the first event of each."""
    for number, caller in enumerate(callers):
        await stack.enter_async_context(caller)
        name = (COMMON, f"s1__{COMMON}")[number % 2]
        meta = {"progressToken": f"t{number}"}
        caller.write(*stateless("tools/call", id=number, meta=meta, name=name, arguments={"hold": f"done {number}"}))
    await asyncio.to_thread(site.control, f"held/{len(callers)}")
    for number, caller in enumerate(callers):
        status, headers = await caller.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        message = await next_event(caller)
        assert message["params"] == {"progressToken": f"t{number}", "progress": 0, "message": "x" * 60}


async def next_event(caller: Caller) -> dict[str, Any]:
    chunk = (await caller.chunk()).decode()
    assert chunk.endswith("\n\n")
    message: dict[str, Any] = json.loads(chunk.partition("data: ")[2])
    return message


async def last_event(caller: Caller) -> dict[str, Any]:
    message = await next_event(caller)
    assert await caller.chunk() == b""
    return message
