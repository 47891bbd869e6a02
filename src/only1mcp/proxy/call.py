"""One call to a backend: choose the endpoint, translate, forward, and bring back what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from only1mcp._fast import ERROR
from only1mcp.backend.base import CALLER, BackendCall, Outcome, Passed, Transport
from only1mcp.backend.endpoint import Endpoint
from only1mcp.backend.era import Peer
from only1mcp.backend.line import Line
from only1mcp.errors import BackendAnswerError, BackendError, BackendTimeout, BackendUnavailable, ProtocolError
from only1mcp.metrics import Metrics
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.public import as_public
from only1mcp.proxy.relay import Relay
from only1mcp.proxy.route import Target, mirrored_of
from only1mcp.proxy.tasks import may_hold
from only1mcp.wire import content
from only1mcp.wire.eras import NO_STAMP, Caller, stamp_of, to_backend
from only1mcp.wire.eras import to_client as answer_to_client
from only1mcp.wire.mcp import NAMED_BY, STATELESS, Era
from only1mcp.wire.mirror import param_headers

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.backend.connection import HttpConnection
    from only1mcp.backend.direct import DirectCall
    from only1mcp.backend.lane import DirectLane
    from only1mcp.frontend.session import Session
    from only1mcp.proxy.desk import Desk

# A call whose endpoint could not take it tries others; each was safe to leave, since nothing had reached it.
MAX_ATTEMPTS = 3


class Answer:
    """What a backend said, in its own era, and who it says it is."""

    __slots__ = ("era", "outcome", "server_info")

    def __init__(self, outcome: Outcome, era: Era, server_info: dict[str, Any]) -> None:
        self.outcome = outcome
        self.era = era
        self.server_info = server_info

    @property
    def message(self) -> Envelope:
        """The response; there is none any more where it has gone to its passage."""
        assert not isinstance(self.outcome, Passed)
        return self.outcome


async def perform(
    exchange: Exchange,
    target: Target,
    metrics: Metrics,
    request_s: float,
    *,
    first: Endpoint | None = None,
    failure: BackendError | None = None,
    message: Envelope | None = None,
) -> Answer:
    """Forward the exchange's request and return the answer; interim messages go to the client on the way.

    Raise `BackendError`. A call that left nothing behind (`retryable`) moves on to another endpoint of the group, or
    to the same one after it has reconnected. `first` is the endpoint whose turn it is, if it has been picked already,
    and `failure` how the first attempt ended there, if it has been made. `message` is what is sent instead of the
    exchange's own request, in a later round of it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + request_s
    last = failure
    failed: set[str] = set()
    if first is not None and failure is not None:
        failed.add(first.id)
        first = None
    for _ in range(MAX_ATTEMPTS - len(failed)):
        endpoint, first = first or _pick(target, failed), None
        if endpoint is None:
            break
        exchange.backend = endpoint.id
        budget = min(endpoint.config.timeout_ms / 1000, deadline - loop.time())
        if budget <= 0:
            break
        began = perf_counter()
        try:
            line = await endpoint.line_for(exchange.owner, budget)
            peer = line.peer
            assert peer is not None
            answer = await _attempt(exchange, target, line, peer, budget - (perf_counter() - began), message)
        except BackendError as error:
            metrics.backend_failed(endpoint.id, perf_counter() - began)
            last = error
            if not error.retryable or exchange.http.started_response:
                raise
            failed.add(endpoint.id)
            continue
        except asyncio.CancelledError:
            # The client has left or cancelled: no fault of the backend, whatever it was about to say.
            metrics.backend_answered(endpoint.id, perf_counter() - began)
            raise
        metrics.backend_answered(endpoint.id, perf_counter() - began)
        return Answer(answer, peer.era, peer.server_info)
    if last is not None:
        raise last
    raise BackendUnavailable(
        f"no healthy backend for {target.group.id!r}",
        data={"backend": target.group.id, "hint": "see /ready for the state of every backend"},
    )


def maybe_begin(
    exchange: Exchange,
    target: Target,
    endpoint: Endpoint,
    metrics: Metrics,
    done: Callable[[Answer | BackendError], None],
) -> Callable[[], None] | None:
    """Forward the request without a task if the endpoint is up and can take it at once, else return None.

    `done` is called once, later, with what the first attempt of `perform` would bring; the returned function calls it
    off.
    """
    transport, peer = endpoint.transport, endpoint.peer
    if transport is None or peer is None or endpoint.exclusive:
        return None
    attempt = _Attempt(endpoint, transport, peer, metrics, done)
    timeout_s = min(endpoint.timeout_s, exchange.snapshot.request_s)
    call = _prepare(exchange, target, endpoint, peer, timeout_s)
    attempt.cancel_call = transport.maybe_begin(call, attempt.ended)
    if attempt.cancel_call is None:
        return None
    endpoint.in_flight += 1
    exchange.backend = endpoint.id
    return attempt.cancel


def take_over(
    exchange: Exchange,
    target: Target,
    begun: Begun,
    metrics: Metrics,
    done: Callable[[Answer | BackendError], None],
) -> tuple[DirectCall, Callable[[], None]]:
    """Go on with a call that has been sent already: return who hears of its answer, and what calls it off.

    `done` is called once, later, as that of `maybe_begin` is.
    """
    endpoint = begun.endpoint
    attempt = _Attempt(endpoint, begun.transport, begun.peer, metrics, done)
    attempt._began = begun.sent_at
    timeout_s = min(endpoint.timeout_s, exchange.snapshot.request_s)
    call = _prepare(exchange, target, endpoint, begun.peer, timeout_s, None, b"%d" % begun.number)
    direct = begun.lane.resume(call, begun.connection, begun.deadline, attempt.ended)
    attempt.cancel_call = direct.cancel
    return direct, attempt.cancel


class Begun(Protocol):
    """A call on its way: where it was sent, when (`time.perf_counter`), as which number, and until when it may take."""

    endpoint: Endpoint
    transport: Transport
    peer: Peer
    lane: DirectLane
    connection: HttpConnection
    number: int
    sent_at: float
    deadline: float


class _Attempt:
    """One call that goes without a task: after it has begun, either it ends or it is cancelled."""

    __slots__ = ("_began", "_done", "_endpoint", "_metrics", "_peer", "_transport", "cancel_call")

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        peer: Peer,
        metrics: Metrics,
        done: Callable[[Answer | BackendError], None],
    ) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._peer = peer
        self._metrics = metrics
        self._done = done
        self._began = perf_counter()
        self.cancel_call: Callable[[], None] | None = None

    def ended(self, outcome: Outcome | BackendError) -> None:
        self.cancel_call = None
        duration_s = perf_counter() - self._began
        if isinstance(outcome, BackendError):
            error = self._endpoint.learn(self._transport, outcome)
            self._endpoint.in_flight -= 1
            self._metrics.backend_failed(self._endpoint.id, duration_s)
            self._done(error)
        else:
            self._endpoint.in_flight -= 1
            self._metrics.backend_answered(self._endpoint.id, duration_s)
            self._done(Answer(outcome, self._peer.era, self._peer.server_info))

    def cancel(self) -> None:
        """The client has left or cancelled: no fault of the backend, whatever it was about to say."""
        cancel_call, self.cancel_call = self.cancel_call, None
        if cancel_call is not None:
            self._endpoint.in_flight -= 1
            self._metrics.backend_answered(self._endpoint.id, perf_counter() - self._began)
            cancel_call()


def _pick(target: Target, failed: set[str]) -> Endpoint | None:
    return target.group.pick(target.hash_key, frozenset(failed)) or target.group.pick(target.hash_key)


def caller_of(session: Session, desk: Desk) -> tuple[Caller, bytes | None]:
    """Return who speaks when a stateless backend is asked for this session's client, and the log level it has set."""
    level = desk.sessions.level(session)
    return _caller(session.client_info, desk.asker.declared(session)), None if level is None else orjson.dumps(level)


@lru_cache(maxsize=1024)
def _caller(client_info: bytes, capabilities: bytes) -> Caller:
    return Caller(client_info or CALLER.client_info, capabilities)


async def _attempt(
    exchange: Exchange, target: Target, line: Line, peer: Peer, timeout_s: float, message: Envelope | None
) -> Outcome:
    if timeout_s <= 0:
        raise BackendTimeout(f"backend {line.id!r} did not come up in time", data={"backend": line.id})
    return await line.call(_prepare(exchange, target, line, peer, timeout_s, message))


def _prepare(
    exchange: Exchange,
    target: Target,
    endpoint: Line,
    peer: Peer,
    timeout_s: float,
    message: Envelope | None = None,
    id: bytes | None = None,
) -> BackendCall:
    if message is None:
        message = exchange.message
    assert message is not None
    assert exchange.era is not None
    if id is None:
        id = endpoint.next_id()
    caller, level = CALLER, None
    if peer.era is STATELESS and exchange.session is not None:
        caller, level = caller_of(exchange.session, exchange.snapshot.desk)
    outbound = to_backend(message, id, exchange.era, peer.era, peer.revision, caller, target.replace, level)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if target.item is not None and target.item.annotations and peer.era is STATELESS:
        headers = param_headers(target.item.annotations, mirrored_of(message, target.item.annotations))
    relay = Relay(exchange, endpoint, peer, outbound.progress_token)
    return BackendCall(
        message.method or "",
        outbound.message,
        id,
        timeout_s,
        target.original if message.method in NAMED_BY else None,
        headers,
        relay,
        # Others may wait for a call whose answer can be kept, and must not wait for the reader of the first.
        relay if exchange.cache_key is None else None,
        exchange if _may_pass(exchange, peer) else None,
        relay,
    )


def _may_pass(exchange: Exchange, peer: Peer) -> bool:
    """Return whether nothing in a result will be changed or kept, so that it need not be here as a whole."""
    snapshot = exchange.snapshot
    return (
        peer.era is exchange.era
        and exchange.cache_key is None
        and (not snapshot.rewrites or not (snapshot.rewrites_uris or may_hold(exchange)))
        and not (exchange.revision in content.UNKNOWN and exchange.method in content.ANSWERS)
    )


def to_client(exchange: Exchange, target: Target, method: str, answer: Answer) -> tuple[int, bytes]:
    """Return HTTP status and body of the backend's answer as this client must see it.

    Raise `BackendAnswerError` for an answer that cannot be translated.
    """
    assert exchange.era is not None
    server_info = NO_STAMP if answer.era is exchange.era else stamp_of(answer.server_info)
    message = answer.message
    status, body = answer_to_client(
        message, exchange.id, method, target.original, exchange.era, answer.era, server_info
    )
    if message.kind == ERROR:
        body = exchange.snapshot.desk.asker.explained(exchange, body)
    if exchange.snapshot.rewrites:
        body = as_public(exchange, target.group.id, method, body)
    if exchange.revision in content.UNKNOWN:
        body = _in_older_types(body, method, exchange.revision)
    return status, body


def _in_older_types(body: bytes, method: str, revision: str) -> bytes:
    try:
        return content.for_revision(body, method, revision)
    except ProtocolError as error:
        raise BackendAnswerError(f"the backend's answer cannot be used: {error.message}") from error
