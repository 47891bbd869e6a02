"""A connection and its owner: what is told, how often, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.backend.hostile import LAST_CHUNK, SSE_HEAD, HostileServer, Incoming, answer_well, event, response

from only1mcp._fast import Envelope
from only1mcp.loadgen.connection import DRAIN_BYTES, Address, CannotConnect, Connection, State, Traffic, reason_of
from only1mcp.loadgen.failure import BAD_ANSWER, CLOSED, TIMEOUT, Failure
from only1mcp.wire.http1_events import ResponseHead


class Listener:
    """An owner that writes down what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Envelope | Failure] = []
        self.releases = 0
        self.turn = asyncio.Event()

    def answered(self, head: ResponseHead | None, outcome: Envelope | Failure) -> None:
        self.outcomes.append(outcome)
        self.turn.set()

    def released(self) -> None:
        self.releases += 1
        self.turn.set()

    async def told(self, outcomes: int, releases: int) -> None:
        async with asyncio.timeout(10):
            while (len(self.outcomes), self.releases) != (outcomes, releases):
                self.turn.clear()
                await self.turn.wait()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[HostileServer, Listener, Connection, Traffic]]:
    async with HostileServer() as server:
        owner, traffic = Listener(), Traffic()
        connection = await Address("127.0.0.1", server.port, None, None).connect(owner, traffic)
        try:
            yield server, owner, connection, traffic
        finally:
            connection.abort()


def ask(connection: Connection, id: int = 1) -> None:
    body = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % id
    headers = [(b"host", b"a"), (b"content-type", b"application/json")]
    connection.send(b"POST", b"/mcp", headers, body, b"%d" % id)


async def test_one_request_after_another() -> None:
    async with connected() as (server, owner, connection, traffic):
        for number in (1, 2, 3):
            assert connection.state is State.IDLE
            ask(connection, number)
            assert connection.state is State.BUSY
            await owner.told(number, number)
        assert [outcome.id for outcome in owner.outcomes if isinstance(outcome, Envelope)] == [b"1", b"2", b"3"]
        assert server.connections == traffic.opened == 1
        assert traffic.sent == sum(len(each.head) + 4 + len(each.body) for each in server.received)
        assert traffic.received == 3 * len(response(server.received[0].result()))
        assert repr(connection) == "<Connection idle>"


async def test_the_owner_may_send_again_as_soon_as_it_is_released() -> None:
    class Eager(Listener):
        def released(self) -> None:
            super().released()
            if self.releases < 3:
                ask(connection, self.releases + 1)

    async with HostileServer() as server:
        owner = Eager()
        connection = await Address("127.0.0.1", server.port, None, None).connect(owner, Traffic())
        for pieces in (False, True):
            owner.outcomes.clear()
            owner.releases = 0

            async def in_pieces(incoming: Incoming) -> None:
                for octet in response(incoming.result()):
                    await incoming.send(bytes([octet]))

            server.behaviours["ping"] = in_pieces if pieces else answer_well
            ask(connection)
            await owner.told(3, 3)
            assert all(isinstance(outcome, Envelope) for outcome in owner.outcomes)
        connection.abort()


async def test_a_timeout_closes() -> None:
    async def never(incoming: Incoming) -> None:
        await incoming.until_closed()

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = never
        ask(connection)
        await server.arrival("ping")
        connection.expire(1.5)
        assert owner.outcomes == [Failure(TIMEOUT, "", "no complete answer within 1.5 s")]
        assert (owner.releases, connection.state) == (1, State.CLOSED)
        await server.connections_left(0)
        assert (len(owner.outcomes), owner.releases) == (1, 1)


async def test_data_that_nobody_asked_for_closes() -> None:
    async def chatter(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result()), response(incoming.result()))
        await incoming.until_closed()

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = chatter
        ask(connection)
        await owner.told(1, 1)
        await server.connections_left(0)
        assert connection.state is State.CLOSED
        assert len(owner.outcomes) == 1


async def test_the_answer_comes_before_the_end_of_its_stream() -> None:
    ended = asyncio.Event()

    async def stream(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(incoming.result()))
        await ended.wait()
        await incoming.send(LAST_CHUNK)

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = stream
        ask(connection)
        await owner.told(1, 0)
        assert connection.state is State.DRAINING
        ended.set()
        await owner.told(1, 1)
        assert connection.state is State.IDLE


async def test_a_stream_that_goes_on_is_given_up() -> None:
    async def go_on(incoming: Incoming) -> None:
        noise = event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}')
        await incoming.send(SSE_HEAD, event(incoming.result()), *[noise] * (64 * DRAIN_BYTES // len(noise)))
        await incoming.until_closed()

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = go_on
        ask(connection)
        await owner.told(1, 1)
        assert connection.state is State.CLOSED
        assert isinstance(owner.outcomes[0], Envelope)


async def test_a_stream_cut_after_the_answer_is_no_failure() -> None:
    async def cut(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(incoming.result()))
        await incoming.close()

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = cut
        ask(connection)
        await owner.told(1, 1)
        assert isinstance(owner.outcomes[0], Envelope)
        assert connection.state is State.CLOSED


async def test_a_body_that_ends_with_the_connection() -> None:
    async def old(incoming: Incoming) -> None:
        await incoming.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", incoming.result())
        await incoming.close()

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = old
        ask(connection)
        await owner.told(1, 1)
        assert isinstance(owner.outcomes[0], Envelope)
        assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", CLOSED),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", CLOSED),
        (b"HTTP/1.1 200 OK\r\n", CLOSED),
        (b"", CLOSED),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n", BAD_ANSWER),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12", BAD_ANSWER),
        (b"what?\r\n\r\n", BAD_ANSWER),
    ],
)
async def test_answers_that_break(sent: bytes, kind: str) -> None:
    async def send(incoming: Incoming) -> None:
        await incoming.send(sent)
        await incoming.close()

    async with connected() as (server, owner, connection, _):
        server.behaviours["ping"] = send
        ask(connection)
        await owner.told(1, 1)
        (failure,) = owner.outcomes
        assert isinstance(failure, Failure)
        assert failure.kind == kind
        assert connection.state is State.CLOSED


async def test_no_connection() -> None:
    async with HostileServer() as server:
        port = server.port
    with pytest.raises(CannotConnect, match="connection refused"):
        await Address("127.0.0.1", port, None, None).connect(Listener(), Traffic())


def test_reasons_are_few_words() -> None:
    assert reason_of(ConnectionResetError(104, "x")) == "connection reset by peer"
    assert reason_of(TimeoutError()) == "no connection within 10 s"
    assert reason_of(OSError("many addresses failed: 1.2.3.4")) == "connection failed"


def test_addresses_for_people() -> None:
    assert Address("::1", 80, None, None).shown == "[::1]:80"
    assert Address("127.0.0.1", 80, None, None).shown == "127.0.0.1:80"
