"""Requests that are taken without an exchange, and become one before anything else happens to their connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.frontend.serving import App, request, serving
from tests.frontend.test_connection import Wire

from only1mcp._fast import COMPILED
from only1mcp._fast.known import KnownHead
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.letterhead import DatedHead
from only1mcp.frontend.repeating import ORDINARY_CALLS, RepeatingConnection
from only1mcp.wire.http1_events import RequestHead

pytestmark = pytest.mark.skipif(not COMPILED, reason="without the compiled reader no head is known again")


class Known:
    """Takes every request that it is shown, as long as it is `willing`."""

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.willing = True
        self.shown: list[bytes] = []
        self.begun: list[Begun] = []

    def maybe_begin(self, client: RepeatingConnection, octets: KnownHead, data: bytes, size: int) -> bool:
        self.shown.append(data[size:])
        if self.willing:
            self.begun.append(Begun(client, data))
            client.begin_plain(self.begun[-1])
        return self.willing


class Begun:
    """A request that was taken; `became` is the exchange that it has become."""

    def __init__(self, client: RepeatingConnection, data: bytes) -> None:
        self.became: HttpExchange | None = None
        self.left = False
        self._client = client
        self._data = data

    def ordinary(self) -> None:
        assert self.became is None
        client = self._client
        head, body = client.end_plain(self._data)
        self.became = HttpExchange(client, head, client.peer, client.tls, client.now())
        self.became.body = body
        self.became.defer(self._leave)
        client.take_up(self.became)

    def _leave(self) -> None:
        self.left = True


class Calls(App):
    """Answers `/call`, and has those that follow shown to `known` when it is time."""

    def __init__(self) -> None:
        super().__init__()
        self.known: Known | None = None
        self.counted = 0
        self.learns = True
        self.learnt: list[int] = []

    def call(self, exchange: HttpExchange) -> None:
        self.counted += 1
        if exchange.counts_call() and self.learns:
            self.learnt.append(self.counted)
            self.known = Known(exchange.head)
            exchange.may_call_again(self.known)
        exchange.respond(200, [], exchange.body)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Calls, RepeatingConnection, Wire]]:
    app = Calls()
    async with serving(app) as listener:
        wire = Wire()
        connection = RepeatingConnection(listener, asyncio.get_running_loop())
        connection.connection_made(wire)
        try:
            yield app, connection, wire
        finally:
            connection.connection_lost(None)


async def taken(app: Calls, connection: RepeatingConnection, wire: Wire) -> Begun:
    """Send calls until one is taken."""
    for _ in range(ORDINARY_CALLS + 1):
        connection.data_received(request("/call", b"x"))
    assert app.known is not None
    wire.written = b""
    return app.known.begun[-1]


async def test_an_answer_leaves_the_connection_ready_for_the_next() -> None:
    async with connected() as (app, connection, wire):
        begun = await taken(app, connection, wire)
        assert app.known is not None
        for body in (b"y", b"longer"):
            head = connection.head_of_answer(DatedHead([(b"a", b"b")]))
            assert head.startswith(b"HTTP/1.1 200 OK\r\na: b\r\ndate: ")
            connection.answer_plain(head + b"content-length: 0\r\n\r\n")
            assert wire.written == head + b"content-length: 0\r\n\r\n"
            wire.written = b""
            connection.data_received(request("/call", body))
            assert app.known.shown[-1] == body
        assert (len(app.known.begun), begun.became, app.counted) == (3, None, ORDINARY_CALLS)


EVENTS: dict[str, Callable[[RepeatingConnection], Any]] = {
    "another request": lambda connection: connection.data_received(request("/echo", b"next")),
    "the same request": lambda connection: connection.data_received(request("/call", b"x")),
    "an octet": lambda connection: connection.data_received(b"P"),
    "the client's end": lambda connection: connection.eof_received(),
    "a slow reader": lambda connection: connection.pause_writing(),
    "a deadline": lambda connection: connection._on_deadline(),
    "a drain": lambda connection: connection.drain(),
}
ENDS: dict[str, Callable[[RepeatingConnection], Any]] = {
    "a lost connection": lambda connection: connection.connection_lost(ConnectionResetError()),
    "a stop": lambda connection: connection.stop(),
}


@pytest.mark.parametrize("event", EVENTS)
async def test_whatever_happens_it_is_an_exchange_that_can_be_answered(event: str) -> None:
    async with connected() as (app, connection, wire):
        begun = await taken(app, connection, wire)
        EVENTS[event](connection)
        exchange = begun.became
        assert exchange is not None
        assert (exchange.head.target, exchange.body, begun.left) == (b"/call", b"x", False)
        assert connection._runner.exchange is exchange
        before = wire.written
        exchange.respond(200, [], b"late")
        answer, _, rest = wire.written.removeprefix(before).partition(b"late")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"connection: close" in answer) == (event == "a drain")
        if event == "another request":
            assert rest.endswith(b"\r\n\r\nnext")
        if event == "a slow reader":
            connection.resume_writing()
        if event == "an octet":
            connection.data_received(request("/echo", b"next")[1:])
            assert wire.written.endswith(b"\r\n\r\nnext")


@pytest.mark.parametrize("event", ENDS)
async def test_whatever_ends_it_ends_an_exchange(event: str) -> None:
    app = Calls()
    async with serving(app) as listener:
        wire = Wire()
        connection = RepeatingConnection(listener, asyncio.get_running_loop())
        connection.connection_made(wire)
        begun = await taken(app, connection, wire)
        ENDS[event](connection)
        assert begun.became is not None
        assert begun.left
        assert begun.became.client_gone == (event == "a lost connection")
        assert wire.written.startswith(b"HTTP/1.1 503 ") == (event == "a stop")
        if event == "a stop":
            connection.connection_lost(None)


@pytest.mark.parametrize("end", [RepeatingConnection.abort, RepeatingConnection.close])
async def test_a_connection_that_closes_leaves_an_exchange_behind(end: Callable[[RepeatingConnection], None]) -> None:
    app = Calls()
    async with serving(app) as listener:
        wire = Wire()
        connection = RepeatingConnection(listener, asyncio.get_running_loop())
        connection.connection_made(wire)
        begun = await taken(app, connection, wire)
        end(connection)
        assert begun.became is not None
        assert wire.closing
        connection.connection_lost(None)
        assert begun.left


async def test_calls_that_are_never_taken_are_learnt_from_less_and_less() -> None:
    async with connected() as (app, connection, _):
        for number in range(70):
            connection.data_received(request("/call", b"x", f"X-Number: {number}"))
        assert app.learnt == [2, 6, 14, 30, 62]
        # One that is taken makes the next ones worth their while again.
        connection.data_received(request("/call", b"x", "X-Number: 61"))
        assert app.counted == 70
        connection.answer_plain(b"")
        for number in range(4):
            connection.data_received(request("/call", b"x", f"X-Number: {number}"))
        assert app.learnt == [2, 6, 14, 30, 62, 72]


async def test_a_request_in_pieces_is_not_known_again() -> None:
    async with connected() as (app, connection, _):
        whole = request("/call", b"x")
        connection.data_received(whole)
        connection.data_received(whole[:20])
        connection.data_received(whole[20:])
        assert app.learnt == [2]
        assert app.known is not None
        connection.data_received(whole)
        assert app.known.shown == []


async def test_only_what_comes_alone_and_in_its_turn_is_shown() -> None:
    async with connected() as (app, connection, wire):
        whole = request("/call", b"x")
        for _ in range(ORDINARY_CALLS):
            connection.data_received(whole)
        known = app.known
        assert known is not None
        app.learns = known.willing = False
        other = whole.replace(b"localhost", b"LOCALHOST")
        for data in (whole + whole, whole + b"\r\n", whole, whole[:-1], b"x", other):
            connection.data_received(data)
            assert known.shown == []
        connection.pause_writing()
        connection.data_received(whole)
        assert known.shown == []
        connection.resume_writing()
        connection.data_received(whole)
        assert known.shown == [b"x"]
        # What is not taken is answered as ever.
        assert wire.written.count(b"HTTP/1.1 200 OK\r\n") == app.counted
        connection.drain()
        connection.data_received(whole)
        assert known.shown == [b"x"]
