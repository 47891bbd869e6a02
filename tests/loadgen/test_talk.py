"""One conversation: requests, notifications and the end of a session, over a connection that may be lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.backend.hostile import (
    SSE_HEAD,
    HostileServer,
    Incoming,
    answer_well,
    event,
    make_call,
    response,
    stay_silent,
)
from tests.loadgen.conftest import plan_for

from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from only1mcp.loadgen.connection import Address, Traffic
from only1mcp.loadgen.talk import Talk
from only1mcp.wire import jsonrpc


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[HostileServer, Talk]]:
    async with HostileServer() as server:
        plan = plan_for(f"http://127.0.0.1:{server.port}/mcp", token="t0ken", timeout_s=5.0)
        talk = Talk(plan, Address("127.0.0.1", server.port, None, None), Traffic())
        talk.revision = "2025-11-25"
        try:
            yield server, talk
        finally:
            await talk.aclose()


async def test_requests_and_notifications() -> None:
    async with talking() as (server, talk):
        answer = await talk.call(make_call(1))
        await talk.send(jsonrpc.notification("notifications/initialized"))
        assert (await talk.call(make_call(2))).id == b"2"
        assert answer.id == b"1"
    assert server.connections == 1
    assert {each.header("authorization") for each in server.received} == {"Bearer t0ken"}
    assert [each.method for each in server.received] == ["tools/call", "notifications/initialized", "tools/call"]


async def test_a_kept_connection_that_died_is_replaced() -> None:
    async def die(incoming: Incoming) -> None:
        if len(server.of("tools/call")) == 2:
            incoming.reset()
        else:
            await answer_well(incoming)

    async with talking() as (server, talk):
        server.behaviours["tools/call"] = die
        assert (await talk.call(make_call(1))).id == b"1"
        assert (await talk.call(make_call(2))).id == b"2"
        assert server.connections == 2


async def test_a_fresh_connection_that_dies_is_an_error() -> None:
    async def die(incoming: Incoming) -> None:
        incoming.reset()

    async with talking() as (server, talk):
        server.behaviours["tools/call"] = die
        with pytest.raises(BackendAnswerError):
            await talk.call(make_call(1))
        assert server.connections == 1


async def test_a_stream_that_goes_on_does_not_hold_up_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("only1mcp.loadgen.talk.DRAIN_S", 0.05)

    async def go_on(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(incoming.result()))
        await incoming.until_closed()

    async with talking() as (server, talk):
        server.behaviours["tools/call"] = go_on
        for number in (1, 2):
            assert (await talk.call(make_call(number))).id == b"%d" % number
        assert server.connections == 2


async def test_what_goes_wrong() -> None:
    async def refuse(incoming: Incoming) -> None:
        await incoming.send(response(b"", "503 Service Unavailable"))

    async with talking() as (server, talk):
        server.behaviours |= {"tools/call": refuse, "notifications/x": refuse, "tools/list": stay_silent}
        with pytest.raises(BackendRefused) as caught:
            await talk.call(make_call(1))
        assert caught.value.status == 503
        with pytest.raises(BackendError):
            await talk.send(jsonrpc.notification("notifications/x"))
        with pytest.raises(BackendTimeout):
            await talk.call(make_call(2, "tools/list", timeout_s=0.05))
    with pytest.raises(BackendUnavailable, match="connection refused"):
        await talk.call(make_call(3))


@pytest.mark.parametrize("session", ["two words", "x" * 1025, "é"])
async def test_session_ids_that_are_none(session: str) -> None:
    async def initialize(incoming: Incoming) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(incoming.result())
        await incoming.send(head + b"mcp-session-id: " + session.encode("latin-1") + b"\r\n\r\n" + incoming.result())

    async with talking() as (server, talk):
        server.behaviours["initialize"] = initialize
        with pytest.raises(BackendAnswerError):
            await talk.call(make_call(1, "initialize"))
