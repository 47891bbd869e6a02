"""The stage that answers a request: from the cache, by the call of another that asks the same, or by its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from only1mcp._fast import scan
from only1mcp.backend.base import Passed
from only1mcp.backend.direct import DirectCall
from only1mcp.backend.endpoint import Endpoint
from only1mcp.errors import BackendError, HeadersRefused, Only1MCPError
from only1mcp.metrics import Metrics
from only1mcp.proxy.cache import Asked, Key, ResponseCache, failed
from only1mcp.proxy.call import Answer, Begun, maybe_begin, perform, take_over, to_client
from only1mcp.proxy.coalesce import Flights, Passenger, Ticket, cancelled
from only1mcp.proxy.desk import Lot
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.remirror import call_again
from only1mcp.proxy.route import Target
from only1mcp.wire import jsonrpc
from only1mcp.wire.asks import MULTI_ROUND
from only1mcp.wire.content import UNKNOWN
from only1mcp.wire.mcp import HANDSHAKE, STATELESS

log = logging.getLogger("only1mcp.proxy")


class Cancellable(Protocol):
    """What is done for a request; `ticket` is how its client may call it off, None in the stateless era."""

    @property
    def ticket(self) -> Ticket | None: ...

    def cancel(self) -> None: ...


class Forwarder:
    """Answers exchanges from backends; knows which of them their clients may still cancel."""

    def __init__(self, cache: ResponseCache | None, metrics: Metrics) -> None:
        self._cache = cache
        self._metrics = metrics
        self._flights = Flights(self, metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        # What `notifications/cancelled` of a handshake client may refer to, and how the work for it is stopped.
        self._cancellable: dict[Ticket, Cancellable] = {}

    def maybe_cached(self, exchange: Exchange, target: Target, method: str) -> bool:
        """Answer from the cache and return True, if the answer is there."""
        if self._cache is None:
            return False
        key = exchange.cache_key = self._key(self._cache, exchange, target, method)
        if key is None:
            return False
        kept = self._cache.lookup(key, _now_ms())
        if kept is None:
            return False
        as_it_is = kept.era is exchange.era and exchange.revision not in UNKNOWN
        if as_it_is and not exchange.snapshot.rewrites_uris:
            exchange.reply(200, jsonrpc.result(exchange.id, kept.result))
        else:
            source = target.group.source
            info = source.inventory.peer.server_info if source is not None and source.inventory is not None else {}
            answer = Answer(scan(jsonrpc.result(exchange.id, kept.result)), kept.era, info)
            status, body = to_client(exchange, target, method, answer)
            exchange.reply(status, body)
        return True

    def forward(self, exchange: Exchange, target: Target, method: str) -> Coroutine[Any, Any, None] | None:
        """Send the request on; return the work for a task, or None when it goes without one."""
        key = exchange.cache_key
        if key is not None and self._flights.takes(key):
            self.remember(self._flights.board(exchange, target, method, key))
            return None
        forwarding = Forwarding(self, exchange, target, method, None)
        if (
            exchange.era is STATELESS
            and target.group.era is HANDSHAKE
            and method in MULTI_ROUND
            and exchange.snapshot.desk.lot.takes(forwarding)
        ):
            return None
        target = forwarding.target
        forwarding.endpoint = target.group.pick(target.hash_key)
        self.begin(forwarding)
        return None

    def begin(self, forwarding: Forwarding) -> None:
        """Send the request on; the exchange is answered later, and may be left before that."""
        exchange, target, endpoint = forwarding.exchange, forwarding.target, forwarding.endpoint
        stop = None if endpoint is None else maybe_begin(exchange, target, endpoint, self._metrics, forwarding.done)
        if stop is None:
            self._spawn(forwarding, None)
            return
        forwarding.stop = stop
        exchange.http.defer(forwarding.abandon)
        self.remember(forwarding)

    def take_over(self, exchange: Exchange, target: Target, begun: Begun) -> DirectCall:
        """Do for an exchange whose call has been sent already what `forward` does; return who hears of the answer."""
        forwarding = Forwarding(self, exchange, target, "tools/call", begun.endpoint)
        direct, forwarding.stop = take_over(exchange, target, begun, self._metrics, forwarding.done)
        exchange.http.defer(forwarding.abandon)
        self.remember(forwarding)
        return direct

    def cancel(self, session: str, request_id: bytes) -> None:
        """Stop what is done for a request, because its client says so; its response is an error."""
        forwarding = self._cancellable.get((session, request_id))
        if forwarding is not None:
            forwarding.cancel()

    def deliver(self, exchange: Exchange, target: Target, method: str, answer: Answer) -> None:
        """Answer the client, and keep the result where it may be kept."""
        if isinstance(answer.outcome, Passed):
            exchange.end_passing()
            return
        crossed = answer.era is not exchange.era and exchange.era is HANDSHAKE
        if crossed and exchange.snapshot.desk.asker.wants_rounds(exchange, answer):
            self._spawn(Forwarding(self, exchange, target, method, None), None, answer)
            return
        status, body = to_client(exchange, target, method, answer)
        if exchange.cache_key is not None:
            self._keep(exchange.cache_key, answer)
        exchange.reply(status, body)

    def remember(self, work: Cancellable) -> None:
        if work.ticket is not None:
            self._cancellable[work.ticket] = work

    def forget(self, work: Cancellable) -> None:
        # A client that uses an id twice can cancel the later request only; the earlier one must not take that away.
        if work.ticket is not None and self._cancellable.get(work.ticket) is work:
            del self._cancellable[work.ticket]

    # For those who wait for the call of another.

    def shareable(self, passenger: Passenger, answer: Answer) -> bool:
        """Keep the answer where that is allowed; return whether it may be given to others."""
        # An error is what each of them would have been told; any other result must be one that could be kept.
        message, key = answer.message, passenger.key
        return message.result is None or self._keep(key, answer) or failed(key, message.data[slice(*message.result)])

    def hand_over(self, passenger: Passenger, answer: Answer) -> None:
        """Answer the client with what another has asked for as well."""
        exchange = passenger.exchange
        exchange.cache_key = None  # it is kept already, where it may be
        try:
            self.deliver(exchange, passenger.target, passenger.method, answer)
        except HeadersRefused as refused:
            forwarding = Forwarding(self, exchange, passenger.target, passenger.method, None, passenger.began)
            self.mend(forwarding, refused)

    def mend(self, forwarding: Forwarding, refused: HeadersRefused) -> None:
        """Make a call again whose headers were refused, unless it has said something already; never raises."""
        if forwarding.exchange.http.started_response:
            forwarding.exchange.refuse(refused)
        else:
            self._spawn(forwarding, refused)

    def send_alone(self, passenger: Passenger) -> None:
        """Make a call for this one exchange after all, within the time that is left."""
        forwarding = Forwarding(self, passenger.exchange, passenger.target, passenger.method, None, passenger.began)
        self._spawn(forwarding, None)

    def _spawn(self, forwarding: Forwarding, failure: BackendError | None, asking: Answer | None = None) -> None:
        """Do it in a task of its own, which may outlive the exchange; `asking` is an answer that asks for more."""
        task = asyncio.get_running_loop().create_task(self._in_task(forwarding, failure, asking))
        forwarding.task = task
        forwarding.exchange.http.defer(forwarding.abandon)
        self.remember(forwarding)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_task(
        self, forwarding: Forwarding, failure: BackendError | None = None, asking: Answer | None = None
    ) -> None:
        exchange, target = forwarding.exchange, forwarding.target
        try:
            if asking is not None:
                answer = await exchange.snapshot.desk.asker.rounds(exchange, target, forwarding.method, asking)
            elif isinstance(failure, HeadersRefused):
                request_s = exchange.snapshot.request_s - forwarding.elapsed_s
                answer = await call_again(exchange, target, self._metrics, request_s, failure)
            else:
                answer = await perform(
                    exchange,
                    target,
                    self._metrics,
                    exchange.snapshot.config.proxy.timeouts.request_s - forwarding.elapsed_s,
                    first=forwarding.endpoint,
                    failure=failure,
                )
        except Only1MCPError as error:
            forwarding.done(error)
        except asyncio.CancelledError:
            self.forget(forwarding)
            if not forwarding.cancelled:
                raise
            forwarding.exchange.refuse(cancelled())
        except Exception:
            log.exception("exchange.failed")
            forwarding.done(Only1MCPError("internal error"))
        else:
            forwarding.done(answer)

    def _key(self, cache: ResponseCache, exchange: Exchange, target: Target, method: str) -> Key | None:
        """Return what the answer may be found under, None where nobody has said that it may be kept."""
        item, group = target.item, target.group
        ttl_ms = None if item is None else item.kept_ms
        if method == "tools/call":
            if ttl_ms is None:
                return None
        elif method not in ("resources/read", "prompts/get"):
            return None
        elif ttl_ms is None:
            source = group.source
            if source is None or source.peer is None or source.peer.era is not STATELESS:
                return None  # only in the stateless era there are hints
        message, principal = exchange.message, exchange.principal
        if message is None or message.params is None or target.original is None:
            return None
        assert principal is not None
        params = message.data[slice(*message.params)]
        return cache.key(
            Asked(principal, group.id, method, target.original, params, exchange.revision, ttl_ms, group.shares)
        )

    def _keep(self, key: Key, answer: Answer) -> bool:
        """Keep a result where that is allowed; return whether it is, also where there is no room."""
        span = answer.message.result
        if self._cache is None or span is None:
            return False
        result = answer.message.data[slice(*span)]
        hints = self._cache.hints(key, result, answer.era)
        if hints is None:
            return False
        self._cache.store(key, result, answer.era, hints, _now_ms())
        return True


class Forwarding:
    """One exchange on its way; `ticket` is how its client may call it off, None in the stateless era."""

    __slots__ = (
        "_began",
        "cancelled",
        "endpoint",
        "exchange",
        "forwarder",
        "lot",
        "method",
        "parked",
        "stop",
        "target",
        "task",
        "ticket",
    )

    def __init__(
        self,
        forwarder: Forwarder,
        exchange: Exchange,
        target: Target,
        method: str,
        endpoint: Endpoint | None,
        began: float | None = None,
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
        # Who is told of the outcome first, where the client may be asked by parking the call, and what it keeps of it.
        self.lot: Lot | None = None
        self.parked: Any = None
        # Asking for the running loop is a system call, so only those ask who need it.
        self._began = exchange.http.started if began is None else began

    @property
    def elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def done(self, outcome: Answer | Only1MCPError) -> None:
        """Take the outcome of the call; never raises, it is called from the event loop."""
        forwarder = self.forwarder
        forwarder.forget(self)
        self._ask_no_more()
        in_task = self.task is not None
        self.stop = self.task = None
        exchange = self.exchange
        try:
            if self.lot is not None and self.lot.settles(self, outcome):
                return
            if isinstance(outcome, Answer):
                forwarder.deliver(exchange, self.target, self.method, outcome)
            elif (
                isinstance(outcome, BackendError)
                and outcome.retryable
                and not (in_task or exchange.http.started_response)
            ):
                forwarder._spawn(self, outcome)
            else:
                exchange.work = None
                exchange.refuse(outcome)
        except HeadersRefused as refused:
            forwarder.mend(self, refused)
        except Only1MCPError as error:
            exchange.refuse(error)
        except Exception:  # the edge: whatever goes wrong becomes an answer
            log.exception("exchange.failed")
            if not exchange.http.finished:
                exchange.refuse(Only1MCPError("internal error"))

    def abandon(self) -> None:
        """The client has gone: nobody waits, unless it can come back to its stream."""
        journal = self.exchange.journal
        if journal is not None and journal.detached(self.abandon):
            return
        self.give_up()

    def give_up(self) -> None:
        """Stop the work: nobody waits for its outcome."""
        self.forwarder.forget(self)
        self._ask_no_more()
        self.exchange.work = None
        stop, self.stop = self.stop, None
        if stop is not None:
            stop()
        elif self.task is not None:
            self.task.cancel()

    def cancel(self) -> None:
        """The client says that it does not wait any more; it gets an error as its response."""
        self._ask_no_more()
        if self.task is not None:
            self.cancelled = True
            self.task.cancel()
        else:
            self.abandon()
            self.exchange.refuse(cancelled())

    def _ask_no_more(self) -> None:
        exchange = self.exchange
        if exchange.streaming:
            exchange.snapshot.desk.asker.over(exchange)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
