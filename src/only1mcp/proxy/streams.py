"""A long stream of events to one client: bounded, kept alive by comments, cut when its reader stops reading."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from only1mcp.wire import sse

if TYPE_CHECKING:
    from only1mcp.proxy.auth import Principal
    from only1mcp.proxy.exchange import Exchange

# A listener that does not read is cut rather than given part of what it asked for: it listens again and asks anew.
MAX_WAITING_BYTES: Final = 256 * 1024
# What is unread on all streams together. Any of them may hold less than this, and ten thousand of them may not.
MAX_ALL_WAITING_BYTES: Final = 256 << 20
# Comments keep middleboxes from closing a stream on which nothing happens, and find out clients that are gone.
KEEP_ALIVE_S: Final = 25.0
KEEP_ALIVE: Final = b": \n\n"
# No timer is set for longer, since some clocks cannot be; when it is over, there is another.
LONGEST_TIMER_S: Final = 24 * 3600.0

log = logging.getLogger("only1mcp.proxy")


class Expiry:
    """Calls `on_expired` when what the principal proved itself with holds no more; from `arm` to `disarm`."""

    __slots__ = ("_on_expired", "_principal", "_timer", "_wall_clock")

    def __init__(self, principal: Principal, on_expired: Callable[[], None], wall_clock: Callable[[], float]) -> None:
        self._principal = principal
        self._on_expired: Callable[[], None] | None = on_expired
        self._wall_clock = wall_clock
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        left_s = self._principal.left_s(self._wall_clock())
        if left_s is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, min(left_s, LONGEST_TIMER_S)), self._look)

    def disarm(self) -> None:
        # Whoever was to be called has this one: it must not be a cycle.
        self._on_expired = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left_s = self._principal.left_s(self._wall_clock())
        if left_s is not None and left_s > 0:
            self.arm()
            return
        self._timer = None
        log.info("stream.expired", extra={"fields": {"principal": self._principal.name}})
        if self._on_expired is not None:
            self._on_expired()


class Unread:
    """What waits in our memory for the readers of all streams of one process."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._held: dict[ClientStream, int] = {}

    def note(self, stream: ClientStream) -> None:
        """Something was sent on the stream. Where too much is unread, those streams are cut that hold most of it."""
        self._measure(stream)
        if self.total_bytes > MAX_ALL_WAITING_BYTES:
            for each in list(self._held):
                self._measure(each)  # it may have been read since
            while self.total_bytes > MAX_ALL_WAITING_BYTES:
                most = max(self._held, key=self._held.__getitem__)
                log.warning("stream.too_much_unread", extra={"fields": {"bytes": self._held[most]}})
                most.cut()

    def forget(self, stream: ClientStream) -> None:
        """The stream has ended."""
        self.total_bytes -= self._held.pop(stream, 0)

    def _measure(self, stream: ClientStream) -> None:
        self.forget(stream)
        size = stream.waiting_bytes
        if size:
            self._held[stream] = size
            self.total_bytes += size


class ClientStream:
    """Owns the response of `exchange` from `open` to `close`; `on_end` is called once, however it ends.

    `on_expired` is called when the credentials do not hold any more that the client opened it with; it ends the stream,
    or says with which others it goes on.
    `limit_bytes` may wait for the client when it is sent a message; None: whoever sends looks at `waiting_bytes`.
    """

    __slots__ = (
        "_counted",
        "_ended",
        "_exchange",
        "_expiry",
        "_limit_bytes",
        "_on_end",
        "_on_expired",
        "_timer",
        "_unread",
        "_wall_clock",
    )

    def __init__(
        self,
        exchange: Exchange,
        on_end: Callable[[ClientStream], None],
        on_expired: Callable[[], None],
        wall_clock: Callable[[], float] = time.time,
        limit_bytes: int | None = MAX_WAITING_BYTES,
    ) -> None:
        self._exchange = exchange
        self._on_end = on_end
        self._on_expired = on_expired
        self._limit_bytes = limit_bytes
        self._unread = exchange.snapshot.desk.unread
        # What goes on inside another stream, or to a pipe, is counted there.
        self._counted = exchange.http.vouched is None
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        assert exchange.principal is not None
        self._wall_clock = wall_clock
        self._expiry = Expiry(exchange.principal, self._expired, wall_clock)

    def open(self, first: bytes) -> None:
        """Begin the response with these events; call from `on_head` or `on_request`, which then return None."""
        self._exchange.interim_events(first)
        self._exchange.http.defer(self._gone)
        self._arm()
        self._expiry.arm()

    def send(self, message: bytes, id: str | None = None) -> None:
        """Send one message; a client that leaves too much unread loses the stream."""
        if self._ended:
            return
        if self._limit_bytes is not None and self._exchange.http.waiting_bytes > self._limit_bytes:
            self.cut()
            return
        self._exchange.interim_events(sse.encode(message, id=id))
        if self._counted:
            self._unread.note(self)

    @property
    def crowded(self) -> bool:
        """Whether so much is unread that nothing should be sent which can as well be left out."""
        return self._exchange.http.waiting_bytes > MAX_WAITING_BYTES // 2

    @property
    def waiting_bytes(self) -> int:
        """What has been sent and the client has not taken yet."""
        return 0 if self._ended else self._exchange.http.waiting_bytes

    async def drain(self) -> None:
        """Wait while much of it has not been taken."""
        if not self._ended:
            await self._exchange.http.drain()

    def go_on_for(self, principal: Principal) -> None:
        """Let the stream end with these credentials instead; from `on_expired`."""
        self._expiry = Expiry(principal, self._expired, self._wall_clock)
        self._expiry.arm()

    def close(self, last: bytes | None = None) -> None:
        """End the stream in order, with a last message where there is one."""
        if not self._ended:
            if last is not None:
                self.send(last)
            self._finish()
            if not self._exchange.http.client_gone and not self._exchange.http.finished:
                self._exchange.http.end_stream()

    def cut(self) -> None:
        """End the stream at once, so that the client sees that it is not complete; what it has not read is dropped."""
        if not self._ended:
            self._finish()
            self._exchange.http.abort()

    def _gone(self) -> None:
        self._finish()

    def _expired(self) -> None:
        if not self._ended:
            self._on_expired()

    def _finish(self) -> None:
        if not self._ended:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            self._expiry.disarm()
            self._unread.forget(self)
            self._on_end(self)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(KEEP_ALIVE_S, self._keep_alive)

    def _keep_alive(self) -> None:
        if not self._ended:
            if self._exchange.http.waiting_bytes == 0:
                self._exchange.interim_events(KEEP_ALIVE)
            self._arm()
