"""GET /sse and POST /messages of revision 2024-11-05, between the pipeline and the sessions (`frontend/legacy_sse.py`).

A message that is taken becomes an exchange of its own, which is what metrics and the access log tell of. The POST that
brings it is answered with 202; it is counted itself only where it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from only1mcp._fast import REQUEST
from only1mcp.errors import Only1MCPError, error_message
from only1mcp.frontend.http_exchange import Application
from only1mcp.frontend.legacy_sse import MESSAGES_PATH, SLOW_BYTES, STREAM_PATH, LegacySse, SseSession
from only1mcp.frontend.media import check_json
from only1mcp.frontend.origin import OriginPolicy
from only1mcp.proxy.exchange import Exchange, forget
from only1mcp.proxy.ratelimit import caller_key
from only1mcp.proxy.streams import ClientStream
from only1mcp.proxy.verdict import Verdict

if TYPE_CHECKING:
    from only1mcp.proxy.auth import Principal


class Posted(Exchange):
    """A POST with a message for `inbox`."""

    __slots__ = ("inbox",)

    def __init__(self, exchange: Exchange, inbox: SseSession) -> None:
        super().__init__(exchange.http, exchange.snapshot)
        self.principal = exchange.principal
        self.cors = exchange.cors
        self.inbox = inbox

    def refuse(self, error: Only1MCPError) -> None:
        """Answer with the status of the error, or on the stream where that is where its answer is waited for.

        Official clients take any status above 299 for the end of everything they send, and wait for an answer for ever.
        """
        message = self.message
        if message is None or message.kind != REQUEST or self.inbox.over:
            super().refuse(error)
            return
        self.error = error.with_traceback(None)
        self.inbox.send(error_message(error, message.id))
        self.empty(202)

    def deliver(self) -> None:
        """Have the message served; raise `RequestRefused`."""
        assert self.message is not None
        self.inbox.take(self.http.body, self.message, self.principal, self.http.peer)
        self.http.on_finish = forget
        self.empty(202)


class SseGate:
    """What the pipeline does with requests for the two paths; `authenticate` and `admit` are its own.

    `path` is that of the verdict of a head whose message belongs here.
    """

    def __init__(
        self,
        app: Application,
        origin: OriginPolicy,
        authenticate: Callable[[Exchange], None],
        admit: Callable[[Exchange], None],
        wall_clock: Callable[[], float] = time.time,
        worker: int = 0,
    ) -> None:
        self.path = MESSAGES_PATH.encode()
        self._origin = origin
        self._authenticate = authenticate
        self._admit = admit
        self._wall_clock = wall_clock
        self._sessions = LegacySse(app, worker=worker)
        self.drain = self._sessions.drain

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._sessions)

    def takes(self, exchange: Exchange, path: str) -> bool:
        """Serve GET /sse, or find out that a POST to /messages may send its body; False where it is another path.

        Raise `RequestRefused`.
        """
        if path not in (STREAM_PATH, MESSAGES_PATH):
            return False
        self._on_head(exchange, path)
        return True

    def _on_head(self, exchange: Exchange, path: str) -> None:
        http, head = exchange.http, exchange.http.head
        served = b"GET" if path == STREAM_PATH else b"POST"
        if head.method == b"OPTIONS":
            http.respond(204, self._origin.preflight_headers(head))
            return
        self._authenticate(exchange)
        if head.method != served:
            exchange.empty(405, [(b"allow", served)])
        elif served == b"GET":
            self._admit(exchange)
            self.open(exchange)
        else:
            check_json(head)
            assert exchange.principal is not None
            http.state = Posted(exchange, self._sessions.find(head.target, exchange.principal.id))
            head.verdict = Verdict(self._origin, self.path, exchange.cors)

    def open(self, exchange: Exchange) -> None:
        """Begin a session; raise `Overloaded`."""
        principal = exchange.principal
        assert principal is not None
        caller = caller_key(principal, exchange.http.peer)
        session = self._sessions.open(
            principal, owner=principal.id, caller=caller, max_depth=exchange.snapshot.max_depth
        )

        def expired() -> None:
            """The session goes on with what a later message has been posted with, as long as that holds."""
            latest: Principal = session.vouched
            left_s = latest.left_s(self._wall_clock())
            if left_s is None or left_s > 0:
                stream.go_on_for(latest)
            else:
                session.close()

        stream = ClientStream(exchange, session.stream_ended, expired, self._wall_clock, limit_bytes=None)
        try:
            session.begin(stream)
        except Exception:
            session.stream_ended(stream)
            raise

    def take(self, posted: Exchange) -> Coroutine[Any, Any, None] | None:
        """The message of a POST that `takes` has seen has been read and admitted; raise `RequestRefused`."""
        assert isinstance(posted, Posted)
        assert posted.message is not None
        if posted.message.kind == REQUEST:
            posted.inbox.check_room()
            if posted.inbox.unsent_bytes > SLOW_BYTES:
                return self._take_when_read(posted)
        posted.deliver()
        return None

    async def _take_when_read(self, posted: Posted) -> None:
        posted.inbox.waiting += 1
        try:
            await posted.inbox.drain()
        finally:
            posted.inbox.waiting -= 1
        try:
            posted.deliver()
        except Only1MCPError as error:
            posted.refuse(error)
