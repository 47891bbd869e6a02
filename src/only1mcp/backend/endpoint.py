"""One endpoint of a backend, kept alive: connect, learn the era, read the lists, carry calls, reconnect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from enum import Enum
from itertools import count
from typing import Any

import orjson

from only1mcp import __version__
from only1mcp._fast import ERROR, REQUEST, Envelope
from only1mcp.backend.base import CALLER, BackendCall, Transport
from only1mcp.backend.era import Peer, establish
from only1mcp.backend.inventory import Inventory, read_inventory
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import METHOD_NOT_FOUND, BackendError, BackendRefused, BackendUnavailable, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.eras import own_params
from only1mcp.wire.mcp import Era

log = logging.getLogger("only1mcp.backend")

# Era probe and handshake together with their answers.
ESTABLISH_TIMEOUT_S = 30.0
# A crash loop must not become a spawn loop: the wait doubles from the first to the last value, with jitter.
BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = {"stdio": 30.0, "http": 10.0, "sse": 10.0}
# Alive this long, an endpoint has proved itself and the next loss is answered at once.
STEADY_S = 10.0
# Items of a lost endpoint stay listed this long, so that a restart does not make tools flicker in clients.
GRACE_S = 60.0
# Several list_changed in a row are one refresh.
REFRESH_DELAY_S = 0.05

_LIST_CHANGED = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/resources/list_changed",
        "notifications/prompts/list_changed",
    }
)


class State(Enum):
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    CLOSED = "closed"


class Endpoint:
    """Keeps one transport connected and knows what is behind it.

    `on_change(endpoint)` is called whenever its state or its inventory changed. `inventory` is the last good one and
    outlives a loss by `GRACE_S`; `peer` is None unless the state is UP.
    """

    def __init__(
        self, config: BackendConfig, make_transport: Callable[[], Transport], on_change: Callable[[Endpoint], None]
    ) -> None:
        self.config = config
        self.id = config.id
        self._make_transport = make_transport
        self._on_change = on_change
        # What the outside reads.
        self.state = State.CONNECTING
        self.peer: Peer | None = None
        self.inventory: Inventory | None = None
        self.in_flight = 0
        self.last_error: str | None = None
        # This connection.
        self._transport: Transport | None = None
        self._ids = count(1)
        self._wake = asyncio.Event()
        self._lost: str | None = None
        self._stale = False
        self._attempt_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._streams: set[asyncio.Task[None]] = set()
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
        if self._grace is not None:
            self._grace.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()
        self.state = State.CLOSED

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

    def next_id(self) -> bytes:
        """Return a JSON-RPC id, unique on this endpoint."""
        return b"%d" % next(self._ids)

    async def call(self, call: BackendCall) -> Envelope:
        """Carry one call; the endpoint learns from how it ends. Raise as `Transport.call` does."""
        transport = self._transport
        if transport is None or self.peer is None:
            raise BackendUnavailable(f"backend {self.id!r} is not available", data={"backend": self.id})
        self.in_flight += 1
        try:
            return await transport.call(call)
        except BackendUnavailable as error:
            self._lose(transport, error.message)
            raise
        except BackendRefused as error:
            if error.status == 404 and transport.session_id is not None:
                self._lose(transport, "the session has ended")
                raise BackendUnavailable(
                    f"backend {self.id!r} has ended our session", data={"backend": self.id}
                ) from error
            raise
        finally:
            self.in_flight -= 1

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
            await self._disconnect()
            # The first loss of a steady endpoint is answered at once, so that calls may wait for the restart.
            again_at_once = self.inventory is not None and failures == 0
            failures += 1
            self._set_down(reason, connecting=again_at_once)
            if not again_at_once:
                await asyncio.sleep(self._backoff(failures))
                self._set_connecting()

    async def _connect(self) -> None:
        self._wake.clear()
        self._lost = None
        self._stale = False
        transport = self._make_transport()
        self._transport = transport
        transport.on_message = self._on_message
        transport.on_lost = lambda reason: self._lose(transport, reason)
        await transport.start()
        peer = await establish(transport, self.next_id, timeout_s=ESTABLISH_TIMEOUT_S, client_version=__version__)
        self.inventory = await self._read(transport, peer)
        if self._lost is not None:
            raise BackendUnavailable(self._lost)
        self._set_up(peer)
        self._open_streams(transport, peer)

    async def _watch(self) -> None:
        """Refresh the lists when told to, until the endpoint is lost."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._lost is not None:
                return
            if self._stale and self._transport is not None and self.peer is not None:
                await asyncio.sleep(REFRESH_DELAY_S)
                self._stale = False
                self.inventory = await self._read(self._transport, self.peer)
                self._on_change(self)

    async def _read(self, transport: Transport, peer: Peer) -> Inventory:
        return await read_inventory(transport, peer, self.next_id, self.inventory)

    def _backoff(self, failures: int) -> float:
        last = BACKOFF_LAST_S[self.config.transport]
        wait: float = min(last, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
        return wait * random.uniform(0.8, 1.2)

    def _open_streams(self, transport: Transport, peer: Peer) -> None:
        """Listen for changes where the server only tells those who ask: HTTP always, stdio in the stateless era."""
        if peer.era is Era.STATELESS:
            wanted = {
                name: True
                for name, capability in (
                    ("toolsListChanged", "tools"),
                    ("promptsListChanged", "prompts"),
                    ("resourcesListChanged", "resources"),
                )
                if isinstance(peer.capabilities.get(capability), dict)
                and peer.capabilities[capability].get("listChanged") is True
            }
            if wanted:
                self._spawn(self._listen_stateless(transport, peer, wanted))
        elif self.config.transport == "http":
            self._spawn(self._listen_handshake(transport))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"listen {self.id}")
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def _listen_stateless(self, transport: Transport, peer: Peer, wanted: dict[str, bool]) -> None:
        failures = 0
        while self._transport is transport and self._lost is None:
            id = self.next_id()
            fields = {"notifications": orjson.dumps(wanted)}
            params = own_params(peer.era, peer.revision, CALLER, fields)
            message = jsonrpc.request(id, "subscriptions/listen", params)
            try:
                answer = await transport.call(
                    BackendCall("subscriptions/listen", message, id, None, on_message=self._on_message)
                )
            except (BackendError, ProtocolError) as error:
                log.info("backend.listen_ended", extra={"fields": {"backend": self.id, "reason": error.message}})
            else:
                if answer.kind == ERROR:
                    return
            failures += 1
            await asyncio.sleep(self._backoff(failures))
            self._refresh()  # nothing is replayed after a gap

    async def _listen_handshake(self, transport: Transport) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while self._transport is transport and self._lost is None:
            began = loop.time()
            try:
                await transport.listen()
            except (BackendError, ProtocolError) as error:
                log.info("backend.listen_ended", extra={"fields": {"backend": self.id, "reason": error.message}})
            if loop.time() - began < 1.0:
                failures += 1
                if failures > 3:
                    return  # it has no such stream
            else:
                failures = 0
            await asyncio.sleep(self._backoff(failures + 1))

    def hear(self, message: Envelope) -> bool:
        """Take what concerns the endpoint and no client: its requests and changed lists. False: not for the endpoint."""
        if message.kind == REQUEST:
            self._refuse(message)
        elif message.method in _LIST_CHANGED:
            self._refresh()
        else:
            return False
        return True

    def _on_message(self, message: Envelope) -> None:
        self.hear(message)

    def _refuse(self, request: Envelope) -> None:
        """Answer a server-to-client request: `ping` with an empty result, anything else with an error, never silence."""
        transport = self._transport
        if transport is None or request.id is None:
            return
        if request.method == "ping":
            reply = jsonrpc.result(request.id, b"{}")
        else:
            reply = (
                b'{"jsonrpc":"2.0","id":'
                + request.id
                + b',"error":{"code":%d,' % METHOD_NOT_FOUND
                + b'"message":"this client does not serve requests from servers"}}'
            )
        self._spawn(self._send(transport, reply))

    async def _send(self, transport: Transport, message: bytes) -> None:
        try:
            await transport.send(message)
        except BackendError as error:
            log.info("backend.send_failed", extra={"fields": {"backend": self.id, "reason": error.message}})

    def _refresh(self) -> None:
        self._stale = True
        self._wake.set()

    def _lose(self, transport: Transport, reason: str) -> None:
        if transport is self._transport and self._lost is None:
            self._lost = reason
            if self.state is State.UP:
                # Calls that come before the reconnect wait for it instead of failing against a dead connection.
                self._set_connecting()
                self.peer = None
            self._wake.set()

    def _set_up(self, peer: Peer) -> None:
        self.peer = peer
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
        self._attempt_over.clear()

    def _forget(self) -> None:
        self._grace = None
        self.inventory = None
        self._on_change(self)

    async def _disconnect(self) -> None:
        transport, self._transport = self._transport, None
        for task in list(self._streams):
            task.cancel()
        if self._streams:
            await asyncio.gather(*self._streams, return_exceptions=True)
        if transport is not None:
            transport.on_message = None
            transport.on_lost = None
            await transport.aclose()
