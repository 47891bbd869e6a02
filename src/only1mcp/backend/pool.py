"""Open connections to one endpoint: lent out one exchange at a time, the most recently used first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from only1mcp.backend.connection import HttpConnection
from only1mcp.errors import BackendUnavailable

# Connections to one endpoint, streams included; calls beyond it wait. A stalled backend must not eat all descriptors.
MAX_CONNECTIONS: Final = 1024
# An unused connection is closed after this long, so that a burst does not hold descriptors at both ends for ever.
# Servers that close sooner (Node and uvicorn after 5 s) are noticed when they do.
IDLE_S: Final = 60.0
# How long `aclose` waits for the event loop to report that the sockets are closed.
CLOSE_TIMEOUT_S: Final = 2.0


class Pool:
    """Lends connections; `connect` opens one or raises `BackendError`.

    While anyone waits, no connection is idle and no more may be opened.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[HttpConnection]],
        *,
        max_connections: int = MAX_CONNECTIONS,
        idle_s: float = IDLE_S,
    ) -> None:
        self._connect = connect
        self._max_connections = max_connections
        self._idle_s = idle_s

        self._idle: list[HttpConnection] = []  # the longest unused first
        self._leased: set[HttpConnection] = set()
        self._opening = 0  # slots given to callers that are connecting
        self._waiting: deque[tuple[asyncio.Future[HttpConnection | None], bool]] = deque()
        self._closed = False
        self._expiry: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        counts = (
            f"{len(self._idle)} idle, {len(self._leased)} leased, {self._opening} opening, {len(self._waiting)} waiting"
        )
        return f"<Pool {'closed, ' if self._closed else ''}{counts}>"

    async def acquire(self, *, fresh: bool = False) -> HttpConnection:
        """Return a connection ready for a request, a new one if `fresh`; wait while all are in use.

        Raise `BackendUnavailable` when none can be opened or the pool is closed.
        """
        if self._closed:
            raise BackendUnavailable("the connections to this backend are closed")
        turn: asyncio.Future[HttpConnection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, fresh))
        self._settle()
        try:
            connection = await turn
        except asyncio.CancelledError:
            # What was handed over in the same moment goes back, or nobody would ever have it.
            if turn.cancelled() or turn.exception() is not None:
                self._settle()
            elif (given := turn.result()) is None:
                self._settle(opened=-1)
            else:
                self._settle(returned=given)
            raise
        if connection is None:
            try:
                connection = await self._connect()
            except BaseException:
                self._settle(opened=-1)
                raise
            self._settle(opened=1, leased=connection)
            if self._closed:
                raise BackendUnavailable("the connections to this backend are closed")
        return connection

    def maybe_acquire(self) -> HttpConnection | None:
        """Return an idle connection ready for a request, or None where one would have to be awaited."""
        while self._idle and not self._waiting and not self._closed:
            connection = self._idle.pop()
            if connection.usable():
                self._leased.add(connection)
                return connection
            connection.abort()
        return None

    def release(self, connection: HttpConnection) -> None:
        """Take back a connection; it is kept only if its exchange is complete and it may carry another."""
        if self._waiting or self._closed or self._expiry is None or connection not in self._leased:
            self._settle(returned=connection)
            return
        self._leased.remove(connection)
        if connection.finish():
            self._idle.append(connection)

    async def aclose(self) -> None:
        """Close every connection, also those lent out, and refuse who waits."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        connections = [*self._idle, *self._leased]
        for connection in self._leased:
            connection.abort()
        self._leased.clear()
        self._settle()
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=CLOSE_TIMEOUT_S)

    def _settle(
        self,
        *,
        opened: int = 0,
        leased: HttpConnection | None = None,
        returned: HttpConnection | None = None,
        lost: HttpConnection | None = None,
    ) -> None:
        """Make one change and hand out what it sets free. The pool's state changes here, without waiting.

        `opened` is 1 or -1 when an attempt to connect ended well or not; `leased` is the connection it made.
        """
        self._opening -= abs(opened)
        if leased is not None:
            leased.on_lost = self._on_lost
            if self._closed:
                leased.abort()
            else:
                self._leased.add(leased)
        if returned is not None and returned in self._leased:
            self._leased.remove(returned)
            if returned.finish():
                self._idle.append(returned)
        if lost is not None and lost in self._idle:
            self._idle.remove(lost)
        loop = asyncio.get_running_loop()
        while self._idle and (self._closed or self._idle[0].idle_since + self._idle_s <= loop.time()):
            self._idle.pop(0).abort()

        while self._waiting:
            turn, fresh = self._waiting[0]
            if turn.done():  # gave up
                self._waiting.popleft()
            elif self._closed:
                self._waiting.popleft()
                turn.set_exception(BackendUnavailable("the connections to this backend are closed"))
            elif self._idle and not fresh:
                connection = self._idle.pop()
                if connection.usable():
                    self._waiting.popleft()
                    self._leased.add(connection)
                    turn.set_result(connection)
                else:
                    connection.abort()
            elif len(self._idle) + len(self._leased) + self._opening < self._max_connections:
                self._waiting.popleft()
                self._opening += 1
                turn.set_result(None)
            elif self._idle:
                self._idle.pop(0).abort()
            else:
                break

        if self._idle and self._expiry is None:
            self._expiry = loop.call_at(self._idle[0].idle_since + self._idle_s, self._expire)

    def _on_lost(self, connection: HttpConnection) -> None:
        self._settle(lost=connection)

    def _expire(self) -> None:
        self._expiry = None
        self._settle()
