"""The client connection as the listener has it: what comes again with another id is answered without being read."""

from __future__ import annotations

import asyncio

from only1mcp.frontend.connection import Connection
from only1mcp.frontend.owner import Owner
from only1mcp.frontend.phase import HEAD
from only1mcp.frontend.repeat import Repeat


class RepeatingConnection(Connection):
    """A connection that remembers one request of those that its application says may come again (`remember`)."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        Connection.__init__(self, owner, loop)
        self._repeat: Repeat | None = None

    def remember(self, repeat: Repeat) -> None:
        self._repeat = repeat

    def data_received(self, data: bytes) -> None:
        repeat = self._repeat
        if repeat is not None and self._answers_again(repeat, data):
            return
        Connection.data_received(self, data)
        if self._repeat is not repeat and self._repeat is not None:
            self._repeat.came_as(data)

    def _answers_again(self, repeat: Repeat, data: bytes) -> bool:
        """Answer a request of which only the id is new; False where it must go the ordinary way."""
        wire = self._wire
        # As after a response, with nothing of the next request here, not even the empty line that may precede it.
        if self._phase is not HEAD or self._gate.paused or self._eof or wire.close_after or wire._blank_line_ignored:
            return False
        if wire.pending_bytes:
            return False
        id = repeat.maybe_id(data)
        if id is None:
            return False
        body = repeat.answer(repeat, id, self._loop.time())
        if body is None:
            return False
        head = self._letterhead.head(200, repeat.headers)
        self._write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._schedule()
        return True
