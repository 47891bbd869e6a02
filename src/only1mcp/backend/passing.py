"""A large result on its way through: validated as it goes, its id replaced, and no faster than its reader reads."""

from __future__ import annotations

import asyncio

from only1mcp._fast import PassingScanner
from only1mcp.backend.base import PASSED, Clock, Flow, Passage, Passed
from only1mcp.backend.connection import HttpConnection
from only1mcp.wire.http1_events import END
from only1mcp.wire.sse import OpenEvent


class TimeoutClock:
    """The clock of a call in a task of its own."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._left_s: float | None = None
        self._stops = 0

    def stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            return
        when = self._timeout.when()
        self._left_s = None if when is None else when - asyncio.get_running_loop().time()
        self._timeout.reschedule(None)

    def go_on(self) -> None:
        self._stops -= 1
        if self._stops:
            return
        if self._left_s is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left_s)


class Passing:
    """One result. After `maybe_begin` has returned True comes one of the others; all raise `ProtocolError`."""

    def __init__(self, id: bytes, passage: Passage, clock: Clock | None) -> None:
        self._id = id
        self._passage = passage
        self._clock = clock
        self._scanner = PassingScanner(id, passage.id)
        # With the announced length complete, a message that is not would look as if it were: one octet stays behind.
        self._lags = False
        self._last = b""

    def maybe_begin(self, beginning: bytes, length: int | None) -> bool:
        """Let the beginning of a message pass, if it is a result and may; `length` is that of the whole message."""
        parts = self._scanner.receive_data(beginning)
        if length is not None:
            length += len(self._passage.id) - len(self._id)
        if not self._scanner.has_result or not self._passage.begin_passing(length):
            return False
        self._lags = length is not None
        self._let_pass(parts)
        return True

    async def pass_body(self, connection: HttpConnection) -> Passed:
        """Let the rest of the body pass."""
        await self._keep_pace()
        while (piece := await connection.next_event()) is not END:
            assert isinstance(piece, bytes)
            await self._take(piece)
        self._scanner.receive_eof()
        return PASSED

    async def pass_event(self, connection: HttpConnection, event: OpenEvent) -> bytes | None:
        """Let the rest of the event pass; return what came behind it, None when the stream ends inside."""
        await self._keep_pace()
        while (piece := await connection.next_event()) is not END:
            assert isinstance(piece, bytes)
            for part in event.receive_data(piece):
                await self._take(part)
            if event.complete:
                self._scanner.receive_eof()
                return event.rest
        return None

    async def _take(self, piece: bytes) -> None:
        self._let_pass(self._scanner.receive_data(piece))
        await self._keep_pace()

    def _let_pass(self, parts: list[bytes | memoryview]) -> None:
        if self._lags and parts:
            if self._last:
                parts.insert(0, self._last)
            if self._scanner.complete:
                self._lags = False
            else:
                last = parts.pop()
                self._last = bytes(last[-1:])
                parts.append(memoryview(last)[:-1])
        self._passage.let_pass(parts)

    async def _keep_pace(self) -> None:
        await keep_pace(self._passage, self._clock)


async def keep_pace(reader: Flow, clock: Clock | None) -> None:
    """Wait, off the clock, while the reader is behind."""
    if not reader.must_drain:
        return
    if clock is not None:
        clock.stop()
    try:
        await reader.drain()
    finally:
        if clock is not None:
            clock.go_on()
