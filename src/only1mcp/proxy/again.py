"""Answers from memory to requests that came before with another id, without reading them again.

What was found out about the first one holds for all that follows from its octets: Host and Origin, media types, the
message and its sizes, the era. Asked again each time is what may have changed: credentials, rate, session, catalog.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from only1mcp.errors import Only1MCPError
from only1mcp.frontend.repeat import Repeat
from only1mcp.frontend.session import Session, SessionSealer
from only1mcp.metrics import Metrics
from only1mcp.proxy.access import log_again
from only1mcp.proxy.auth import Authenticator, Principal
from only1mcp.proxy.exchange import COPIED_BYTES, JSON, Exchange, Snapshot
from only1mcp.proxy.pages import Wanted
from only1mcp.proxy.ratelimit import RateLimiter, caller_key
from only1mcp.wire import jsonrpc, mcp


class HasSnapshot(Protocol):
    """Where the snapshot in force is."""

    snapshot: Snapshot


class Known:
    """What was found out about a request; holds nothing of a snapshot, which an idle connection would keep alive."""

    __slots__ = ("max_depth", "method", "path", "principal", "session", "slot", "token", "wanted")

    def __init__(self, exchange: Exchange, method: str, wanted: Wanted | None, slot: int) -> None:
        self.method = method
        # Where the metrics count it.
        self.slot = slot
        # The page that answers it, None for the empty answer to `ping`.
        self.wanted = wanted
        self.principal: Principal | None = exchange.principal
        self.session: Session | None = exchange.session
        token = None if self.session is None else exchange.http.head.get(mcp.HEADER_SESSION)
        self.token = "" if token is None else token.decode("latin-1")
        # The configuration that it was read by.
        self.path = exchange.snapshot.path
        self.max_depth = exchange.snapshot.max_depth


class Again:
    """Says of requests that they may come again, and answers them when they do."""

    def __init__(
        self,
        current: HasSnapshot,
        *,
        authenticator: Authenticator,
        limiter: RateLimiter | None,
        sealer: SessionSealer,
        metrics: Metrics,
        wall_clock: Callable[[], float],
    ) -> None:
        self._current = current
        self._authenticator = authenticator
        self._limiter = limiter
        self._sealer = sealer
        self._metrics = metrics
        self._wall_clock = wall_clock

    def reply(self, exchange: Exchange, body: bytes, method: str, wanted: Wanted | None) -> None:
        """Answer an exchange from memory, and have those answered that differ from it in their id alone."""
        http, message = exchange.http, exchange.message
        assert message is not None
        if len(body) <= COPIED_BYTES and message.id_span is not None:
            known = Known(exchange, method, wanted, self._metrics.slot_of(method, 200))
            headers = [JSON, *exchange.cors]
            http.may_repeat(Repeat(http.head, http.body, message.id_span, http.peer, headers, self.answer, known))
        exchange.reply(200, body)

    def answer(self, repeat: Repeat, id: bytes, now_s: float) -> bytes | None:
        """Return the body, None where the request must be decided on, and perhaps refused, in the ordinary way."""
        known: Known = repeat.state
        snapshot: Snapshot = self._current.snapshot
        if known.path != snapshot.path or known.max_depth != snapshot.max_depth:
            return None
        began = perf_counter()
        principal = known.principal
        assert principal is not None
        try:
            if self._authenticator.authenticate(repeat.head) is not principal:
                return None
        except Only1MCPError:
            return None
        if known.session is not None and (
            self._sealer.open(known.token, principal.id, self._wall_clock()) is not known.session
        ):
            return None
        wanted = known.wanted
        if wanted is not None and not snapshot.pages.has(wanted):
            return None
        # Last, since it counts.
        if self._limiter is not None and self._limiter.check(caller_key(principal, repeat.peer), now_s) > 0:
            return None
        if wanted is None:
            body = jsonrpc.result(id, b"{}")
        else:
            body = snapshot.pages.again(wanted, id, now_s, self._metrics)
        duration_s = perf_counter() - began
        self._metrics.finished_as(known.slot, duration_s)
        log_again(repeat.head, repeat.peer, len(body), duration_s, principal, known.method)
        return body
