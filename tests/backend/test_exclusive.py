"""Backends with an instance for each session: lists from one connection, calls over the sessions' own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.backend.fakes import FakeServer, Raw, tool

from only1mcp._fast import Envelope, scan
from only1mcp.backend.base import BackendCall
from only1mcp.backend.endpoint import State
from only1mcp.backend.exclusive import ExclusiveEndpoint
from only1mcp.backend.line import Line
from only1mcp.backend.registry import Registry
from only1mcp.config.schema import BackendConfig, Config, Instances
from only1mcp.errors import BackendAnswerError, BackendRefused, BackendUnavailable
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import Era

ERA_SERVER = Path(__file__).parents[1] / "fixtures" / "era_server.py"


def own(limit: int = 8, **entry: Any) -> BackendConfig:
    settings = Instances(mode="per_session", max=limit, idle_seconds=entry.pop("idle_seconds", 300.0))
    return BackendConfig(**{"id": "own", "transport": "http", "url": "http://x", "instances": settings, **entry})


async def up(server: FakeServer, **entry: Any) -> ExclusiveEndpoint:
    endpoint = ExclusiveEndpoint(own(**entry), server, lambda _: None)
    endpoint.start()
    await endpoint.settled()
    assert endpoint.state is State.UP
    return endpoint


async def echo(line: Line, value: Any = None) -> Any:
    id = line.next_id()
    params = orjson.dumps({"name": "x", "arguments": {"value": value}})
    answer = await line.call(BackendCall("tools/call", jsonrpc.request(id, "tools/call", params), id, 10.0))
    assert isinstance(answer, Envelope)
    assert answer.result is not None
    return jsonrpc.decode(answer.data, answer.result)


@pytest.mark.parametrize("era", list(Era))
async def test_calls_go_over_the_owners_own_connections(era: Era) -> None:
    server = FakeServer(era=era, tools=[tool("x")])
    endpoint = await up(server)
    lines = {owner: await endpoint.line_for(owner, 10) for owner in ("a", "b", "a")}
    for line in lines.values():
        assert line.peer is not None
        assert line.peer.era is era
        await echo(line)
    base, a, b = server.transports
    assert not [call for call in base.calls if call.method == "tools/call"]
    assert [len([c for c in each.calls if c.method == "tools/call"]) for each in (a, b)] == [1, 1]
    assert server.count("tools/list") == 1
    assert endpoint.exclusive
    assert endpoint.in_flight == 0
    await endpoint.aclose()
    assert all(each.closed for each in server.transports)


async def test_a_known_handshake_server_is_not_probed_again() -> None:
    server = FakeServer(tools=[])
    endpoint = await up(server)
    await endpoint.line_for("a", 10)
    assert (server.count("server/discover"), server.count("initialize")) == (1, 2)
    await endpoint.aclose()


async def test_the_end_of_one_instance_hits_its_owner_only() -> None:
    server = FakeServer(tools=[])
    endpoint = await up(server)
    held = asyncio.Event()

    async def hold(_: Any) -> Any:
        held.set()
        await asyncio.Event().wait()

    a, b = await endpoint.line_for("a", 10), await endpoint.line_for("b", 10)
    server.handlers["tools/call"] = hold
    calls = [asyncio.ensure_future(echo(a)), asyncio.ensure_future(echo(b))]
    await held.wait()
    assert endpoint.in_flight == 2
    server.transports[1].die("exited with status 1")
    with pytest.raises(BackendAnswerError, match="under the request"):
        await calls[0]
    assert await endpoint.line_for("b", 10) is b
    assert not calls[1].done()
    assert await endpoint.line_for("a", 10) is not a
    assert endpoint.state is State.UP
    calls[1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert endpoint.in_flight == 0
    await endpoint.aclose()


async def test_a_session_that_the_server_has_ended_is_begun_anew() -> None:
    server = FakeServer(tools=[])
    server.session_id = "s"
    endpoint = await up(server)

    async def gone(_: Any) -> Any:
        raise BackendRefused("no such session", status=404)

    server.handlers["tools/call"] = gone
    line = await endpoint.line_for("a", 10)
    with pytest.raises(BackendUnavailable, match="has ended our session"):
        await echo(line)
    del server.handlers["tools/call"]
    again = await endpoint.line_for("a", 10)
    assert again is not line
    await echo(again)
    await endpoint.aclose()
    assert all(each.closed for each in server.transports)


async def test_an_instance_that_does_not_come_up_leaves_nothing_and_takes_no_room() -> None:
    server = FakeServer(tools=[])
    endpoint = await up(server, limit=1)

    async def refuse(_: Any) -> Any:
        return Raw(error=b'{"code":-32000,"message":"full"}')

    server.handlers["initialize"] = refuse
    with pytest.raises(BackendAnswerError, match="refused the handshake"):
        await endpoint.line_for("a", 10)
    assert server.transports[-1].closed
    del server.handlers["initialize"]
    await echo(await endpoint.line_for("b", 10))
    await endpoint.aclose()


async def test_what_an_instance_tells_of_lists_is_heard() -> None:
    server = FakeServer(tools=[tool("x")])
    stale: list[str | None] = []
    endpoint = ExclusiveEndpoint(own(), server, lambda _: None, lambda _e, kind, _u: stale.append(kind))
    endpoint.start()
    await endpoint.settled()
    await endpoint.line_for("a", 10)
    on_message = server.transport.on_message
    assert on_message is not None
    on_message(scan(jsonrpc.notification("notifications/tools/list_changed")))
    assert stale == ["tools"]
    await endpoint.aclose()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def drop_sessions(number: int, limit: int) -> None:
    """Let so many sessions make a call each, of which every second ends in order; see that no child is left over."""
    config = own(limit, transport="stdio", url=None, command=sys.executable, args=(str(ERA_SERVER), "handshake"))
    registry = Registry(Config(version="1.0", servers=(config,)), lambda: None)
    await registry.start(30)
    endpoint = registry.endpoints["own"]
    assert endpoint.state is State.UP
    before = descriptors()
    for session in range(number):
        line = await endpoint.line_for(f"s{session}", 30)
        await line.call(BackendCall("ping", jsonrpc.request(id := line.next_id(), "ping"), id, 10.0))
        assert registry.children <= limit + 2  # one reads the lists, one may be ending
        if session % 2:
            registry.session_ended(f"s{session}")
    # Three pipes a child, and one descriptor each that tells of its end.
    assert descriptors() - before <= (limit + 1) * 4
    await registry.aclose()
    assert registry.children == 0


async def test_sessions_that_come_and_go_leave_the_configured_children() -> None:
    await drop_sessions(24, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_two_thousand_sessions_leave_the_configured_children() -> None:
    await drop_sessions(2000, 8)
