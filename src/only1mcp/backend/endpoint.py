"""One endpoint of a backend, kept alive: connect, learn the era, read the lists, carry calls, reconnect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from enum import Enum
from functools import partial

from only1mcp import __version__
from only1mcp._fast import Envelope
from only1mcp.backend import backoff
from only1mcp.backend.base import BackendCall, Interest, Outcome, Transport
from only1mcp.backend.changes import maybe_listen
from only1mcp.backend.era import Peer, establish
from only1mcp.backend.inventory import Inventory, read_inventory
from only1mcp.backend.line import Line
from only1mcp.backend.replies import Replies
from only1mcp.backend.unasked import NOBODY, Audience, Ear
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendError, BackendRefused, BackendUnavailable, ProtocolError
from only1mcp.wire.mcp import Era

log = logging.getLogger("only1mcp.backend")

# Era probe and handshake together with their answers.
ESTABLISH_TIMEOUT_S = 30.0
# Alive this long, an endpoint has proved itself and the next loss is answered at once.
STEADY_S = 10.0
# Items of a lost endpoint stay listed this long, so that a restart does not make tools flicker in clients.
GRACE_S = 60.0
# Several list_changed in a row are one refresh.
REFRESH_DELAY_S = 0.05
# A backend that tells of changes without end, or whenever it is asked, gets its lists read no more often than this,
# and at most a tenth of the time.
REFRESH_PAUSE_S = 1.0
# Lists that could not be read are asked for again this often, after waits that grow.
MAX_REREADS = 6

OnStale = Callable[["Endpoint", str | None, str | None], None]


class State(Enum):
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    CLOSED = "closed"


class Endpoint:
    """Keeps one transport connected and knows what is behind it.

    `on_change(endpoint)` is called whenever its state or its inventory changed, `on_stale(endpoint, kind, uri)` at once
    when the backend says that something has, or may have said so without our hearing (kind None). `inventory` is the
    last good one and outlives a loss by `GRACE_S`, then it is `former`; `peer` is None unless the state is UP.
    """

    def __init__(
        self,
        config: BackendConfig,
        make_transport: Callable[[], Transport],
        on_change: Callable[[Endpoint], None],
        on_stale: OnStale = lambda *_: None,
    ) -> None:
        self.config = config
        self.id = config.id
        self.timeout_s = config.timeout_ms / 1000
        self._make_transport = make_transport
        self._on_change = on_change
        self._on_stale = on_stale
        self._backoff = partial(backoff.wait_s, config.transport)
        # What the outside reads.
        self.state = State.CONNECTING
        self.peer: Peer | None = None
        self.inventory: Inventory | None = None
        self.former: Inventory | None = None
        # When the last reading of the lists began (the event loop's time), and how long each stays true from then on.
        self.read_at = 0.0
        self.ttl_ms: dict[str, int] = {}
        self.in_flight = 0
        self.last_error: str | None = None
        # This connection.
        self.transport: Transport | None = None
        self._last_id = 0
        self._wake = asyncio.Event()
        self._lost: str | None = None
        self._stale = False
        self._probe = True
        self._rereads = 0
        self._reread: asyncio.TimerHandle | None = None
        self.lists_read = asyncio.Event()  # wakes those who wait whenever the lists have been read
        self._ear: Ear | None = None
        self._replies: Replies | None = None
        # The era last met, also while there is no connection, and who is told of it at once.
        self.era: Era | None = None
        self.on_era: Callable[[], None] = lambda: None
        # What clients want of this backend; applied anew on every connection.
        self.interest: Interest | None = None
        self.audience: Audience = NOBODY
        # Calls go over instances of their owners, never over the connection that reads the lists.
        self.exclusive = False
        self._attempt_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stream: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.id} {self.state.value} in_flight={self.in_flight}>"

    def start(self) -> None:
        """Begin to connect, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"endpoint {self.id}")

    async def settled(self) -> None:
        """Return when the first attempt to connect has succeeded or failed."""
        await self._attempt_over.wait()

    async def aclose(self) -> None:
        """Stop trying, end the session, close connections or the child."""
        self.state = State.CLOSED
        self.peer = None
        self._attempt_over.set()
        if self._grace is not None:
            self._grace.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    async def ready(self, timeout_s: float) -> Peer:
        """Return the peer, waiting while a connection is being made; raise `BackendUnavailable` when there is none."""
        if self.state is State.CONNECTING:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._attempt_over.wait()
        if self.peer is None:
            raise BackendUnavailable(
                f"backend {self.id!r} is not available",
                data={"backend": self.id, "hint": "see /ready for the state of every backend"},
            )
        return self.peer

    async def line_for(self, owner: str, timeout_s: float) -> Line:
        """Return what carries the owner's calls; raise as `ready`."""
        await self.ready(timeout_s)
        return self

    @property
    def replies(self) -> Replies:
        """The way back over the connection at hand."""
        assert self._replies is not None
        return self._replies

    def next_id(self) -> bytes:
        """Return a JSON-RPC id, unique on this endpoint."""
        return b"%d" % self.next_number()

    def next_number(self) -> int:
        """Return the number that `next_id` would spell."""
        self._last_id += 1
        return self._last_id

    async def call(self, call: BackendCall) -> Outcome:
        """Carry one call; the endpoint learns from how it ends. Raise as `Transport.forward` does."""
        transport = self.transport
        if transport is None or self.peer is None:
            raise BackendUnavailable(f"backend {self.id!r} is not available", data={"backend": self.id})
        self.in_flight += 1
        try:
            return await transport.forward(call)
        except BackendError as error:
            raise self.learn(transport, error) from error.__cause__
        finally:
            self.in_flight -= 1

    def learn(self, transport: Transport, error: BackendError) -> BackendError:
        """Draw the consequences of a failed call for the endpoint; return the error for whoever made the call."""
        if isinstance(error, BackendUnavailable):
            # A child tells itself when it dies, it may only be busy; and to lose an HTTP server is to cut off every
            # call that it is still answering.
            if self.config.transport != "stdio" and self.in_flight == 1:
                self._lose(transport, error.message)
        elif isinstance(error, BackendRefused) and error.status == 404 and transport.session_id is not None:
            self._lose(transport, "the session has ended")
            return BackendUnavailable(f"backend {self.id!r} has ended our session", data={"backend": self.id})
        return error

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._connect()
                await self._watch()
                if loop.time() - began >= STEADY_S:
                    failures = 0
                reason = self._lost or "lost"
            except BackendError as error:
                reason = error.message
            except ProtocolError as error:
                reason = f"not an MCP answer: {error.message}"
            except Exception as error:
                log.exception("backend.failed", extra={"fields": {"backend": self.id}})
                reason = f"{type(error).__name__} while connecting"
            if self.state is State.UP:
                self._set_connecting()
            await self._disconnect()
            # The first loss of a steady endpoint is answered at once, so that calls may wait for the restart.
            again_at_once = self.inventory is not None and failures == 0
            failures += 1
            self._set_down(reason, connecting=again_at_once)
            if not again_at_once:
                # It stays down while it is tried again: calls must not queue up behind a connection that hangs.
                await asyncio.sleep(self._backoff(failures))

    async def _connect(self) -> None:
        transport, peer = await self._meet()
        self._keep(await self._read(transport, peer))
        if self._lost is not None:
            raise BackendUnavailable(self._lost)
        self._set_up(peer)
        self._listen(transport, peer)

    async def _meet(self) -> tuple[Transport, Peer]:
        """Start a transport and learn who is behind it; a child that dies of the era probe gets one more, without."""
        for probe in [True, False] if self._probe and self.config.transport != "sse" else [False]:
            transport = await self._open()
            try:
                peer = await establish(
                    transport,
                    self.next_id,
                    timeout_s=ESTABLISH_TIMEOUT_S,
                    client_version=__version__,
                    probe=probe,
                )
            except BackendError:
                self._probe = True
                if not probe or self._lost is None:
                    raise
                await self._disconnect()
            else:
                self._probe = probe
                return transport, peer
        raise AssertionError("the last attempt returns or raises")

    async def _open(self) -> Transport:
        self._wake.clear()
        self._lost = None
        self._stale = False
        transport = self.transport = self._make_transport()
        self._replies = Replies(transport, name=self.id)
        self._ear = Ear(self._replies, on_change=self._changed, on_complete=self._completed)
        transport.on_message = self._ear
        transport.on_lost = lambda reason: self._lose(transport, reason)
        await transport.start()
        return transport

    async def _watch(self) -> None:
        """Refresh the lists when told to, until the endpoint is lost."""
        loop = asyncio.get_running_loop()
        not_before = 0.0
        while self._lost is None:
            if not self._stale:
                await self._wake.wait()
                self._wake.clear()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(REFRESH_DELAY_S, not_before - loop.time())):
                    while self._lost is None:
                        await self._wake.wait()
                        self._wake.clear()
            transport, peer = self.transport, self.peer
            if transport is not None and peer is not None:  # there is no peer once the endpoint is lost
                self._stale = False
                began = loop.time()
                changed = self._keep(await self._read(transport, peer))
                not_before = loop.time() + max(REFRESH_PAUSE_S, 10 * (loop.time() - began))
                if changed:
                    self._on_change(self)

    def reread(self) -> None:
        """Have the lists read again, soon: they have changed, or the time is over for which they were said to hold."""
        self._stale = True
        self._wake.set()

    async def _read(self, transport: Transport, peer: Peer) -> Inventory:
        began = asyncio.get_running_loop().time()
        inventory = await read_inventory(transport, peer, self.next_id, self.inventory)
        if not inventory.unread:
            self.read_at = began
            self.ttl_ms = {method: offered.ttl_ms for method, offered in inventory.lists.items()}
        return inventory

    def _keep(self, inventory: Inventory) -> bool:
        """Take over what was read, and have what could not be read asked for again; return whether anything is new."""
        if self._reread is not None:
            self._reread.cancel()
        self.lists_read.set()
        self.lists_read.clear()
        if not inventory.unread:
            self._rereads = 0
        elif self._rereads < MAX_REREADS:
            self._rereads += 1
            self._reread = asyncio.get_running_loop().call_later(self._backoff(self._rereads), self.reread)
        # What comes from a new connection is new, also where it is the same: nobody told of changes in between.
        changed = self.state is not State.UP or inventory != self.inventory
        if changed:
            self.inventory = inventory
        return changed

    def _listen(self, transport: Transport, peer: Peer) -> None:
        assert self._ear is not None
        http = self.config.transport == "http"
        work = maybe_listen(transport, peer, self.next_id, self._ear, self._changed, self._backoff, http=http)
        if work is not None:
            self._stream = asyncio.get_running_loop().create_task(work, name=f"listen {self.id}")
        if self.interest is not None:
            self.interest.apply(transport, peer)

    def hear(self, message: Envelope) -> bool:
        """Take what concerns the endpoint and no client: its requests, changed lists. False: not for it."""
        return self._ear is not None and self._ear.hear(message)

    def _completed(self, elicitation_id: str) -> None:
        self.audience.completed(self.id, None, elicitation_id)

    def _changed(self, kind: str | None = None, uri: str | None = None) -> None:
        """Something is not what it was; without arguments: nobody would have told."""
        self._on_stale(self, kind, uri)
        if uri is None:
            self.reread()

    def _lose(self, transport: Transport, reason: str) -> None:
        if transport is self.transport and self._lost is None:
            self._lost = reason
            if self.state is State.UP:
                # Calls that come before the reconnect wait for it instead of failing against a dead connection.
                self._set_connecting()
            self._wake.set()

    def _set_up(self, peer: Peer) -> None:
        self.peer = peer
        self.era = peer.era
        self.on_era()
        self.state = State.UP
        self.last_error = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._attempt_over.set()
        assert self.inventory is not None
        fields = {"backend": self.id, "era": peer.era.value, "revision": peer.revision}
        fields["tools"] = str(self.inventory.count("tools/list"))
        log.info("backend.up", extra={"fields": fields})
        self._on_change(self)

    def _set_down(self, reason: str, *, connecting: bool) -> None:
        self.peer = None
        self.last_error = reason
        log.warning("backend.down", extra={"fields": {"backend": self.id, "reason": reason}})
        if self._grace is None and self.inventory is not None:
            self._grace = asyncio.get_running_loop().call_later(GRACE_S, self._forget)
        if connecting:
            self._set_connecting()
        else:
            self.state = State.DOWN
            self._attempt_over.set()
        self._on_change(self)

    def _set_connecting(self) -> None:
        self.state = State.CONNECTING
        self.peer = None
        self._attempt_over.clear()

    def _forget(self) -> None:
        self._grace = None
        self.former, self.inventory = self.inventory, None
        self._on_change(self)

    async def _disconnect(self) -> None:
        if self._reread is not None:
            self._reread.cancel()
        if self._stream is not None and not self._stream.done():
            self._stream.cancel()
            await asyncio.gather(self._stream, return_exceptions=True)
        self._stream = None
        if self._replies is not None:
            await self._replies.aclose()
        transport = self.transport
        if transport is not None:
            transport.on_message = None
            transport.on_lost = None
            await transport.aclose()
            self.transport = None  # not before: a cancelled close is begun again by `aclose`
