"""Plain calls of tools: made and answered with one object, where an ordinary exchange has a dozen.

A call is plain when nothing is left to decide but where it goes, and what may have changed since the last one. What
follows from the octets of its head is known from calls that went the ordinary way over the same connection with the
same head (`KnownCall`). What may have changed is asked every time: credentials, session, rate limit, the catalog, the
state of the backend, how much is in flight.

A plain call does two things itself: it goes out, and it comes back with a result. In whatever else happens to it (the
client leaves, sends more or cancels; the backend answers otherwise, late or not at all; we stop) it first becomes the
ordinary exchange that it would have been from the start (`PlainCall.ordinary`), which knows what to do.
"""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING, Final, Protocol

from only1mcp import _fast
from only1mcp._fast import pick, says, scan
from only1mcp.backend.endpoint import State
from only1mcp.backend.lane import MAX_DIRECT_BYTES
from only1mcp.errors import ProtocolError
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.letterhead import DatedHead
from only1mcp.proxy.access import log_again, wanted
from only1mcp.proxy.exchange import COPIED_BYTES, JSON, Exchange, Snapshot
from only1mcp.proxy.public import may_change
from only1mcp.proxy.ratelimit import RateLimiter, caller_key
from only1mcp.proxy.route import hash_key_of, plain_route, to_item
from only1mcp.wire import mcp
from only1mcp.wire.content import UNKNOWN, has_unknown
from only1mcp.wire.mcp import STATELESS

if TYPE_CHECKING:
    from only1mcp._fast.calls import CallText
    from only1mcp._fast.known import KnownHead
    from only1mcp.backend.base import Transport
    from only1mcp.backend.connection import HttpConnection
    from only1mcp.backend.direct import DirectCall
    from only1mcp.backend.endpoint import Endpoint
    from only1mcp.backend.era import Peer
    from only1mcp.backend.lane import DirectLane
    from only1mcp.frontend.repeating import RepeatingConnection
    from only1mcp.frontend.session import Session, SessionSealer
    from only1mcp.metrics import Metrics
    from only1mcp.proxy.auth import Authenticator, Principal
    from only1mcp.proxy.forward import Forwarder
    from only1mcp.proxy.group import Group
    from only1mcp.proxy.route import Route
    from only1mcp.proxy.verdict import Verdict

METHOD: Final = "tools/call"
# Of what a stateless client says of itself in every request: a longer text is read anew each time.
MAX_META_BYTES: Final = 1024

# A member costs more to look up in its class than the comparison with it.
_UP = State.UP
_META = (mcp.META_VERSION.encode(), mcp.META_CAPABILITIES.encode())


class Stage(Protocol):
    """The pipeline, as plain calls see it."""

    snapshot: Snapshot

    def enters(self) -> bool:
        """Count one more request in flight and return True, or return False where there are too many."""

    def leaves(self) -> None:
        """Count one less."""

    def finish(self, http: HttpExchange) -> None:
        """An ordinary exchange has ended."""


class PlainCalls:
    """Finds out which calls are plain, and what all of them need."""

    def __init__(
        self,
        stage: Stage,
        forwarder: Forwarder,
        *,
        authenticator: Authenticator,
        limiter: RateLimiter | None,
        sealer: SessionSealer,
        caches: bool,
        metrics: Metrics,
    ) -> None:
        self.stage = stage
        self.forwarder = forwarder
        self.authenticator = authenticator
        self.limiter = limiter
        self.sealer = sealer
        self.metrics = metrics
        self.slot = metrics.slot_of(METHOD, 200)
        self.caches = caches
        # Those in flight that their clients may cancel, in the order in which they came.
        self.running: dict[PlainCall, None] = {}

    def learn(self, exchange: Exchange) -> None:
        """Remember, of a call that goes the ordinary way, what the next ones with the same head need not find out."""
        http = exchange.http
        if http.counts_call():
            verdict: Verdict | None = http.head.verdict
            if verdict is not None and http.vouched is None and verdict.era is not None:
                http.may_call_again(KnownCall(self, exchange, verdict))

    def cancel(self, session: str, request_id: bytes) -> None:
        """Let the calls with that id, of that session, become ordinary ones, which can be cancelled."""
        for call in list(self.running):
            owner = call.known.session
            if owner is not None and owner.id == session and call.text.id() == request_id:
                call.ordinary()


class KnownCall:
    """What was found out about the calls that come over one connection with the same head.

    It holds nothing of a snapshot, which an idle connection would keep alive.
    """

    __slots__ = (
        "_by_tool",
        "_hash_key",
        "_limit_key",
        "_mark",
        "_meta",
        "_owner",
        "_token",
        "_version",
        "calls",
        "cors",
        "era",
        "head",
        "headers",
        "older",
        "principal",
        "revision",
        "session",
        "stateless",
    )

    def __init__(self, calls: PlainCalls, exchange: Exchange, verdict: Verdict) -> None:
        head, message = exchange.http.head, exchange.message
        assert exchange.principal is not None
        assert message is not None
        self.calls = calls
        self.head = head
        self.cors = verdict.cors
        self.principal: Principal = exchange.principal
        self.session: Session | None = exchange.session
        self.era = verdict.era
        self.revision = exchange.revision
        self.older = exchange.revision in UNKNOWN
        self._mark = exchange.snapshot.mark
        self._owner = exchange.owner
        self._limit_key = caller_key(self.principal, exchange.http.peer)
        token = None if self.session is None else head.get(mcp.HEADER_SESSION)
        self._token = "" if token is None else token.decode("latin-1")
        self.stateless = verdict.era is STATELESS
        routing = verdict.routing
        # What `_meta` must say, where the head says it of a call.
        said = None if routing is None or routing.plain_method != METHOD else routing.version
        self._version = b"" if said is None or routing is None or routing.revision is None else said
        # What stood in `_meta` and has been held against the head; the next one mostly says the same.
        meta = b"" if message.meta is None else message.data[slice(*message.meta)]
        self._meta = meta if len(meta) <= MAX_META_BYTES else b""
        self.headers = DatedHead([JSON, *exchange.cors])
        # What a group balances by. Where it is arguments no call is plain, and those of this one are not kept.
        hash_key = exchange.snapshot.config.proxy.load_balancer.hash_key
        self._by_tool = hash_key == "tool"
        self._hash_key = b"" if hash_key == "arguments" else hash_key_of(exchange, "")

    def maybe_begin(self, client: RepeatingConnection, octets: KnownHead, data: bytes, size: int) -> bool:
        """Take a request with the known head, of `size` octets, if it is a plain call, and send it on.

        False where it has to go the ordinary way: then nothing has changed.
        """
        calls = self.calls
        snapshot: Snapshot = calls.stage.snapshot
        if snapshot.mark is not self._mark or len(data) > MAX_DIRECT_BYTES:
            return False
        began = perf_counter()
        text = _fast.maybe_call(data, size, snapshot.max_depth)
        if text is None or (self.stateless and not self._agrees(text, octets)):
            return False
        name = text.name()
        route = plain_route(snapshot, name, calls.caches)
        if route is None or not self._may_call(route):
            return False
        group: Group = route.group
        # Of a group that is taken to be of the other era, the call may have been parked that this one goes on with.
        if group.era is not self.era:
            return False
        key = name if self._by_tool else self._hash_key
        endpoint = group.pick(key)
        if endpoint is None:
            return False
        if self._begins(client, text, snapshot, route, endpoint, began):
            return True
        group.give_back(endpoint, key)
        return False

    def _begins(
        self,
        client: RepeatingConnection,
        text: CallText,
        snapshot: Snapshot,
        route: Route,
        endpoint: Endpoint,
        began: float,
    ) -> bool:
        """Send the call to the endpoint if that needs no waiting and nothing speaks against it."""
        if endpoint.state is not _UP or endpoint.exclusive or endpoint.era is not self.era:
            return False
        calls = self.calls
        transport, peer = endpoint.transport, endpoint.peer
        lane = None if transport is None else transport.lane
        if transport is None or peer is None or lane is None or not self._holds():
            return False
        head = lane.head_of_call(route.item.original)
        if head is None:
            return False
        connection = lane.pool.maybe_acquire()
        if connection is None:
            return False
        started = client.now()
        limiter = calls.limiter
        # Last, since both count.
        if not calls.stage.enters():
            lane.pool.release(connection)
            return False
        if limiter is not None and limiter.check(self._limit_key, started) > 0:
            calls.stage.leaves()
            lane.pool.release(connection)
            return False
        if lane.sole:
            lane.serve(self._owner)
        call = PlainCall(self, text, snapshot, route, endpoint, transport, peer, lane, connection, client)
        call.began = began
        call.started = started
        call.begin(head)
        return True

    def _agrees(self, text: CallText, octets: KnownHead) -> bool:
        """Return whether the body says what the head says, in the sense of `wire.classify.check_stateless`."""
        if not self._version or not text.named_at(octets.name_start, octets.name_end):
            return False
        if text.has_meta(self._meta):
            return True
        meta = text.meta_span()
        if meta is None:
            return False
        try:
            version, capabilities = pick(text.data, meta, _META)
        except ProtocolError:
            return False
        if version is None or not says(text.data, version, self._version):
            return False
        return capabilities is not None and text.data[capabilities[0] : capabilities[0] + 1] == b"{"

    def _may_call(self, route: Route) -> bool:
        principal = self.principal
        return principal.tools is None or principal.may_call(route.item.key)

    def _holds(self) -> bool:
        """Return whether the client is still who it was found to be."""
        calls, session = self.calls, self.session
        now = time()
        if not calls.authenticator.holds(self.principal, now):
            return False
        return session is None or calls.sealer.holds(self._token, session, now)


class PlainCall:
    """A plain call on its way; `began` and `sent_at` are of `time.perf_counter`, the other times the event loop's."""

    __slots__ = (
        "began",
        "client",
        "connection",
        "deadline",
        "endpoint",
        "known",
        "lane",
        "number",
        "peer",
        "route",
        "sent_at",
        "snapshot",
        "started",
        "text",
        "transport",
    )

    def __init__(
        self,
        known: KnownCall,
        text: CallText,
        snapshot: Snapshot,
        route: Route,
        endpoint: Endpoint,
        transport: Transport,
        peer: Peer,
        lane: DirectLane,
        connection: HttpConnection,
        client: RepeatingConnection,
    ) -> None:
        self.known = known
        self.text = text
        self.snapshot = snapshot
        self.route = route
        self.endpoint = endpoint
        self.transport = transport
        self.peer = peer
        self.lane = lane
        self.connection = connection
        self.client = client
        self.number = endpoint.next_number()
        self.began = self.sent_at = self.started = self.deadline = 0.0

    def begin(self, head: bytes) -> None:
        """Send the request; `head` is that of the backend's requests."""
        self.client.begin_plain(self)
        self.endpoint.in_flight += 1
        known = self.known
        if known.session is not None:
            known.calls.running[self] = None
        self.deadline = self.started + min(self.endpoint.timeout_s, self.snapshot.request_s)
        self.lane.watch().watch(self, self.deadline)
        self.sent_at = perf_counter()
        self.connection.begin_plain(self.text.request(head, self.number, self.route.renamed), self)

    def maybe_answered(self, data: bytes, size: int) -> bool:
        """Answer the client if this is a result and nothing in it has to change but its id."""
        known, client = self.known, self.client
        snapshot = self.snapshot
        if len(data) - size > COPIED_BYTES or (snapshot.rewrites and may_change(snapshot, data)):
            return False
        if known.older and has_unknown(data, known.revision):
            return False
        head = client.head_of_answer(known.headers)
        message = self.text.answer(head, data, size, self.number, known.stateless)
        if message is None:
            return False
        self.connection.took_answer()
        self.lane.pool.release(self.connection)
        self._forget()
        endpoint, calls = self.endpoint, known.calls
        endpoint.in_flight -= 1
        calls.metrics.backend_answered(endpoint.id, perf_counter() - self.sent_at)
        client.answer_plain(message)
        calls.stage.leaves()
        duration_s = perf_counter() - self.began
        calls.metrics.finished_as(calls.slot, duration_s)
        if wanted():
            octets = len(message) - message.index(b"\r\n\r\n") - 4
            log_again(known.head, client.peer, octets, duration_s, known.principal, METHOD, endpoint.id)
        return True

    def ordinary(self) -> DirectCall:
        """Become an ordinary exchange at the point where this call is; return who hears of its answer from now on."""
        known, client = self.known, self.client
        self._forget()
        head, body = client.end_plain(self.text.data)
        http = HttpExchange(client, head, client.peer, client.tls, self.started)
        http.body = body
        exchange = Exchange(http, self.snapshot)
        exchange.began = self.began
        exchange.principal = known.principal
        exchange.era = known.era
        exchange.revision = known.revision
        exchange.session = known.session
        exchange.cors = known.cors
        exchange.message = message = scan(body, self.snapshot.max_depth)
        exchange.method = METHOD
        exchange.backend = self.endpoint.id
        exchange.forwarded = True
        http.state = exchange
        http.on_finish = known.calls.stage.finish
        client.take_up(http)
        assert message.name is not None
        target = to_item(exchange, self.route, self.text.name().decode(), message.name)
        direct = known.calls.forwarder.take_over(exchange, target, self)
        self.connection.hand_to(direct)
        return direct

    def expire(self) -> None:
        """The deadline has passed."""
        self.ordinary().expire()

    def close(self) -> None:
        """The transport closes: no answer will come."""
        self.ordinary().close()

    def _forget(self) -> None:
        self.lane.watch().remove(self)
        self.known.calls.running.pop(self, None)
