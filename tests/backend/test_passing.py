"""A result on its way: what it waits for, on whose time, and which octet it keeps back."""

from __future__ import annotations

import asyncio

import pytest

from only1mcp.backend.passing import Passing, TimeoutClock, keep_pace

START = b'{"jsonrpc":"2.0","id":1,"result":"'


class Passage:
    """A reader that is behind until it is let go."""

    id = b'"client"'

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.length: int | None = -1
        self.passed = b""
        self.must_drain = False
        self.draining = asyncio.Event()
        self.caught_up = asyncio.Event()

    def begin_passing(self, length: int | None) -> bool:
        self.length = length
        return self.takes

    def let_pass(self, parts: list[bytes | memoryview]) -> None:
        self.passed += b"".join(parts)

    async def drain(self) -> None:
        self.draining.set()
        await self.caught_up.wait()


def test_the_length_is_that_with_the_id_of_the_client() -> None:
    passage = Passage()
    assert Passing(b"1", passage, None).maybe_begin(START, 100)
    assert passage.length == 100 - 1 + len(passage.id)
    assert Passing(b"1", passage, None).maybe_begin(START, None)
    assert passage.length is None


@pytest.mark.parametrize("beginning", [b'{"jsonrpc":"2.0","id":1,"error":{', b'{"jsonrpc":"2.0","method":"m"', b"{"])
def test_what_is_no_result_yet_does_not_begin_to_pass(beginning: bytes) -> None:
    passage = Passage()
    assert not Passing(b"1", passage, None).maybe_begin(beginning, None)
    assert (passage.length, passage.passed) == (-1, b"")


def test_a_passage_may_decline() -> None:
    passage = Passage(takes=False)
    assert not Passing(b"1", passage, None).maybe_begin(START, None)
    assert passage.passed == b""


def test_under_an_announced_length_one_octet_stays_behind_until_the_message_is_complete() -> None:
    passage = Passage()
    assert Passing(b"1", passage, None).maybe_begin(START, 100)
    assert START.replace(b"1,", passage.id + b",") == passage.passed + b'"'
    unannounced = Passage()
    assert Passing(b"1", unannounced, None).maybe_begin(START, None)
    assert START.replace(b"1,", passage.id + b",") == unannounced.passed
    complete = Passage()
    assert Passing(b"1", complete, None).maybe_begin(START + b'"}', 100)
    assert complete.passed.endswith(b'"}')


async def test_a_reader_that_is_behind_stops_the_clock() -> None:
    reader = Passage()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30) as timeout:
        clock = TimeoutClock(timeout)
        await keep_pace(reader, clock)
        assert not reader.draining.is_set()
        reader.must_drain = True
        waiting = asyncio.ensure_future(keep_pace(reader, clock))
        await reader.draining.wait()
        assert timeout.when() is None
        reader.caught_up.set()
        await waiting
        when = timeout.when()
        assert when is not None
        assert 29 < when - loop.time() <= 30


async def test_without_a_limit_there_is_no_clock_to_stop() -> None:
    reader = Passage()
    reader.must_drain = True
    reader.caught_up.set()
    await keep_pace(reader, None)
    async with asyncio.timeout(None) as timeout:
        await keep_pace(reader, TimeoutClock(timeout))
        assert timeout.when() is None
