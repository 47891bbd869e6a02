"""The client connection as the listener has it: requests like the last ones are recognized before they are read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from only1mcp._fast import finish_message
from only1mcp.frontend.connection import Connection
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.letterhead import DatedHead
from only1mcp.frontend.owner import Owner
from only1mcp.frontend.phase import BUSY, HEAD
from only1mcp.frontend.repeat import Repeat
from only1mcp.wire.http1_events import RequestHead

if TYPE_CHECKING:
    from only1mcp._fast.known import KnownHead

# Most clients that connect for one call never make another over the same connection.
ORDINARY_CALLS: Final = 2


class Known(Protocol):
    """The application's, for requests with the head of one that it has seen, but for Content-Length and Mcp-Name."""

    head: RequestHead

    def maybe_begin(self, client: RepeatingConnection, octets: KnownHead, data: bytes, size: int) -> bool:
        """Take a request, whole and with a head of `size` octets; False, with nothing changed, where it may not.

        `octets` tells where the name is. Who takes the request calls `begin_plain`, and later either `answer_plain` or
        `end_plain` and `take_up`.
        """


class Plain(Protocol):
    """A request that has been taken so, and is not answered yet."""

    def ordinary(self) -> Any:
        """Become an ordinary exchange: something happens to the connection."""


class RepeatingConnection(Connection):
    """A connection that remembers one request of those that its application says may come again.

    Two kinds are remembered: what is answered from memory when nothing but its id has changed (`Repeat`), and calls of
    which only the body is read when their head comes again (`Known`). An exchange begun in the latter way is not the
    runner's: before anything else than its answer happens here it becomes one that is.
    """

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        Connection.__init__(self, owner, loop)
        self._repeat: Repeat | None = None
        self._known: Known | None = None
        self._octets: KnownHead | None = None
        # Calls that were not taken so, and at which number of them what is known is found out again: seldom where all
        # of them are unusual.
        self.ordinary_calls = 0
        self._learn_at = self._learn_after = ORDINARY_CALLS
        self._plain: Plain | None = None

    def remember(self, repeat: Repeat) -> None:
        self._repeat = repeat

    def counts_call(self) -> bool:
        self.ordinary_calls += 1
        if self.ordinary_calls < self._learn_at:
            return False
        self._learn_after *= 2
        self._learn_at += self._learn_after
        return True

    def remember_call(self, known: Known) -> None:
        self._octets = self._wire.known_as(known.head)
        self._known = None if self._octets is None else known

    # For calls that are taken without an exchange.

    def now(self) -> float:
        """Return the event loop's time."""
        return self._loop.time()

    def head_of_answer(self, head: DatedHead) -> bytes:
        """Return the head of a response with status 200 but for Content-Length and the empty line."""
        return head.octets(self._letterhead)

    def begin_plain(self, plain: Plain) -> None:
        """The request that `maybe_begin` was given is taken."""
        self._learn_after = ORDINARY_CALLS
        self._learn_at = self.ordinary_calls + ORDINARY_CALLS
        self._phase = BUSY
        self._plain = plain

    def answer_plain(self, message: bytes) -> None:
        """Send a whole response; the connection is ready for the next request."""
        self._plain = None
        self._phase = HEAD
        self._deadline.set(self._loop.time() + self._idle_s)
        self._write(message)

    def end_plain(self, data: bytes) -> tuple[RequestHead, bytes]:
        """Return head and body of the request that was taken; `take_up` follows."""
        self._plain = None
        whole = self._wire.maybe_whole(data)
        assert whole is not None, "the request was recognized before"
        return whole

    def take_up(self, exchange: HttpExchange) -> None:
        """Go on with an exchange that is on its way, with nothing answered yet."""
        self._runner.exchange = exchange
        self._schedule()

    def _take_up(self) -> None:
        if self._plain is not None:
            self._plain.ordinary()

    # Whatever may happen meanwhile.

    def drain(self) -> None:
        self._take_up()
        Connection.drain(self)

    def stop(self) -> None:
        self._take_up()
        Connection.stop(self)

    def abort(self) -> None:
        self._take_up()
        Connection.abort(self)

    def close(self) -> None:
        self._take_up()
        Connection.close(self)

    def eof_received(self) -> bool:
        self._take_up()
        return Connection.eof_received(self)

    def pause_writing(self) -> None:
        self._take_up()
        Connection.pause_writing(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._take_up()
        Connection.connection_lost(self, exc)

    def _on_deadline(self) -> None:
        self._take_up()
        Connection._on_deadline(self)

    def data_received(self, data: bytes) -> None:
        octets = self._octets
        if octets is not None and self._phase is HEAD and not (self._gate.paused or self._advancing):
            size = self._wire.known_size(octets, data)
            if size >= 0 and self._known is not None and self._known.maybe_begin(self, octets, data, size):
                return
        self._take_up()
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
        self.answer_plain(finish_message(repeat.headers.octets(self._letterhead), body))
        return True
