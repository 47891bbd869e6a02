"""The stage that brings a request to its backend: not at all where it is cached, without a task where possible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from only1mcp._fast import scan
from only1mcp.backend.endpoint import Endpoint
from only1mcp.errors import BackendError, Only1MCPError, RequestRefused
from only1mcp.metrics import Metrics
from only1mcp.proxy.cache import ResponseCache
from only1mcp.proxy.call import Answer, maybe_begin, perform, to_client
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.route import Target
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.mcp import Era

log = logging.getLogger("only1mcp.proxy")

# The code that clients know from the Language Server Protocol for a request they have cancelled themselves.
REQUEST_CANCELLED = -32800

Ticket = tuple[str, bytes]


class Forwarder:
    """Answers exchanges from backends; knows which of them their clients may still cancel."""

    def __init__(self, cache: ResponseCache | None, metrics: Metrics) -> None:
        self._cache = cache
        self._metrics = metrics
        # What `notifications/cancelled` of a handshake client may refer to, and how the work for it is stopped.
        self._cancellable: dict[Ticket, _Forwarding] = {}

    def maybe_cached(self, exchange: Exchange, target: Target, method: str) -> bool:
        """Answer from the cache and return True, if the answer is there."""
        key = exchange.cache_key = self._key(exchange, target, method)
        if self._cache is None or key is None:
            return False
        result = self._cache.lookup(key, _now_ms())
        if result is None:
            return False
        # Only the stateless era has hints that let a result be kept.
        answer = Answer(scan(jsonrpc.result(exchange.id, result)), Era.STATELESS, {})
        exchange.reply(*to_client(exchange, target, method, answer))
        return True

    def forward(self, exchange: Exchange, target: Target, method: str) -> Coroutine[Any, Any, None] | None:
        """Send the request on; return the work for a task, or None when it goes without one."""
        endpoint = target.group.pick(target.hash_key)
        forwarding = _Forwarding(self, exchange, target, method, endpoint)
        stop = None if endpoint is None else maybe_begin(exchange, target, endpoint, self._metrics, forwarding.done)
        if stop is None:
            return self._in_task(forwarding)
        forwarding.stop = stop
        exchange.http.defer(forwarding.abandon)
        self.remember(forwarding)
        return None

    def cancel(self, session: str, request_id: bytes) -> None:
        """Stop what is done for a request, because its client says so; its response is an error."""
        forwarding = self._cancellable.get((session, request_id))
        if forwarding is not None:
            forwarding.cancel()

    def deliver(self, exchange: Exchange, target: Target, method: str, answer: Answer) -> None:
        """Answer the client, and keep the result where it may be kept."""
        status, body = to_client(exchange, target, method, answer)
        key, result = exchange.cache_key, answer.message.result
        if self._cache is not None and key is not None and answer.era is Era.STATELESS and result is not None:
            self._cache.store(key, answer.message.data[slice(*result)], _now_ms())
        exchange.reply(status, body)

    def remember(self, forwarding: _Forwarding) -> None:
        if forwarding.ticket is not None:
            self._cancellable[forwarding.ticket] = forwarding

    def forget(self, forwarding: _Forwarding) -> None:
        # A client that uses an id twice can cancel the later request only; the earlier one must not take that away.
        if forwarding.ticket is not None and self._cancellable.get(forwarding.ticket) is forwarding:
            del self._cancellable[forwarding.ticket]

    async def _in_task(self, forwarding: _Forwarding, failure: BackendError | None = None) -> None:
        exchange, target = forwarding.exchange, forwarding.target
        forwarding.task = asyncio.current_task()
        self.remember(forwarding)
        try:
            answer = await perform(
                exchange,
                target,
                self._metrics,
                exchange.snapshot.config.proxy.timeouts.request_s - forwarding.elapsed_s,
                first=forwarding.endpoint,
                failure=failure,
            )
            self.deliver(exchange, target, forwarding.method, answer)
        except Only1MCPError as error:
            exchange.refuse(error)
        except asyncio.CancelledError:
            if not forwarding.cancelled:
                raise
            exchange.refuse(_cancelled())
        finally:
            self.forget(forwarding)

    def _key(self, exchange: Exchange, target: Target, method: str) -> bytes | None:
        message, principal = exchange.message, exchange.principal
        if self._cache is None or method not in mcp.CACHEABLE or message is None or message.params is None:
            return None
        assert principal is not None
        return self._cache.key(principal.id, target.group.id, method, message.data[slice(*message.params)])


class _Forwarding:
    """One exchange on its way; `ticket` is how its client may call it off, None in the stateless era."""

    __slots__ = (
        "_began",
        "_loop",
        "cancelled",
        "endpoint",
        "exchange",
        "forwarder",
        "method",
        "stop",
        "target",
        "task",
        "ticket",
    )

    def __init__(
        self, forwarder: Forwarder, exchange: Exchange, target: Target, method: str, endpoint: Endpoint | None
    ) -> None:
        self.forwarder = forwarder
        self.exchange = exchange
        self.target = target
        self.method = method
        # Whose turn it was; asked again, the balancer would pass over it.
        self.endpoint = endpoint
        self.ticket = None if exchange.session is None else (exchange.session.id, exchange.id)
        # How the work is stopped: that of a task, or that which goes without one.
        self.task: asyncio.Task[Any] | None = None
        self.stop: Callable[[], None] | None = None
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    @property
    def elapsed_s(self) -> float:
        return self._loop.time() - self._began

    def done(self, outcome: Answer | BackendError) -> None:
        """Take the outcome of a call that went without a task; never raises, it is called from the event loop."""
        exchange, forwarder = self.exchange, self.forwarder
        forwarder.forget(self)
        self.stop = None
        try:
            if isinstance(outcome, Answer):
                forwarder.deliver(exchange, self.target, self.method, outcome)
            elif outcome.retryable and not exchange.http.started_response:
                exchange.http.resume(forwarder._in_task(self, outcome))
            else:
                exchange.refuse(outcome)
        except Only1MCPError as error:
            exchange.refuse(error)
        except Exception:  # the edge: whatever goes wrong becomes an answer
            log.exception("exchange.failed")
            if not exchange.http.finished:
                exchange.refuse(Only1MCPError("internal error"))

    def abandon(self) -> None:
        """Nobody waits for what goes without a task."""
        self.forwarder.forget(self)
        stop, self.stop = self.stop, None
        if stop is not None:
            stop()

    def cancel(self) -> None:
        """The client says that it does not wait any more; it gets an error as its response."""
        if self.task is not None:
            self.cancelled = True
            self.task.cancel()
        else:
            self.abandon()
            self.exchange.refuse(_cancelled())


def _cancelled() -> RequestRefused:
    return RequestRefused("cancelled by the client", code=REQUEST_CANCELLED, http_status=200)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
