"""Response streams that a client can come back to (MCP 2025-11-25 "Resumability and Redelivery").

Kept are the requests that a client is asked, and the response; progress and log messages pass by. While a client is
away the work for it goes on, for as long as it may come back.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from only1mcp._fast import REQUEST
from only1mcp.errors import INVALID_PARAMS, Only1MCPError, RequestRefused, error_message
from only1mcp.proxy.streams import Expiry
from only1mcp.wire import sse

if TYPE_CHECKING:
    from only1mcp.frontend.http_exchange import HttpExchange
    from only1mcp.proxy.exchange import Exchange

# The first revision whose clients know that an event without data is no message.
FIRST_REVISION: Final = "2025-11-25"
# How long a client waits before it comes back, and how long it is waited for.
RETRY_MS: Final = 1000
KEPT_S: Final = 120.0
# A client that opens streams and leaves them would take all there is; what does not fit any more cannot be resumed.
MAX_OF_SESSION: Final = 8
MAX_JOURNALS: Final = 4096
MAX_JOURNAL_BYTES: Final = 256 * 1024
MAX_BYTES: Final = 64 * 1024 * 1024
# `p`, the worker, the number of the stream, that of the event.
PREFIX: Final = "p."
_EVENT_ID: Final = re.compile(r"p\.([0-9]{1,5})\.([0-9]{1,18})\.([0-9]{1,9})")
_TOO_LARGE: Final = "the answer came while the client was away, and is too large to be kept; call again"


class ResponseJournal:
    """Serves `desk.Journal` for one response. Until it has ended, a client may be attached or away."""

    __slots__ = (
        "_abandon",
        "_attached",
        "_events",
        "_exchange",
        "_expiry",
        "_id",
        "_journals",
        "_number",
        "_request_id",
        "ended",
        "serial",
        "session",
        "size",
    )

    def __init__(self, journals: Journals, exchange: Exchange, session: str, serial: int) -> None:
        self._journals = journals
        self.session = session
        self.serial = serial
        # What is said to the exchange is said to whoever reads; None when there is no more to say.
        self._exchange: Exchange | None = exchange
        self._request_id = exchange.id
        self._id = f"p.{journals.worker}.{serial}."
        # How the work is given up.
        self._abandon: Callable[[], None] | None = exchange.http.on_cancel
        self._attached = True
        # The end of the credentials with which a client has come back.
        self._expiry: Expiry | None = None
        self.ended = False
        # What was kept, by the number of its event, and its octets.
        self._events: dict[int, bytes] = {}
        self._number = 0
        self.size = 0

    def __repr__(self) -> str:
        stage = "ended" if self.ended else "live"
        return f"<ResponseJournal {self._id[:-1]} {stage} attached={self._attached} events={len(self._events)}>"

    @property
    def priming(self) -> bytes:
        return f"id: {self._id}0\nretry: {RETRY_MS}\ndata: \n\n".encode()

    def keep(self, message: bytes) -> bytes:
        """Return the event; where there is no room to keep it, the client can come back only to what follows."""
        self._number += 1
        if self.size + len(message) <= MAX_JOURNAL_BYTES and self._journals.has_room(len(message)):
            self._keep(message)
        return sse.encode(message, id=self._id + str(self._number))

    def detached(self, abandon: Callable[[], None]) -> bool:
        """The client has gone, or does not want the answer; True: it has gone and is waited for."""
        exchange = self._exchange
        if exchange is None or not self._attached or not exchange.http.client_gone:
            return False
        self._attached = False
        self._rest()
        self._abandon = abandon
        self._journals.wait(self)
        return True

    def end(self) -> None:
        """The last message is the response: it is kept for a client that has not got all of it."""
        exchange, self._exchange = self._exchange, None
        self._rest()
        if self.ended or exchange is None:
            return
        self.ended = True
        self._abandon = None
        if self._number in self._events:
            self._journals.wait(self)
        elif self._attached:
            self._journals.drop(self)
        else:
            error = error_message(Only1MCPError(_TOO_LARGE), self._request_id)
            self._keep(error)
            self._journals.wait(self)
        self._attached = False
        exchange.snapshot.desk.asker.over(exchange)

    def resume(self, exchange: Exchange, after: int) -> None:
        """Say again what came after an event, then go on saying it to this exchange; it takes the place of another."""
        if after > self._number or any(number not in self._events for number in range(after + 1, self._number + 1)):
            raise _unknown()
        http = exchange.http
        missed = b"".join(
            sse.encode(self._events[number], id=self._id + str(number)) for number in range(after + 1, self._number + 1)
        )
        live = self._exchange
        if live is None:
            exchange.interim_events(missed)
            http.end_stream()
            return
        old, abandon = live.http, live.http.on_cancel or self._abandon
        if self._attached:
            self._attached = False  # so that the end of the old one is not taken for that of the client
            old.cut()
        exchange.interim_events(missed)
        live.http = http
        self._attached = True
        self._journals.wait_no_more(self)
        self.watch(http)
        if abandon is not None:
            http.defer(abandon)
        assert exchange.principal is not None
        self._rest()
        self._expiry = Expiry(exchange.principal, self._expired, self._journals.wall_clock)
        self._expiry.arm()

    def _expired(self) -> None:
        """The credentials of the client that reads hold no more: it has to come back with others."""
        live = self._exchange
        if live is None or not self._attached or live.http.client_gone or live.http.finished:
            return
        http = live.http
        self._attached = False
        self._abandon = http.on_cancel or self._abandon
        self._journals.wait(self)
        http.cut()
        http.client_gone = True  # what is said from now on is kept

    def _rest(self) -> None:
        if self._expiry is not None:
            self._expiry.disarm()
            self._expiry = None

    def _keep(self, message: bytes) -> None:
        self._events[self._number] = message
        self.size += len(message)
        self._journals.bytes += len(message)

    def watch(self, http: HttpExchange) -> None:
        """Notice a stream that ends without the response, and without that its client may come back."""
        on_finish = http.on_finish

        def finish(http: HttpExchange) -> None:
            live = self._exchange
            if live is not None and live.http is http and self._attached:
                self._journals.drop(self)
            if on_finish is not None:
                on_finish(http)

        http.on_finish = finish

    def give_up(self) -> None:
        """Nobody may come back any more; what goes on for nobody is stopped."""
        self._journals.drop(self)

    def forgotten(self) -> None:
        """It can no longer be found."""
        live, self._exchange = self._exchange, None
        self._rest()
        if live is None:
            return
        live.journal = None
        if not self._attached:
            abandon, self._abandon = live.http.on_cancel or self._abandon, None
            if abandon is not None:
                abandon()
            live.snapshot.desk.asker.over(live)


class Journals:
    """The journals of this process, by session and number of the stream."""

    def __init__(self, worker: int = 0, wall_clock: Callable[[], float] = time.time) -> None:
        self.worker = worker
        self.wall_clock = wall_clock
        self._serial = 0
        self._closed = False
        self._by_session: dict[str, dict[int, ResponseJournal]] = {}
        self._count = 0
        self.bytes = 0
        # Until when those are kept to which nobody listens, in the order in which they run out.
        self._live: dict[ResponseJournal, float] = {}
        self._ended: dict[ResponseJournal, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<Journals {self._count} bytes={self.bytes} waiting={len(self._live)} ended={len(self._ended)}>"

    def open(self, exchange: Exchange) -> ResponseJournal | None:
        """Return the journal of a response stream that begins, None where the client could not come back to it."""
        session, message = exchange.session, exchange.message
        if (
            session is None
            or session.revision < FIRST_REVISION
            or message is None
            or message.kind != REQUEST
            or exchange.http.on_cancel is None  # what runs in the task of the connection ends with it
            or exchange.http.vouched is not None  # one connection for all: who loses it starts anew
            or self._closed
        ):
            return None
        own = self._by_session.get(session.id, {})
        if len(own) >= MAX_OF_SESSION and not self._make_room(own.values()):
            return None
        if self._count >= MAX_JOURNALS and not self._make_room(self._ended):
            return None
        self._serial += 1
        journal = ResponseJournal(self, exchange, session.id, self._serial)
        self._by_session.setdefault(session.id, {})[journal.serial] = journal
        self._count += 1
        journal.watch(exchange.http)
        return journal

    def resume(self, exchange: Exchange, last_event_id: str) -> None:
        """Serve GET with the id of an event of ours; raise `RequestRefused` for what is not this session's."""
        assert exchange.session is not None
        match = _EVENT_ID.fullmatch(last_event_id)
        worker, serial, number = map(int, match.groups()) if match is not None else (-1, 0, 0)
        journal = self._by_session.get(exchange.session.id, {}).get(serial)
        if worker != self.worker or journal is None:
            raise _unknown()
        journal.resume(exchange, number)

    def end_session(self, session_id: str) -> None:
        for journal in list(self._by_session.get(session_id, {}).values()):
            self.drop(journal)

    def close(self) -> None:
        """Give up everything that nobody reads; what is read goes on to its end."""
        self._closed = True
        for session_id in list(self._by_session):
            self.end_session(session_id)

    # For the journals.

    def has_room(self, size: int) -> bool:
        """Whether so much more can be kept, where need be in the place of what has ended."""
        while self.bytes + size > MAX_BYTES and self._make_room(self._ended):
            pass
        return self.bytes + size <= MAX_BYTES

    def wait(self, journal: ResponseJournal) -> None:
        """Nobody listens from now on: the journal is kept for a while."""
        if self._of(journal) is not journal:
            return
        self._live.pop(journal, None)
        loop = asyncio.get_running_loop()
        (self._ended if journal.ended else self._live)[journal] = loop.time() + KEPT_S
        if self._timer is None:
            self._timer = loop.call_later(KEPT_S, self._expire)

    def wait_no_more(self, journal: ResponseJournal) -> None:
        """Somebody listens."""
        self._live.pop(journal, None)
        self._settle()

    def drop(self, journal: ResponseJournal) -> None:
        """Forget it."""
        if self._of(journal) is not journal:
            return
        own = self._by_session[journal.session]
        del own[journal.serial]
        if not own:
            del self._by_session[journal.session]
        self._count -= 1
        self.bytes -= journal.size
        self._live.pop(journal, None)
        self._ended.pop(journal, None)
        self._settle()
        journal.forgotten()

    def _of(self, journal: ResponseJournal) -> ResponseJournal | None:
        return self._by_session.get(journal.session, {}).get(journal.serial)

    def _make_room(self, journals: Iterable[ResponseJournal]) -> bool:
        """Drop the oldest that has ended; False: there is none."""
        oldest = next((journal for journal in journals if journal.ended), None)
        if oldest is not None:
            self.drop(oldest)
        return oldest is not None

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for waiting in (self._live, self._ended):
            for journal in [each for each, until in waiting.items() if until <= loop.time()]:
                self.drop(journal)
        first = min((next(iter(waiting.values())) for waiting in (self._live, self._ended) if waiting), default=None)
        if first is not None:
            self._timer = loop.call_at(first, self._expire)

    def _settle(self) -> None:
        if self._timer is not None and not self._live and not self._ended:
            self._timer.cancel()
            self._timer = None


def _unknown() -> RequestRefused:
    return RequestRefused("there is nothing to resume after this Last-Event-ID", code=INVALID_PARAMS)
