"""Streams end when the credentials do that opened them, and no earlier; what is unread on all of them is bounded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.proxy.exchanges import ANONYMOUS, Channel, exchange_of, snapshot_of
from tests.virtual import virtual

from only1mcp.proxy import streams
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


CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


class Readers:
    """Streams of one process, and those that have ended."""

    def __init__(self, number: int, *, limit_bytes: int | None = None) -> None:
        snapshot = snapshot_of()
        self.unread = snapshot.desk.unread
        self.ended: list[ClientStream] = []
        self.streams: list[ClientStream] = []
        self.channels: list[Channel] = []
        for _ in range(number):
            exchange, channel = exchange_of(snapshot)
            stream = ClientStream(exchange, self.ended.append, lambda: None, limit_bytes=limit_bytes)
            stream.open(b": \n\n")
            self.streams.append(stream)
            self.channels.append(channel)

    def send(self, number: int, unread: int) -> None:
        """Send something on a stream, of which so much is unread then."""
        self.channels[number].unsent_bytes = unread
        self.streams[number].send(CHANGED)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        assert self.unread.total_bytes == 0
        assert not self.unread._held


@virtual
async def test_who_holds_most_is_cut_when_all_hold_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_ALL_WAITING_BYTES", 1000)
    readers = Readers(4)
    for number, unread in enumerate((400, 300, 300)):
        readers.send(number, unread)
    assert (readers.ended, readers.unread.total_bytes) == ([], 1000)
    readers.send(3, 1)
    assert readers.ended == readers.streams[:1]
    assert readers.channels[0].closed
    assert readers.unread.total_bytes == 601
    readers.send(3, 900)
    assert readers.ended == [readers.streams[0], readers.streams[3]]
    readers.send(0, 5000)  # it has ended
    assert readers.unread.total_bytes == 600
    readers.close()


@virtual
async def test_who_has_read_meanwhile_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_ALL_WAITING_BYTES", 1000)
    readers = Readers(3)
    for number, unread in enumerate((600, 300)):
        readers.send(number, unread)
    readers.channels[0].unsent_bytes = 0
    readers.send(2, 200)
    assert (readers.ended, readers.unread.total_bytes) == ([], 500)
    readers.send(1, 0)
    assert readers.unread.total_bytes == 200
    readers.close()


@virtual
async def test_each_has_its_own_limit_too() -> None:
    readers = Readers(2, limit_bytes=100)
    readers.send(0, 101)
    readers.send(1, 100)
    assert readers.ended == readers.streams[:1]
    readers.close()
