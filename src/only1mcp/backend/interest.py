"""What clients want of a backend beyond calls: resources they subscribe to, asked for once and on every connection.

The handshake era asks with `resources/subscribe` for each resource, the stateless era with one `subscriptions/listen`
that names all of them and is replaced by another when they change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from only1mcp._fast import ERROR, members
from only1mcp.backend import backoff
from only1mcp.backend.base import CALLER, BackendCall, Transport
from only1mcp.backend.changes import hold_listen
from only1mcp.errors import (
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    BackendAnswerError,
    BackendTimeout,
    BackendUnavailable,
    Only1MCPError,
    Overloaded,
    ProtocolError,
    RequestRefused,
)
from only1mcp.wire import jsonrpc
from only1mcp.wire.eras import own_params
from only1mcp.wire.mcp import Era

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.backend.era import Peer
    from only1mcp.config.schema import BackendConfig

log = logging.getLogger("only1mcp.backend")

# What one backend is asked to watch; clients are refused more.
MAX_URIS: Final = 10_000
# Requests to subscribe that are under way to one backend at the same time.
AT_ONCE: Final = 16
# Resources that clients name one after the other go into one listen.
FILTER_DELAY_S: Final = 0.05
# No client waits longer for a backend to accept a subscription.
ANSWER_S: Final = 30.0


def subscribable(peer: Peer) -> bool:
    """Return whether the backend tells of changes of single resources."""
    return peer.offers("resources") and peer.capabilities["resources"].get("subscribe") is True


class Watched(Protocol):
    """Where resources are watched: an endpoint, or one owner's instance of it. Its `interest` is ours."""

    id: str
    timeout_s: float
    config: BackendConfig

    @property
    def transport(self) -> Transport | None:
        """The connection at hand."""

    async def ready(self, timeout_s: float) -> object:
        """Return when there is a connection; raise `BackendUnavailable`."""

    def next_id(self) -> bytes: ...

    def hear(self, message: Envelope) -> bool: ...


class _Line(Protocol):
    """One connection, and what has been asked for over it."""

    def settle(self, uri: str) -> None:
        """Ask for the resource, or for no more of it, as it is wanted now."""

    def close(self) -> None: ...


class _Want:
    __slots__ = ("answered", "count")

    def __init__(self) -> None:
        self.count = 0
        # When the backend has first accepted it, or refused.
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Subscriptions:
    """The resources of one endpoint that clients subscribe to, by the URI that the backend knows, and counted.

    `on_gap(uri)` is called when a resource is watched again after a time in which it may have changed unheard.
    """

    def __init__(self, endpoint: Watched, on_gap: Callable[[str], None]) -> None:
        self.endpoint = endpoint
        self.on_gap = on_gap
        self.wants: dict[str, _Want] = {}
        self._line: _Line | None = None
        self._served = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self.wants)

    @property
    def busy(self) -> bool:
        """Whether the backend is still being asked."""
        return bool(self._tasks)

    async def want(self, uri: str) -> None:
        """Want the resource once more; return when the backend has accepted it.

        Raise `RequestRefused` with the backend's error where it refuses, `BackendError` where it gives no answer;
        then it is not wanted.
        """
        timeout_s = min(self.endpoint.timeout_s, ANSWER_S)
        await self.endpoint.ready(timeout_s)
        if not self._served:
            raise RequestRefused(
                f"backend {self.endpoint.id!r} does not tell of changes of resources",
                code=METHOD_NOT_FOUND,
                http_status=404,
            )
        answered = self._count(uri, 1).answered
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(answered)
        except TimeoutError:
            self.unwant(uri)
            raise BackendTimeout(
                f"backend {self.endpoint.id!r} did not answer in time", data={"backend": self.endpoint.id}
            ) from None
        except BaseException:
            self.unwant(uri)
            raise

    def keep(self, uri: str, times: int) -> None:
        """Want the resource so many times more, whenever the backend can be asked, without waiting for it."""
        self._count(uri, times)

    def unwant(self, uri: str, times: int = 1) -> None:
        """Want it so many times less; what nobody wants any more is asked for no more."""
        want = self.wants.get(uri)
        if want is None:
            return
        want.count -= times
        if want.count <= 0:
            del self.wants[uri]
            want.answered.cancel()
            if self._line is not None:
                self._line.settle(uri)

    def apply(self, transport: Transport, peer: Peer) -> None:
        """Ask for everything over a connection that has just come up."""
        self._drop_line()
        self._served = subscribable(peer)
        if self._closed or not self._served:
            return
        make = _StatelessLine if peer.era is Era.STATELESS else _HandshakeLine
        self._line = make(self, transport, peer)
        for uri in self.wants:
            self._line.settle(uri)

    async def aclose(self) -> None:
        """Want nothing any more: whoever waits is refused, what is under way is given up."""
        self._closed = True
        self._drop_line()
        for uri, want in self.wants.items():
            if not want.answered.done():
                self.refused(uri, BackendUnavailable("the proxy is shutting down"))
        self.wants.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what a line has to do."""
        task = asyncio.get_running_loop().create_task(work, name=f"subscribe {self.endpoint.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def accepted(self, uri: str) -> None:
        """The backend watches the resource from now on."""
        want = self.wants.get(uri)
        if want is None:
            return
        if want.answered.done():
            self.on_gap(uri)
        else:
            want.answered.set_result(None)

    def refused(self, uri: str, error: Only1MCPError) -> None:
        """The backend does not watch the resource."""
        want = self.wants.get(uri)
        if want is None:
            return
        if want.answered.done():
            fields = {"backend": self.endpoint.id, "uri": uri[:200], "reason": error.message}
            log.warning("backend.subscription_lost", extra={"fields": fields})
        else:
            want.answered.set_exception(error)
            want.answered.exception()  # nobody may be waiting

    def _count(self, uri: str, times: int) -> _Want:
        want = self.wants.get(uri)
        if want is None:
            if self._closed or len(self.wants) >= MAX_URIS:
                raise Overloaded("too many resources are subscribed to", data={"backend": self.endpoint.id})
            want = self.wants[uri] = _Want()
            if self._line is not None:
                self._line.settle(uri)
        elif want.answered.done() and want.answered.exception() is not None:
            # It was refused, which may be long ago.
            want.answered = asyncio.get_running_loop().create_future()
            if self._line is not None:
                self._line.settle(uri)
        want.count += times
        return want

    def _drop_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class _HandshakeLine:
    def __init__(self, owner: Subscriptions, transport: Transport, peer: Peer) -> None:
        self._owner = owner
        self._transport = transport
        self._peer = peer
        self._held: set[str] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def settle(self, uri: str) -> None:
        if uri not in self._tasks:
            self._tasks[uri] = self._owner.spawn(self._settle(uri))

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _settle(self, uri: str) -> None:
        """Bring what the backend was asked in line with what is wanted, one request for this resource at a time."""
        owner, held = self._owner, self._held
        try:
            async with self._room:
                while (uri in owner.wants) != (uri in held):
                    if uri in held:
                        held.discard(uri)
                        await self._ask("resources/unsubscribe", uri)
                        continue
                    error = await self._ask("resources/subscribe", uri)
                    if error is not None:
                        owner.refused(uri, error)
                        break
                    held.add(uri)
                    owner.accepted(uri)
        finally:
            self._tasks.pop(uri, None)

    async def _ask(self, method: str, uri: str) -> Only1MCPError | None:
        endpoint, peer = self._owner.endpoint, self._peer
        if endpoint.transport is not self._transport:
            return BackendUnavailable(f"backend {endpoint.id!r} is not available", data={"backend": endpoint.id})
        id = endpoint.next_id()
        params = own_params(peer.era, peer.revision, CALLER, {"uri": orjson.dumps(uri)})
        call = BackendCall(method, jsonrpc.request(id, method, params), id, min(endpoint.timeout_s, ANSWER_S), uri)
        try:
            answer = await self._transport.call(call)
        except Only1MCPError as error:
            return error
        return _refusal(answer) if answer.kind == ERROR else None


class _StatelessLine:
    def __init__(self, owner: Subscriptions, transport: Transport, peer: Peer) -> None:
        self._owner = owner
        self._transport = transport
        self._peer = peer
        # What is listened for, and what the server has agreed to since the stream was last broken.
        self._current: asyncio.Task[None] | None = None
        self._asked: tuple[str, ...] = ()
        self._granted: frozenset[str] = frozenset()
        # What takes its place when the server has acknowledged it.
        self._coming: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def settle(self, uri: str) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FILTER_DELAY_S, self._replace)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in (self._coming, self._current):
            if task is not None:
                task.cancel()
        self._coming = self._current = None
        self._granted, self._asked = frozenset(), ()

    def _replace(self) -> None:
        self._timer = None
        wants = self._owner.wants
        uris = tuple(sorted(wants))
        for uri in uris:
            # Given up and wanted again before the filter was replaced, or refused before.
            if uri in self._asked and not wants[uri].answered.done():
                self._answer(uri)
        if not uris:
            self.close()
        elif uris != self._asked or self._current is None:
            if self._coming is not None:
                self._coming.cancel()
            self._coming = self._owner.spawn(self._listen(uris))
        elif self._coming is not None:
            self._coming.cancel()
            self._coming = None

    async def _listen(self, uris: tuple[str, ...]) -> None:
        task = asyncio.current_task()
        endpoint = self._owner.endpoint

        def on_message(message: Envelope) -> None:
            if message.method == "notifications/subscriptions/acknowledged":
                self._acknowledged(task, uris, _granted(message))
            elif task is self._current:  # of what is told before the acknowledgement the former stream tells too
                endpoint.hear(message)

        def on_gap() -> None:
            if task is self._current:
                self._granted = frozenset()
            if task is not None and endpoint.transport is not self._transport:
                task.cancel()

        wanted = orjson.dumps({"resourceSubscriptions": uris})
        wait = partial(backoff.wait_s, endpoint.config.transport)
        answer = await hold_listen(self._transport, self._peer, endpoint.next_id, wanted, on_message, on_gap, wait)
        error = _refusal(answer)
        for uri in uris:
            if uri not in self._granted:
                self._owner.refused(uri, error)
        if task is self._coming:
            self._coming = None
        elif task is self._current:
            self._current, self._asked, self._granted = None, (), frozenset()

    def _acknowledged(self, task: asyncio.Task[Any] | None, uris: tuple[str, ...], granted: frozenset[str]) -> None:
        if task is self._coming:
            if self._current is not None:
                self._current.cancel()
            self._current, self._coming, self._asked = self._coming, None, uris
        elif task is not self._current:
            return
        former, self._granted = self._granted, granted
        for uri in uris:
            if uri not in former:
                self._answer(uri)

    def _answer(self, uri: str) -> None:
        if uri in self._granted:
            self._owner.accepted(uri)
        else:
            self._owner.refused(uri, RequestRefused("the backend does not tell of changes of this resource"))


def _granted(message: Envelope) -> frozenset[str]:
    """Return the resources that an acknowledgement names."""
    try:
        fields = {} if message.params is None else members(message.data, *message.params)
        value: Any = orjson.loads(message.data[slice(*fields["notifications"])])
        return frozenset(uri for uri in value["resourceSubscriptions"] if isinstance(uri, str))
    except (KeyError, TypeError, ValueError, ProtocolError):
        return frozenset()


def _refusal(answer: Envelope) -> Only1MCPError:
    """Return the backend's error as ours; codes that only its era knows become an internal error."""
    assert answer.error is not None
    error: Any = orjson.loads(answer.data[slice(*answer.error)])
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return BackendAnswerError("the backend refused the subscription")
    code = INTERNAL_ERROR if -32099 <= error["code"] <= -32020 else error["code"]
    status = 404 if code == METHOD_NOT_FOUND else 400
    return RequestRefused(str(error.get("message", ""))[:1000], code=code, http_status=status, data=error.get("data"))
