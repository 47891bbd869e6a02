"""All endpoints together: who is started, how long that may take, and one word for many changes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from only1mcp.backend.endpoint import State
from only1mcp.backend.guard import Guard
from only1mcp.backend.http import HttpTransport
from only1mcp.backend.registry import Registry, transport_for
from only1mcp.backend.sse import SseTransport
from only1mcp.backend.stdio import StdioTransport
from only1mcp.config.schema import BackendConfig, Config

SILENT = BackendConfig(
    id="silent", transport="stdio", command=sys.executable, args=("-c", "import sys; sys.stdin.read()")
)


def missing(id: str) -> BackendConfig:
    return BackendConfig(id=id, transport="stdio", command="/nonexistent/command")


def registry(*servers: BackendConfig, on_change: Callable[[], None] = lambda: None) -> Registry:
    return Registry(Config(version="1.0", servers=servers), on_change)


async def left(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - before


async def test_only_what_is_enabled_has_an_endpoint() -> None:
    off = BackendConfig(id="off", transport="stdio", command="x", enabled=False)
    old = BackendConfig(id="old", transport="sse", url="http://127.0.0.1:1/sse")
    found = registry(missing("b"), off, old, missing("a"))
    assert list(found.endpoints) == ["b", "old", "a"]
    await found.aclose()


async def test_changes_that_happen_together_are_told_once() -> None:
    told: list[list[State]] = []
    found = registry(
        missing("a"), missing("b"), on_change=lambda: told.append([e.state for e in found.endpoints.values()])
    )
    await found.start(10)
    await asyncio.sleep(0)
    assert told == [[State.DOWN, State.DOWN]]
    await found.aclose()
    assert {endpoint.state for endpoint in found.endpoints.values()} == {State.CLOSED}


async def test_start_does_not_wait_for_a_silent_backend() -> None:
    before = asyncio.all_tasks()
    found = registry(SILENT, missing("b"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await found.start(0.2)
    assert loop.time() - began < 5
    assert [endpoint.state for endpoint in found.endpoints.values()] == [State.CONNECTING, State.DOWN]
    await found.aclose()
    assert await left(before) == set()


async def test_a_cancelled_start_is_cancelled_and_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    found = registry(SILENT)
    starting = asyncio.ensure_future(found.start(60))
    for _ in range(5):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    waiting = [task for task in await left(before) if "settled" in repr(task)]
    assert waiting == []
    await found.aclose()
    assert await left(before) == set()


async def test_without_backends() -> None:
    found = registry()
    await found.start(1)
    await found.aclose()


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"transport": "stdio", "command": "x"}, StdioTransport),
        ({"transport": "http", "url": "http://127.0.0.1:1/mcp"}, HttpTransport),
        ({"transport": "sse", "url": "http://127.0.0.1:1/sse"}, SseTransport),
    ],
)
async def test_each_entry_has_its_transport(entry: dict[str, Any], kind: type) -> None:
    transport = transport_for(BackendConfig(id="b", **entry), Guard())()
    assert type(transport) is kind
    await transport.aclose()
