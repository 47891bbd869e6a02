"""Streams end when the credentials do that opened them, and no earlier."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.proxy.exchanges import ANONYMOUS, exchange_of, snapshot_of
from tests.virtual import virtual

from only1mcp.proxy.auth import Principal
from only1mcp.proxy.streams import LONGEST_TIMER_S, ClientStream, Expiry


def until(expires_at: float | None) -> Principal:
    return replace(ANONYMOUS, expires_at=expires_at)


def clock() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("left_s", [0.0, -5.0, 7.0, 3 * LONGEST_TIMER_S + 1])
def test_it_ends_when_the_credentials_do(left_s: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    @virtual
    async def run() -> None:
        ends: list[float] = []
        expiry = Expiry(until(left_s), lambda: ends.append(clock()), clock)
        expiry.arm()
        await asyncio.sleep(max(left_s, 0) + 1)
        assert ends == [max(left_s, 0)]
        await asyncio.sleep(2 * LONGEST_TIMER_S)
        assert len(ends) == 1

    run()
    assert [record.message for record in caplog.records] == ["stream.expired"]


@pytest.mark.parametrize("expires_at", [None, 1e300])
def test_what_does_not_end_leaves_no_timer(expires_at: float | None) -> None:
    @virtual
    async def run() -> None:
        expiry = Expiry(until(expires_at), lambda: pytest.fail("it has ended"), clock)
        expiry.arm()
        await asyncio.sleep(10 * LONGEST_TIMER_S)
        expiry.disarm()

    run()


@virtual
async def test_a_stream_that_has_ended_does_not_end_again() -> None:
    exchange, channel = exchange_of(snapshot_of(), principal=until(5.0))
    expired: list[bool] = []
    stream = ClientStream(exchange, lambda _: None, lambda: expired.append(True), clock)
    stream.open(b": \n\n")
    stream.close()
    await asyncio.sleep(10)
    assert (expired, channel.complete) == ([], True)
