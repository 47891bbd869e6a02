"""The life of a request, stage by stage from top to bottom: guard, authenticate, read, admit, classify, route, forward.

Every exchange ends in `finish`, however it went. Nothing before the forwarding waits, so refused requests and
local answers cost no task. The stages stay in one module, longer than others are: their order is what protects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from only1mcp._fast import ERROR, NOTIFICATION, REQUEST, RESULT, members, scan
from only1mcp.errors import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NotAuthenticated,
    Only1MCPError,
    Overloaded,
    ProtocolError,
    RateLimited,
    RequestRefused,
)
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.media import check_media_types
from only1mcp.frontend.origin import OriginPolicy
from only1mcp.frontend.session import SessionSealer
from only1mcp.metrics import Metrics
from only1mcp.proxy import local
from only1mcp.proxy.access import log_request
from only1mcp.proxy.again import Again
from only1mcp.proxy.auth import Authenticator
from only1mcp.proxy.batch import Batches
from only1mcp.proxy.cache import ResponseCache
from only1mcp.proxy.exchange import Exchange, Snapshot, forget
from only1mcp.proxy.forward import Forwarder
from only1mcp.proxy.pages import DISCOVER, wanted_by
from only1mcp.proxy.plain import METHOD, PlainCalls
from only1mcp.proxy.posted import SseGate
from only1mcp.proxy.ratelimit import RateLimiter, caller_key
from only1mcp.proxy.readiness import answer_probe
from only1mcp.proxy.route import Target, find_target
from only1mcp.proxy.sizes import check_sizes
from only1mcp.proxy.verdict import Verdict
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.classify import check_stateless, era_of_headers, era_of_message, routing_of
from only1mcp.wire.mcp import CAPABILITY_OF, LIST_METHODS, STATELESS

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.proxy.auth import Principal

# What is below belongs to the admin API, which has a credential of its own.
ADMIN_PATH = "/api/v1/admin/"


class Pipeline:
    """The application behind the clients' listener; one per process.

    `snapshot` is replaced from outside by one assignment; an exchange keeps the one it started with.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        origin: OriginPolicy,
        authenticator: Authenticator,
        limiter: RateLimiter | None,
        sealer: SessionSealer,
        cache: ResponseCache | None,
        metrics: Metrics,
        wall_clock: Callable[[], float],
        admin: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self._started = asyncio.Event()
        self._closing = False
        self._origin = origin
        self._authenticator = authenticator
        self._limiter = limiter
        self._sealer = sealer
        self._forwarder = Forwarder(cache, metrics)
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._admin = admin
        self._in_flight = 0
        self._plain = PlainCalls(
            self,
            self._forwarder,
            authenticator=authenticator,
            limiter=limiter,
            sealer=sealer,
            caches=cache is not None,
            metrics=metrics,
        )
        self._again = Again(
            self,
            authenticator=authenticator,
            limiter=limiter,
            sealer=sealer,
            metrics=metrics,
            wall_clock=wall_clock,
        )
        self._batches = Batches(self, self._open_session, self._admit)
        self.sse = SseGate(self, origin, self._authenticate, self._admit, wall_clock, snapshot.desk.worker)

    @property
    def accepting(self) -> bool:
        """Whether a load balancer should send clients here."""
        return self._started.is_set() and not self._closing

    def open(self) -> None:
        """Begin to answer: the first catalog is complete, as far as the backends were in time."""
        self._started.set()

    def close(self) -> None:
        """Say in `/ready` that no new clients should come; those that do are still served."""
        self._closing = True

    # The head has arrived.

    def on_head(self, http: HttpExchange) -> None:
        """Guard and authenticate; what is refused here never sends its body."""
        exchange = Exchange(http, self.snapshot)
        http.state = exchange
        http.on_finish = self.finish
        try:
            self._guard(exchange)
        except Only1MCPError as error:
            exchange.refuse(error)

    def _guard(self, exchange: Exchange) -> None:
        http = exchange.http
        head = http.head
        verdict = head.verdict
        if verdict is not None and verdict.origin is self._origin and verdict.path == exchange.snapshot.path:
            exchange.cors = verdict.cors
            self._authenticate(exchange)
            return
        if http.vouched is None:
            self._origin.check(head)
        exchange.cors = self._origin.cors_headers(head)
        path = head.target
        if path != exchange.snapshot.path:
            path = path.partition(b"?")[0]
        if path != exchange.snapshot.path and http.vouched is None:
            self._elsewhere(exchange, path.decode("latin-1"))
        elif head.method == b"OPTIONS":
            http.respond(204, self._origin.preflight_headers(head))
        else:
            self._authenticate(exchange)
            if head.method == b"POST":
                check_media_types(head)
                head.verdict = Verdict(self._origin, exchange.snapshot.path, exchange.cors)
            else:
                self._without_body(exchange)

    def _elsewhere(self, exchange: Exchange, path: str) -> None:
        if path in ("/health", "/ready"):
            answer_probe(exchange, path, accepting=self.accepting)
        elif self._admin is not None and path.startswith(ADMIN_PATH):
            self._admin(exchange)
        elif not self.sse.takes(exchange, path):
            raise RequestRefused("there is nothing at this path", code=INVALID_REQUEST, http_status=404)

    def _authenticate(self, exchange: Exchange) -> None:
        vouched: Principal | None = exchange.http.vouched
        if vouched is not None:
            left_s = vouched.left_s(self._wall_clock())
            if left_s is not None and left_s <= 0 and exchange.http.head.method != b"DELETE":
                raise NotAuthenticated("the credentials with which the connection was opened have expired")
            exchange.principal = vouched
            return
        try:
            exchange.principal = self._authenticator.authenticate(exchange.http.head)
        except NotAuthenticated:
            self._metrics.auth_failed()
            raise

    def _without_body(self, exchange: Exchange) -> None:
        """GET and DELETE belong to sessions of the handshake era."""
        method = exchange.http.head.method
        if exchange.http.vouched is not None:
            exchange.http.on_finish = forget  # the frontend asks for itself
        era = era_of_headers(exchange.http.head)
        if era is STATELESS or method not in (b"GET", b"DELETE"):
            exchange.empty(405, [(b"allow", b"POST" if era is STATELESS else b"GET, POST, DELETE")])
            return
        self._admit(exchange)
        self._open_session(exchange)
        if method == b"GET":
            exchange.snapshot.desk.sessions.open_stream(exchange)
            return
        token = exchange.http.head.get(mcp.HEADER_SESSION)
        assert token is not None
        assert exchange.principal is not None
        self._sealer.terminate(token.decode("latin-1"), exchange.principal.id, self._wall_clock())
        assert exchange.session is not None
        exchange.snapshot.desk.session_ended(exchange.session.id)
        exchange.empty(204)

    # The body has arrived.

    def on_request(self, http: HttpExchange) -> Coroutine[Any, Any, None] | None:
        """Read, admit, classify and route; return the work that has to wait for a backend, if any."""
        exchange: Exchange = http.state
        if not self._started.is_set():
            return self._take_when_started(exchange)
        try:
            return self._take(exchange)
        except Only1MCPError as error:
            exchange.refuse(error)
        return None

    async def _take_when_started(self, exchange: Exchange) -> None:
        await self._started.wait()
        exchange.snapshot = self.snapshot
        try:
            work = self._take(exchange)
        except Only1MCPError as error:
            exchange.refuse(error)
            return
        if work is not None:
            await work

    def _take(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        try:
            message = scan(exchange.http.body, exchange.snapshot.max_depth)
        except ProtocolError:
            self._admit(exchange)
            if self._batches.takes(exchange):
                return None
            raise
        exchange.message = message
        exchange.method = message.method
        self._admit(exchange)
        check_sizes(message)
        verdict = exchange.http.head.verdict
        if not verdict.judged:
            if verdict.path == self.sse.path:
                return self.sse.take(exchange)
            verdict.era = era_of_headers(exchange.http.head)
            verdict.judged = True
        exchange.era = era_of_message(message) if verdict.era is None else verdict.era
        if exchange.era is STATELESS:
            return self._take_stateless(exchange, message)
        return self._take_handshake(exchange, message)

    def _admit(self, exchange: Exchange) -> None:
        # Who launched us is not limited, and a message for a stream has been admitted with the POST that brought it.
        if self._limiter is not None and exchange.http.vouched is None:
            principal = exchange.principal
            assert principal is not None
            wait = self._limiter.check(caller_key(principal, exchange.http.peer), exchange.http.started)
            if wait > 0:
                self._metrics.rate_limited()
                raise RateLimited(
                    "too many requests", retry_after_s=wait, data={"retry_after_ms": int(wait * 1000) + 1}
                )

    def _take_stateless(self, exchange: Exchange, message: Envelope) -> Coroutine[Any, Any, None] | None:
        if message.kind in (RESULT, ERROR):
            raise ProtocolError("a response cannot be posted in this protocol revision")
        if message.kind == NOTIFICATION:
            exchange.empty(202)
            return None
        verdict = exchange.http.head.verdict
        if verdict.routing is None:
            verdict.routing = routing_of(exchange.http.head)
        exchange.revision = check_stateless(verdict.routing, message)
        method = message.method or ""
        if method == "server/discover":
            self._again.reply(exchange, exchange.snapshot.pages.discover(exchange.id, self._metrics), method, DISCOVER)
            return None
        return self._route(exchange, message, method)

    def _take_handshake(self, exchange: Exchange, message: Envelope) -> Coroutine[Any, Any, None] | None:
        if message.method == "initialize" and message.kind == REQUEST:
            self._initialize(exchange, message)
            return None
        self._open_session(exchange)
        if message.kind != REQUEST:
            self._heard(exchange, message)
            exchange.empty(202)
            return None
        if message.method == "ping":
            self._again.reply(exchange, jsonrpc.result(exchange.id, b"{}"), "ping", None)
            return None
        return self._route(exchange, message, message.method or "")

    def _heard(self, exchange: Exchange, message: Envelope) -> None:
        """Take a response or a notification; what concerns nothing of this session's reaches nobody."""
        assert exchange.session is not None
        asker = exchange.snapshot.desk.asker
        if message.kind != NOTIFICATION:
            asker.answered(exchange.session, message)
        elif message.method == "notifications/roots/list_changed":
            exchange.snapshot.desk.on_roots_changed(exchange.session.id)
        elif not asker.notified(exchange.session, message) and message.method == "notifications/cancelled":
            self._cancel(exchange, message)

    def _initialize(self, exchange: Exchange, message: Envelope) -> None:
        assert exchange.principal is not None
        revision, capabilities, info, result = local.initialize(exchange.snapshot.catalog, message)
        token = self._sealer.seal(exchange.principal.id, revision, capabilities, self._wall_clock(), info)
        extra = [(mcp.HEADER_SESSION, token.encode("ascii"))]
        exchange.reply(200, jsonrpc.result(exchange.id, result), extra)

    def _open_session(self, exchange: Exchange) -> None:
        """Find the session a handshake client speaks in; raise 400 without one, 404 for one that is not its own."""
        assert exchange.principal is not None
        token = exchange.http.head.get(mcp.HEADER_SESSION)
        if token is None:
            what = "" if exchange.http.vouched is not None else "the Mcp-Session-Id header is missing; "
            raise ProtocolError(f"{what}send initialize first")
        session = self._sealer.open(token.decode("latin-1"), exchange.principal.id, self._wall_clock())
        if session is None:
            raise RequestRefused(
                "there is no such session; send initialize again", code=INVALID_REQUEST, http_status=404
            )
        exchange.session = session
        exchange.revision = session.revision

    def _cancel(self, exchange: Exchange, message: Envelope) -> None:
        assert exchange.session is not None
        if message.params is None:
            return
        span = members(message.data, *message.params).get("requestId")
        if span is not None:
            id = message.data[slice(*span)]
            self._plain.cancel(exchange.session.id, id)
            self._forwarder.cancel(exchange.session.id, id)

    def _route(self, exchange: Exchange, message: Envelope, method: str) -> Coroutine[Any, Any, None] | None:
        catalog = exchange.snapshot.catalog
        if method in LIST_METHODS:
            assert exchange.principal is not None
            assert exchange.era is not None
            now_s, pages = exchange.http.started, exchange.snapshot.pages
            body = pages.list(message, exchange.era, exchange.principal, now_s, self._metrics)
            self._again.reply(exchange, body, method, wanted_by(message, exchange.era, exchange.principal))
            return None
        if CAPABILITY_OF.get(method) not in catalog.capabilities:
            return self._rare(exchange, message, method)
        target = find_target(exchange, message, method)
        if self._forwarder.maybe_cached(exchange, target, method):
            return None
        return self._send(exchange, target, method)

    def _send(self, exchange: Exchange, target: Target, method: str) -> Coroutine[Any, Any, None] | None:
        # Not in a task: of requests that arrive together, every one is admitted before the first task begins.
        if not self.enters():
            raise Overloaded("too many requests in flight", data={"hint": "retry after a moment"})
        exchange.forwarded = True
        if method == METHOD:
            self._plain.learn(exchange)
        return self._forwarder.forward(exchange, target, method)

    def enters(self) -> bool:
        """Count one more request in flight and return True, or return False where there are too many."""
        if self._in_flight >= self.snapshot.max_in_flight:
            return False
        self._in_flight += 1
        return True

    def leaves(self) -> None:
        """Count one less."""
        self._in_flight -= 1

    def _rare(self, exchange: Exchange, message: Envelope, method: str) -> Coroutine[Any, Any, None] | None:
        """Serve what no backend is simply asked."""
        desk = exchange.snapshot.desk
        if exchange.era is STATELESS:
            if method == "subscriptions/listen":
                desk.hub.listen(exchange, message)
                return None
            if method in mcp.TASK_METHODS:
                return self._send(exchange, desk.tasks.route(exchange, message, method), method)
        elif method == "logging/setLevel":
            return desk.sessions.set_level(exchange, message)
        elif method in ("resources/subscribe", "resources/unsubscribe"):
            return desk.hub.subscribe(exchange, message, on=method == "resources/subscribe")
        elif method in mcp.HANDSHAKE_TASK_METHODS:
            return self._send(exchange, desk.tasks.route(exchange, message, method), method)
        raise RequestRefused(f"the method {method!r:.80} is not served", code=METHOD_NOT_FOUND, http_status=404)

    # The last byte has left, or the client has.

    def finish(self, http: HttpExchange) -> None:
        """Every exchange ends here, however it went."""
        exchange: Exchange = http.state
        http.state = http.on_finish = None  # the two hold each other; without this only the collector would part them
        if exchange.forwarded:
            self.leaves()
        duration_s = perf_counter() - exchange.began
        self._metrics.request_finished(exchange.method, http.status, duration_s)
        if exchange.streaming and exchange.session is not None and exchange.journal is None:
            exchange.snapshot.desk.asker.over(exchange)
        if exchange.error is not None:
            self._metrics.error(exchange.error.source)
        log_request(exchange, duration_s)
