"""A large result on its way through: validated as it goes, its id replaced, and no faster than its reader reads."""

from __future__ import annotations

import asyncio
import contextlib

from only1mcp._fast import PassingScanner
from only1mcp.backend.base import PASSED, Clock, Flow, Passage, Passed
from only1mcp.backend.connection import HttpConnection
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
            # A client may be asked longer than its call lasts: that one's time does not go on.
            with contextlib.suppress(RuntimeError):
                self._timeout.reschedule(asyncio.get_running_loop().time() + self._left_s)


class Passing:
    """One result. After `maybe_begin` has returned True comes one of the others; all raise `ProtocolError`."""

    def __init__(self, id: bytes, passage: Passage, clock: Clock | None) -> None:
        self._id = id
        self._passage = passage
        self._clock = clock
        self._scanner = PassingScanner(id, passage.id)
        # Of the announced length, what has not passed yet.
        self._left: int | None = None
        self._event: OpenEvent | None = None
        # What a piece raised that was taken outside of our task.
        self._error: Exception | None = None

    def maybe_begin(self, beginning: bytes, length: int | None) -> bool:
        """Let the beginning of a message pass, if it is a result and may; `length` is that of the whole message."""
        parts = self._scanner.receive_data(beginning)
        if length is not None:
            length += len(self._passage.id) - len(self._id)
        if not self._scanner.has_result or not self._passage.begin_passing(length):
            return False
        self._left = length
        self._let_pass(parts)
        return True

    async def pass_body(self, connection: HttpConnection) -> Passed:
        """Let the rest of the body pass."""
        await self._pour(connection)
        self._scanner.receive_eof()
        return PASSED

    async def pass_event(self, connection: HttpConnection, event: OpenEvent) -> bytes | None:
        """Let the rest of the event pass; return what came behind it, None when the stream ends inside."""
        self._event = event
        await self._pour(connection)
        if not event.complete:
            return None
        self._scanner.receive_eof()
        return event.rest

    async def _pour(self, connection: HttpConnection) -> None:
        await self._keep_pace()
        while not await connection.pour(self._take):
            error, self._error = self._error, None
            if error is not None:
                raise error
            await self._keep_pace()
            if self._event is not None and self._event.complete:
                return

    def _take(self, piece: bytes) -> bool:
        try:
            if self._event is None:
                self._let_pass(self._scanner.receive_data(piece))
            else:
                for part in self._event.receive_data(piece):
                    self._let_pass(self._scanner.receive_data(part))
        except Exception as error:  # noqa: BLE001 (raised into the event loop it would not reach the call)
            self._error = error
            return False
        return not self._passage.must_drain and not (self._event is not None and self._event.complete)

    def _let_pass(self, parts: list[bytes | memoryview]) -> None:
        if self._left is not None:
            self._left -= sum(map(len, parts))
            if self._left <= 0 and parts and not self._scanner.complete:
                # With the announced length complete, a message that is not would look as if it were.
                parts.append(memoryview(parts.pop())[:-1])
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
