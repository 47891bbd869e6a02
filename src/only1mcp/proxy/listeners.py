"""Those who hear of changes: a `subscriptions/listen` of the stateless era, a session of the handshake era."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from only1mcp.errors import Overloaded
from only1mcp.proxy.streams import MAX_WAITING_BYTES, ClientStream
from only1mcp.proxy.views import View, Views
from only1mcp.wire import listen, sse
from only1mcp.wire.listen import KINDS, Filter
from only1mcp.wire.mcp import HANDSHAKE, STATELESS

if TYPE_CHECKING:
    from only1mcp.proxy.auth import Principal
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.task_watch import TaskWatch

# A client whose stream broke comes back after this long.
RETRY_MS: Final = 1000
# The revision from which on clients bear an event that has an id and no data.
PRIMING_SINCE: Final = "2025-11-25"
# What a session without a stream is not told of waits for the next one; of more resources all are told of.
MAX_MISSED: Final = 1000

_MARK: Final = "g"


class Listener:
    """One listen: `open` begins its stream; `on_end` is called once, however it ends."""

    __slots__ = (
        "_early",
        "_early_tasks",
        "_ending",
        "_exchange",
        "_on_end",
        "_stream",
        "_told",
        "_wall_clock",
        "id",
        "kinds",
        "over",
        "principal",
        "task_ids",
        "uris",
        "watch",
    )

    def __init__(self, exchange: Exchange, on_end: Callable[[Listener], None], wall_clock: Callable[[], float]) -> None:
        assert exchange.principal is not None
        self.principal: Principal = exchange.principal
        # The listen's own id, which every message carries.
        self.id = exchange.id
        self.kinds: frozenset[str] = frozenset()
        self.uris: tuple[str, ...] = ()
        self.task_ids: tuple[str, ...] = ()
        # Through which it hears of its tasks, where it has named any.
        self.watch: TaskWatch | None = None
        self.over = False
        self._wall_clock = wall_clock
        self._exchange = exchange
        self._on_end = on_end
        self._stream: ClientStream | None = None
        self._told: View = {}
        # What has changed before the acknowledgement, which comes first.
        self._early: dict[str, None] = {}
        self._early_tasks: dict[str, bytes] = {}
        self._ending = False

    @property
    def principal_id(self) -> str:
        return self.principal.id

    @property
    def owner(self) -> str:
        return self.principal.id

    def open(self, granted: Filter, views: Views) -> None:
        """Acknowledge what is granted, and tell of nothing else from now on."""
        self.kinds, self.uris = granted.kinds, granted.uris
        self._told = {kind: views.digest(kind, self.principal, STATELESS) for kind in self.kinds}
        self._stream = ClientStream(self._exchange, lambda _: self.gone(), self.close, self._wall_clock)
        self._stream.open(sse.encode(listen.acknowledged(self.id, granted)))
        early, self._early = self._early, {}
        for uri in early:
            self.updated(uri)
        tasks, self._early_tasks = self._early_tasks, {}
        for told in tasks.values():
            self._stream.send(told)
        if self._ending:
            self.close()

    def look(self, views: Views) -> None:
        """Tell of the lists that this client now sees otherwise."""
        for kind in KINDS:
            if kind in self.kinds and self._stream is not None and not self.over:
                digest = views.digest(kind, self.principal, STATELESS)
                if self._told[kind] != digest:
                    self._told[kind] = digest
                    self._stream.send(listen.changed(kind, self.id))

    def updated(self, uri: str) -> None:
        if self._stream is not None:
            self._stream.send(listen.updated(uri, self.id))
        else:
            self._early[uri] = None

    def task_told(self, id: str, told: bytes) -> None:
        """Tell, with this message, what has become of the task that this client knows by `id`."""
        if self._stream is not None:
            self._stream.send(told)
        elif sum(map(len, self._early_tasks.values())) + len(told) <= MAX_WAITING_BYTES:
            self._early_tasks[id] = told
        else:
            self.end()

    def end(self) -> None:
        """Tell no more: end the stream in order, after the acknowledgement if that is still to come."""
        self._ending = True
        if self._stream is not None:
            self.close()

    def close(self) -> None:
        """End the stream in order: the listen has its result. One that is not acknowledged yet is refused."""
        if self._stream is not None:
            self._stream.close(listen.ended(self.id))
        elif not self.over:
            self.gone()
            self._exchange.refuse(Overloaded("the proxy is shutting down", data={"hint": "listen again"}))

    def gone(self) -> None:
        """The stream has ended, or will not begin."""
        if not self.over:
            self.over = True
            self._on_end(self)


class SessionListener:
    """One session: what it subscribes to, and its stream while it has one. `on_end` is called when the stream ends."""

    __slots__ = (
        "_missed",
        "_on_end",
        "_stream",
        "_told",
        "_wall_clock",
        "busy",
        "over",
        "principal",
        "session_id",
        "timer",
        "uris",
    )

    def __init__(
        self, exchange: Exchange, on_end: Callable[[SessionListener], None], wall_clock: Callable[[], float]
    ) -> None:
        assert exchange.principal is not None
        assert exchange.session is not None
        self.principal: Principal = exchange.principal
        self.session_id = exchange.session.id
        self.uris: set[str] = set()
        # Subscriptions that wait for their backends.
        self.busy = 0
        self.over = False
        # When it is forgotten.
        self.timer: asyncio.TimerHandle | None = None
        self._wall_clock = wall_clock
        self._on_end = on_end
        self._stream: ClientStream | None = None
        self._told: View = {}
        self._missed: dict[str, None] = {}

    @property
    def principal_id(self) -> str:
        return self.principal.id

    @property
    def owner(self) -> str:
        return self.session_id

    @property
    def attached(self) -> bool:
        """Whether it has a stream."""
        return self._stream is not None

    def open(self, exchange: Exchange, told: View | None, views: Views) -> None:
        """Begin the stream; `told` is what the client has seen, by the id of the last event it got."""
        assert exchange.session is not None
        assert exchange.principal is not None
        # The credentials of the request that opened the stream decide what it is told.
        self.principal = exchange.principal
        self._told = views.view(self.principal, HANDSHAKE) if told is None else told
        self._stream = ClientStream(exchange, self._ended, self.close, self._wall_clock)
        if exchange.session.revision >= PRIMING_SINCE:
            self._stream.open(f"id: {self._event_id}\nretry: {RETRY_MS}\ndata: \n\n".encode())
        else:
            self._stream.open(b": \n\n")
        self.look(views)
        missed, self._missed = self._missed, {}
        for uri in missed:
            self.updated(uri)

    def look(self, views: Views) -> None:
        """Tell of the lists that this client now sees otherwise."""
        for kind in KINDS:
            if self._stream is not None:
                digest = views.digest(kind, self.principal, HANDSHAKE)
                if self._told.get(kind) != digest:
                    self._told[kind] = digest
                    self._stream.send(listen.changed(kind, None), self._event_id)

    def updated(self, uri: str) -> None:
        if self._stream is not None:
            self._stream.send(listen.updated(uri, None), self._event_id)
        elif len(self._missed) < MAX_MISSED:
            self._missed[uri] = None
        else:
            self._missed = dict.fromkeys(self.uris)

    def say(self, message: bytes) -> bool:
        """Send a message that is for this session alone; False: it is dropped, for want of a stream or of a reader.

        A backend that chatters must not cost its client the stream.
        """
        if self._stream is None or self._stream.crowded:
            return False
        self._stream.send(message, self._event_id)
        return True

    def forget(self, uri: str) -> None:
        """It has unsubscribed."""
        self.uris.discard(uri)
        self._missed.pop(uri, None)

    def close(self) -> None:
        """End the stream in order."""
        if self._stream is not None:
            self._stream.close()

    @property
    def _event_id(self) -> str:
        return ".".join((_MARK, *(self._told[kind] for kind in KINDS)))

    def _ended(self, stream: ClientStream) -> None:
        if stream is self._stream:
            self._stream = None
            self._on_end(self)


def view_of(event_id: str) -> View | None:
    """Return what a client had seen that got the event with this id last, None for an id that is not of these."""
    mark, *digests = event_id.split(".")
    if mark != _MARK or len(digests) != len(KINDS) or any(len(each) != 16 or not each.isalnum() for each in digests):
        return None
    return dict(zip(KINDS, digests, strict=True))
