"""One client: how it gets its connection back, what it gives up, what it leaves behind."""

from __future__ import annotations

import asyncio
import itertools

from tests.backend.hostile import HostileServer, Incoming, response

from only1mcp.loadgen.client import Client
from only1mcp.loadgen.connection import Address, Connection, State, Traffic
from only1mcp.loadgen.failure import BAD_ANSWER, CONNECT, TIMEOUT, Failure
from only1mcp.loadgen.meet import Seat
from only1mcp.loadgen.requests import Prepared
from only1mcp.wire.http1_events import Headers

PING = Prepared(
    [(b"host", b"a"), (b"content-type", b"application/json")], b'{"jsonrpc":"2.0","id":', b',"method":"ping"}'
)


class Load:
    """What clients report, in order; `free` is set when one is released."""

    def __init__(self) -> None:
        self.reports: list[Failure | None] = []
        self.free = asyncio.Event()
        self._ids = itertools.count(1)

    def next_id(self) -> bytes:
        return b"%d" % next(self._ids)

    def report(self, client: Client, failure: Failure | None, now: float) -> None:
        self.reports.append(failure)

    def release(self, client: Client) -> None:
        self.free.set()

    async def carry(self, client: Client, now: float = 0.0) -> Failure | None:
        """Have the client carry one request; return what it reports."""
        self.free.clear()
        client.begin(0, now, now, measured=True)
        async with asyncio.timeout(10):
            await self.free.wait()
        return self.reports[-1]


async def seated(port: int, load: Load, prepared: Prepared = PING) -> tuple[Client, Seat, Traffic]:
    address, traffic = Address("127.0.0.1", port, None, None), Traffic()
    seat = Seat(await address.connect(_Nobody(), traffic), [prepared], None)
    return Client(load, seat, address, b"/mcp", traffic), seat, traffic


class _Nobody:
    def answered(self, *_: object) -> None:
        raise AssertionError("no client has taken the connection over")

    def released(self) -> None:
        raise AssertionError("no client has taken the connection over")


async def test_a_lost_connection_is_opened_again() -> None:
    async def close(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result(), "200 OK", "application/json", "connection: close"))
        await incoming.close()

    async with HostileServer() as server:
        server.behaviours["ping"] = close
        load = Load()
        client, seat, traffic = await seated(server.port, load)
        for _ in range(3):
            assert await load.carry(client) is None
        assert traffic.opened == server.connections == 3
        client.leave(seat)


async def test_a_target_that_is_gone_is_reported_and_not_hammered() -> None:
    load = Load()
    async with HostileServer() as server:
        client, seat, _ = await seated(server.port, load)
        client.leave(seat)
    loop = asyncio.get_running_loop()
    began = loop.time()
    failures = [await load.carry(client) for _ in range(3)]
    assert [failure.kind for failure in failures if failure is not None] == [CONNECT] * 3
    assert loop.time() - began >= 0.29
    client.leave(seat)


async def test_what_takes_too_long_is_given_up() -> None:
    async def never(incoming: Incoming) -> None:
        await incoming.until_closed()

    async with HostileServer() as server:
        server.behaviours["ping"] = never
        load = Load()
        client, seat, _ = await seated(server.port, load)
        client.begin(0, 5.0, 5.0, measured=True)
        client.check(9.0, timeout_s=4.5)
        assert client.is_waiting
        client.check(9.6, timeout_s=4.5)
        assert not client.is_waiting
        assert [failure.kind for failure in load.reports if failure is not None] == [TIMEOUT]
        assert load.free.is_set()
        client.check(99.0, timeout_s=4.5)
        assert len(load.reports) == 1
        client.leave(seat)


async def test_connecting_that_takes_too_long_is_given_up() -> None:
    async with HostileServer() as server:
        load = Load()
        client, seat, _ = await seated(server.port, load)
        client.leave(seat)
        client.begin(0, 0.0, 0.0, measured=True)
        client.check(2.0, timeout_s=1.0)
        assert [failure and failure.kind for failure in load.reports] == [CONNECT]
        assert load.free.is_set()
        client.leave(seat)
    assert len(load.reports) == 1


async def test_a_header_that_cannot_be_sent_is_a_failure() -> None:
    headers: Headers = [*PING.headers, (b"x", b"a\nb")]
    async with HostileServer() as server:
        load = Load()
        client, seat, _ = await seated(server.port, load, Prepared(headers, PING.before_id, PING.after_id))
        failure = await load.carry(client)
        assert failure is not None
        assert failure.kind == BAD_ANSWER
        client.leave(seat)
    assert server.received == []


async def test_a_connection_between_requests_goes_to_the_end_of_its_session() -> None:
    class Talk:
        connection: Connection | None = None

    async with HostileServer() as server:
        load = Load()
        client, seat, _ = await seated(server.port, load)
        seat.talk = Talk()  # type: ignore[assignment]
        assert await load.carry(client) is None
        client.leave(seat)
        kept = seat.talk.connection  # type: ignore[union-attr]
        assert kept is not None
        assert kept.state is State.IDLE
        kept.abort()
