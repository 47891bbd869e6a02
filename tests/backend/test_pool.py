"""The pool's rules: reuse, the limit and its waiting line, expiry, and what happens when connections die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.backend.hostile import HostileServer, Incoming, answer_well, response, stay_silent

from only1mcp.backend.connecting import connect
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.pool import Pool
from only1mcp.errors import BackendAnswerError, BackendUnavailable
from only1mcp.wire.http1_events import END

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    async with HostileServer() as server:
        yield server


def make_pool(server: HostileServer, **options: float) -> Pool:
    return Pool(lambda: connect("127.0.0.1", server.port, None), **options)  # type: ignore[arg-type]


async def exchange(connection: HttpConnection) -> None:
    head = await connection.request(b"POST", b"/", [(b"host", b"h")], PING)
    assert head.status == 200
    while await connection.next_event() is not END:
        pass


async def use(pool: Pool) -> HttpConnection:
    connection = await pool.acquire()
    await exchange(connection)
    pool.release(connection)
    return connection


async def test_a_connection_is_used_again(server: HostileServer) -> None:
    pool = make_pool(server)
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"
    connection = await pool.acquire()
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 0 waiting>"
    await exchange(connection)
    pool.release(connection)
    assert repr(pool) == "<Pool 1 idle, 0 leased, 0 opening, 0 waiting>"
    assert await use(pool) is connection
    assert server.connections == 1
    await pool.aclose()
    assert repr(pool) == "<Pool closed, 0 idle, 0 leased, 0 opening, 0 waiting>"


async def test_the_most_recently_used_comes_first(server: HostileServer) -> None:
    pool = make_pool(server)
    first, second = await pool.acquire(), await pool.acquire()
    for connection in (first, second):
        await exchange(connection)
        pool.release(connection)
    assert await pool.acquire() is second
    assert await pool.acquire() is first
    await pool.aclose()


async def test_fresh_passes_over_idle_connections(server: HostileServer) -> None:
    pool = make_pool(server)
    old = await use(pool)
    new = await pool.acquire(fresh=True)
    assert new is not old
    assert repr(pool) == "<Pool 1 idle, 1 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_fresh_at_the_limit_replaces_the_oldest_idle_one(server: HostileServer) -> None:
    pool = make_pool(server, max_connections=1)
    old = await use(pool)
    new = await pool.acquire(fresh=True)
    assert old.dead
    assert not new.dead
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_an_unfinished_exchange_is_not_kept(server: HostileServer) -> None:
    pool = make_pool(server)
    connection = await pool.acquire()
    await connection.request(b"POST", b"/", [(b"host", b"h")], PING)
    pool.release(connection)
    assert connection.dead
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_releasing_twice_changes_nothing(server: HostileServer) -> None:
    pool = make_pool(server)
    connection = await use(pool)
    pool.release(connection)
    assert repr(pool) == "<Pool 1 idle, 0 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_who_comes_too_late_waits_in_line(server: HostileServer) -> None:
    pool = make_pool(server, max_connections=1)
    order: list[int] = []

    async def user(number: int) -> None:
        connection = await pool.acquire()
        order.append(number)
        await exchange(connection)
        pool.release(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(user(number))
    assert order == list(range(20))
    assert server.connections == 1
    await pool.aclose()


async def test_a_dropped_connection_makes_room(server: HostileServer) -> None:
    pool = make_pool(server, max_connections=1)
    first = await pool.acquire()
    waiter = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 1 waiting>"
    first.abort()
    pool.release(first)
    assert repr(pool) == "<Pool 0 idle, 0 leased, 1 opening, 0 waiting>"
    assert await waiter is not first
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_who_gives_up_leaves_the_line(server: HostileServer) -> None:
    pool = make_pool(server, max_connections=1)
    connection = await pool.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.acquire()
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 0 waiting>"
    await exchange(connection)
    pool.release(connection)
    await pool.aclose()


async def test_who_gives_up_in_the_moment_of_its_turn_passes_the_connection_on(server: HostileServer) -> None:
    pool = make_pool(server, max_connections=1)
    connection = await pool.acquire()
    first, second = asyncio.ensure_future(pool.acquire()), asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    await exchange(connection)
    pool.release(connection)
    first.cancel()
    assert await second is connection
    assert first.cancelled()
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_who_gives_up_in_the_moment_of_its_turn_passes_the_free_slot_on(server: HostileServer) -> None:
    pool = make_pool(server, max_connections=1)
    connection = await pool.acquire()
    first, second = asyncio.ensure_future(pool.acquire()), asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    connection.abort()
    pool.release(connection)
    first.cancel()
    assert (await second).exchanges == 0
    assert repr(pool) == "<Pool 0 idle, 1 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_failing_to_connect_frees_the_slot() -> None:
    async def refuse() -> HttpConnection:
        raise BackendUnavailable("no")

    pool = Pool(refuse, max_connections=1)
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await pool.acquire()
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"


async def test_giving_up_while_connecting_frees_the_slot() -> None:
    async def never() -> HttpConnection:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    pool = Pool(never, max_connections=1)
    task = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    assert repr(pool) == "<Pool 0 idle, 0 leased, 1 opening, 0 waiting>"
    task.cancel()
    await asyncio.wait([task])
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"


async def test_an_idle_connection_that_the_backend_closes_is_dropped_at_once(server: HostileServer) -> None:
    pool = make_pool(server)
    connection = await use(pool)
    await server.received[0].close()
    await connection.closed
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_an_end_that_is_not_reported_yet_is_noticed(server: HostileServer) -> None:
    pool = make_pool(server)
    connection = await use(pool)
    server.received[0].reset()
    # The event loop has had no chance to read the end; only the socket knows of it.
    for _ in range(1000):
        if not connection.usable():
            break
        await asyncio.sleep(0)
    assert await pool.acquire() is not connection
    await pool.aclose()


async def test_unasked_data_ends_an_idle_connection(server: HostileServer) -> None:
    pool = make_pool(server)
    connection = await use(pool)
    await server.received[0].send(response(b'{"forged":true}'))
    await connection.closed
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_surplus_bytes_after_an_answer_end_the_connection(server: HostileServer) -> None:
    async def surplus(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result()) + b"x")

    server.script("ping", surplus)
    pool = make_pool(server)
    connection = await use(pool)
    assert connection.dead
    await pool.aclose()


async def test_connection_close_is_obeyed(server: HostileServer) -> None:
    async def close(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result(), "200 OK", "application/json", "Connection: close"))

    server.script("ping", close)
    pool = make_pool(server)
    assert (await use(pool)).dead
    await pool.aclose()


async def test_idle_connections_expire(server: HostileServer) -> None:
    pool = make_pool(server, idle_s=0.05)
    connection = await use(pool)
    async with asyncio.timeout(5):
        await connection.closed
    assert repr(pool) == "<Pool 0 idle, 0 leased, 0 opening, 0 waiting>"
    await pool.aclose()


async def test_an_expired_connection_is_not_used_even_if_its_timer_is_late(server: HostileServer) -> None:
    pool = make_pool(server, idle_s=5)
    connection = await use(pool)
    connection.idle_since -= 6
    assert await pool.acquire() is not connection
    await pool.aclose()


async def test_closing_ends_every_connection_and_every_wait(server: HostileServer) -> None:
    server.script("ping", stay_silent)
    pool = make_pool(server, max_connections=1)
    busy = await pool.acquire()
    calling = asyncio.ensure_future(exchange(busy))
    waiting = asyncio.ensure_future(pool.acquire())
    await server.arrival("ping")
    await pool.aclose()
    await pool.aclose()
    with pytest.raises(BackendAnswerError, match="closed before"):
        await calling
    with pytest.raises(BackendUnavailable, match="closed"):
        await waiting
    with pytest.raises(BackendUnavailable, match="closed"):
        await pool.acquire()
    pool.release(busy)
    assert repr(pool) == "<Pool closed, 0 idle, 0 leased, 0 opening, 0 waiting>"


async def test_a_connection_that_opens_after_the_close_is_closed(server: HostileServer) -> None:
    go = asyncio.Event()

    async def slowly() -> HttpConnection:
        await go.wait()
        return await connect("127.0.0.1", server.port, None)

    pool = Pool(slowly)
    opening = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    await pool.aclose()
    go.set()
    with pytest.raises(BackendUnavailable, match="closed"):
        await opening
    assert repr(pool) == "<Pool closed, 0 idle, 0 leased, 0 opening, 0 waiting>"


async def test_under_load_the_limit_holds_and_nothing_is_lost(server: HostileServer) -> None:
    async def moody(incoming: Incoming) -> None:
        if len(server.received) % 7 == 0:
            await incoming.close()
        else:
            await answer_well(incoming)

    server.script("ping", moody)
    pool = make_pool(server, max_connections=5)
    outcomes: list[str] = []

    async def user(number: int) -> None:
        try:
            async with asyncio.timeout(0.002 if number % 5 == 0 else 10):
                connection = await pool.acquire()
                try:
                    await exchange(connection)
                    outcomes.append("ok")
                finally:
                    pool.release(connection)
        except (BackendAnswerError, TimeoutError):
            outcomes.append("failed")

    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(user(number))
    assert len(outcomes) == 300
    assert outcomes.count("ok") >= 180
    assert server.open <= 6  # five, and perhaps one whose end is on its way
    assert repr(pool).endswith(" idle, 0 leased, 0 opening, 0 waiting>")
    await pool.aclose()
