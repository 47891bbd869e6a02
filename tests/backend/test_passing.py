"""A result on its way: what it waits for, on whose time, and which octet it keeps back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from only1mcp.backend.base import PASSED
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.passing import Passing, TimeoutClock, keep_pace
from only1mcp.errors import BackendAnswerError, ProtocolError
from only1mcp.wire.sse import open_event

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


class Body:
    """A connection whose answer is here in pieces, of which each is given once; an exception is raised in its turn."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            if not take(piece):
                return False
        return True


def begun(passage: Passage, length: int | None = None) -> Passing:
    passing = Passing(b"1", passage, None)
    assert passing.maybe_begin(START, length)
    return passing


async def pass_body(passing: Passing, *pieces: bytes | Exception) -> None:
    assert await passing.pass_body(cast(HttpConnection, Body(*pieces))) is PASSED


async def test_all_of_a_message_passes_whatever_its_pieces() -> None:
    passage = Passage()
    await pass_body(begun(passage, len(START) + 5), b"abc", b'"', b"}")
    assert passage.passed == START.replace(b"1,", passage.id + b",") + b'abc"}'


@pytest.mark.parametrize("end", [b'"', b'"}x', b"abc", b'"{'])
async def test_under_an_announced_length_the_last_octet_of_what_is_no_message_stays_behind(end: bytes) -> None:
    passage = Passage()
    passing = begun(passage, len(START) + 3 + len(end))
    with pytest.raises(ProtocolError):
        await pass_body(passing, b"abc", end)
    assert passage.length is not None
    assert len(passage.passed) < passage.length
    assert passage.passed.startswith(START.replace(b"1,", passage.id + b",") + b"abc")


async def test_what_ends_with_its_beginning_has_its_last_octet_kept_back() -> None:
    passage = Passage()
    with pytest.raises(ProtocolError):
        await pass_body(begun(passage, len(START)))
    assert passage.passed == START.replace(b"1,", passage.id + b",")[:-1]


async def test_without_a_length_all_passes_that_is_right_so_far() -> None:
    passage = Passage()
    with pytest.raises(ProtocolError):
        await pass_body(begun(passage), b"abc")
    assert passage.passed.endswith(b"abc")


async def test_the_failure_of_the_passage_or_of_the_backend_ends_the_call() -> None:
    class Closed(Passage):
        def let_pass(self, parts: list[bytes | memoryview]) -> None:
            if self.passed:
                raise RuntimeError("closed")
            super().let_pass(parts)

    with pytest.raises(RuntimeError, match="closed"):
        await pass_body(begun(Closed()), b"abc", b'"}')
    with pytest.raises(BackendAnswerError, match="broke off"):
        await pass_body(begun(Passage()), b"abc", BackendAnswerError("broke off"))


async def test_nothing_is_taken_while_the_reader_is_behind() -> None:
    passage = Passage()
    passing = begun(passage)
    passage.must_drain = True
    body = Body(b"abc", b'"}')
    passed = asyncio.ensure_future(passing.pass_body(cast(HttpConnection, body)))
    await passage.draining.wait()
    assert len(body.pieces) == 2
    passage.must_drain = False
    passage.caught_up.set()
    assert await passed is PASSED
    assert not body.pieces


async def test_an_event_ends_where_it_ends() -> None:
    passage = Passage()
    opened = open_event(b"data: " + START, 100)
    assert opened is not None
    beginning, event = opened
    passing = Passing(b"1", passage, None)
    assert passing.maybe_begin(beginning, None)
    body = Body(b"abc", b'"}', b"\n\n: rest", b"more")
    assert await passing.pass_event(cast(HttpConnection, body), event) == b": rest"
    assert (passage.passed.endswith(b'abc"}'), body.pieces) == (True, [b"more"])
    opened = open_event(b"data: " + START, 100)
    assert opened is not None
    passing = Passing(b"1", Passage(), None)
    assert passing.maybe_begin(opened[0], None)
    assert await passing.pass_event(cast(HttpConnection, Body(b"abc")), opened[1]) is None


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
