"""The soft state of handshake sessions: the log level each has set, and its streams.

Soft, because a session itself is sealed in its id: where the state is lost the session still opens, at the level that
holds for those who never set one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from only1mcp._fast import members
from only1mcp.backend import loglevel
from only1mcp.errors import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Only1MCPError,
    RequestRefused,
    error_message,
)
from only1mcp.proxy.journal import PREFIX, Journals
from only1mcp.wire import jsonrpc
from only1mcp.wire.levels import DEFAULT_RANK, LEVELS, rank_at

if TYPE_CHECKING:
    import asyncio

    from only1mcp._fast.envelope import Envelope
    from only1mcp.frontend.http_exchange import HttpExchange
    from only1mcp.frontend.session import Session
    from only1mcp.proxy.desk import Journal, Work
    from only1mcp.proxy.exchange import Exchange

# A client that opens sessions in a loop and sets a level in each would fill the memory; beyond this many the oldest
# level is forgotten.
MAX_LEVELS: Final = 65_536
HEADER_LAST_EVENT: Final = b"last-event-id"


class Levels(Protocol):
    """Who tells the backends (`backend.loglevel.LogLevels`)."""

    def want(self, level: str) -> set[asyncio.Task[None]]: ...

    def want_own(self, session_id: str, level: str) -> set[asyncio.Task[None]]: ...

    async def aclose(self) -> None: ...


class Sessions:
    """Serves `proxy.desk.SessionDesk`. `wall_clock` is what sessions expire by."""

    def __init__(self, levels: Levels, worker: int = 0, wall_clock: Callable[[], float] = time.time) -> None:
        self._levels = levels
        self._wall_clock = wall_clock
        self.journals = Journals(worker, wall_clock)
        # Rank and expiry by session, in the order in which the sessions first set one.
        self._ranks: dict[str, tuple[int, float]] = {}
        # How many sessions want each rank, and the lowest that any does, one above all where none does.
        self._wanting = [0] * len(LEVELS)
        self._least = len(LEVELS)
        # The sessions whose GET stream is open.
        self._open: set[str] = set()

    # Streams.

    def open_stream(self, exchange: Exchange) -> None:
        """Serve GET. A second stream is refused rather than given the place of the first, whose client still reads."""
        try:
            self._open_stream(exchange)
        except RequestRefused as error:
            _refuse(exchange, error)

    def _open_stream(self, exchange: Exchange) -> None:
        session, http = exchange.session, exchange.http
        assert session is not None
        value = http.head.get(HEADER_LAST_EVENT)
        last = None if value is None else value.decode("latin-1")
        if last is not None and last.startswith(PREFIX):
            self.journals.resume(exchange, last)
            return
        if session.id in self._open:
            raise RequestRefused("the session has its stream already", code=INVALID_REQUEST, http_status=409)
        self._open.add(session.id)
        on_finish = http.on_finish

        def finish(http: HttpExchange) -> None:
            self._open.discard(session.id)
            if on_finish is not None:
                on_finish(http)

        http.on_finish = finish
        exchange.snapshot.desk.hub.attach(exchange, last)

    def journal(self, exchange: Exchange) -> Journal | None:
        return self.journals.open(exchange)

    # Levels.

    def set_level(self, exchange: Exchange, message: Envelope) -> Work:
        """Take the level; the client has its answer when the backends know."""
        if "logging" not in exchange.snapshot.catalog.capabilities:
            raise RequestRefused("no backend sends log messages", code=METHOD_NOT_FOUND, http_status=404)
        span = None if message.params is None else members(message.data, *message.params).get("level")
        rank = -1 if span is None else rank_at(message.data, span, -1)
        if rank < 0:
            raise RequestRefused(f"expected params.level to be one of {', '.join(LEVELS)}", code=INVALID_PARAMS)
        assert exchange.session is not None
        self._keep(exchange.session, rank)
        tasks = self._levels.want(LEVELS[min(self._least, DEFAULT_RANK)])
        tasks |= self._levels.want_own(exchange.session.id, LEVELS[rank])
        if tasks:
            return _answer_when_told(exchange, tasks)
        exchange.reply(200, jsonrpc.result(exchange.id, b"{}"))
        return None

    def level(self, session: Session) -> str | None:
        return self.level_of(session.id)

    def level_of(self, session_id: str) -> str | None:
        kept = self._ranks.get(session_id)
        return None if kept is None else LEVELS[kept[0]]

    def log_rank(self, session: Session) -> int | None:
        """Return the rank the session has set, whatever the backends were told: they may be late, or not obey.

        One that has set none is given what backends send of themselves, but not what others have made them say.
        """
        if not self._ranks:
            return None
        kept = self._ranks.get(session.id)
        if kept is not None:
            return kept[0]
        return DEFAULT_RANK if self._least < DEFAULT_RANK else None

    def ended(self, session_id: str) -> None:
        self.journals.end_session(session_id)
        if session_id in self._ranks:
            self._forget(session_id)
            self._levels.want(LEVELS[min(self._least, DEFAULT_RANK)])

    async def aclose(self) -> None:
        self.journals.close()
        await self._levels.aclose()

    def _keep(self, session: Session, rank: int) -> None:
        now = self._wall_clock()
        while self._ranks and (oldest := next(iter(self._ranks))) and self._ranks[oldest][1] <= now:
            self._forget(oldest)
        if session.id in self._ranks:
            self._count(self._ranks[session.id][0], -1)
        elif len(self._ranks) >= MAX_LEVELS:
            self._forget(next(iter(self._ranks)))
        self._ranks[session.id] = (rank, session.expires_at)
        self._count(rank, 1)

    def _forget(self, session_id: str) -> None:
        rank, _ = self._ranks.pop(session_id)
        self._count(rank, -1)

    def _count(self, rank: int, by: int) -> None:
        self._wanting[rank] += by
        self._least = next((rank for rank, count in enumerate(self._wanting) if count), len(LEVELS))


async def _answer_when_told(exchange: Exchange, tasks: Iterable[asyncio.Task[None]]) -> None:
    await loglevel.told(tasks)
    exchange.reply(200, jsonrpc.result(exchange.id, b"{}"))


def _refuse(exchange: Exchange, error: Only1MCPError) -> None:
    """Answer GET with the status itself: there is no request of JSON-RPC whose answer could tell."""
    exchange.error = error.with_traceback(None)
    exchange.reply(error.http_status, error_message(error))
