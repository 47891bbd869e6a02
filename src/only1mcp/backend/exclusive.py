"""An endpoint whose calls go over instances of their owners; its own connection reads the lists.

What an owner wants between calls (a log level, resources it subscribes to) its own instance is told, and what that one
says reaches this owner alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import cast

from only1mcp import __version__
from only1mcp._fast import Envelope
from only1mcp.backend import backoff
from only1mcp.backend.base import BackendCall, Interest, Outcome, Transport
from only1mcp.backend.changes import listen_handshake
from only1mcp.backend.endpoint import ESTABLISH_TIMEOUT_S, Endpoint, OnStale
from only1mcp.backend.era import Peer, establish
from only1mcp.backend.instances import Instances
from only1mcp.backend.line import Line
from only1mcp.backend.loglevel import Teller, told
from only1mcp.backend.replies import Replies
from only1mcp.backend.unasked import Ear
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendRefused, BackendUnavailable
from only1mcp.wire import jsonrpc
from only1mcp.wire.asks import RELAYED_FOR_ONE
from only1mcp.wire.mcp import Era

log = logging.getLogger("only1mcp.backend")


class ExclusiveEndpoint(Endpoint):
    """An `Endpoint` with `instances: {mode: per_session}`.

    `level_of` says how much an owner wants to be logged, None where it has said nothing of it.
    """

    def __init__(
        self,
        config: BackendConfig,
        make_transport: Callable[[], Transport],
        on_change: Callable[[Endpoint], None],
        on_stale: OnStale = lambda *_: None,
    ) -> None:
        super().__init__(config, make_transport, on_change, on_stale)
        self.exclusive = True
        self.level_of: Callable[[str], str | None] = lambda _: None
        settings = config.instances
        self.instances = Instances(self.id, self._own, limit=settings.max, idle_s=settings.idle_seconds)
        self._owned: dict[str, Owned] = {}

    async def line_for(self, owner: str, timeout_s: float) -> Line:
        """Return the owner's instance; raise as `ready` and as `Instances.acquire`."""
        began = asyncio.get_running_loop().time()
        await self.ready(timeout_s)
        return await self.instances.acquire(owner, timeout_s - (asyncio.get_running_loop().time() - began))

    def owned(self, owner: str) -> Owned:
        """Return what the owner wants between calls, kept until `disown`, however often its instance is another."""
        owned = self._owned.get(owner)
        if owned is None:
            owned = self._owned[owner] = Owned(self, owner)
        return owned

    def disown(self, owner: str) -> None:
        """The owner wants nothing any more."""
        self._owned.pop(owner, None)

    def holds(self, owner: str) -> bool:
        return owner in self._owned

    def tell_level(self, owner: str, level: str) -> asyncio.Task[None] | None:
        """Tell the owner's instance how much to log, if it runs; one that starts later asks for it."""
        instance = self.own_instance(owner)
        if instance is None:
            return None
        instance.teller.level = level
        return instance.teller.maybe_begin()

    def ended(self, instance: OwnInstance) -> None:
        """The instance closes."""
        owned = self._owned.get(instance.owner)
        if owned is not None:
            owned.end(instance)

    def roots_changed(self, owner: str) -> None:
        """Tell the owner's instance that the client has other roots; one that starts later asks for them."""
        instance = self.own_instance(owner)
        if instance is not None and instance.peer is not None and instance.peer.era is Era.HANDSHAKE:
            instance.replies.send(jsonrpc.notification("notifications/roots/list_changed"))

    def own_instance(self, owner: str) -> OwnInstance | None:
        """Return the owner's instance if it is ready for calls."""
        return cast("OwnInstance | None", self.instances.maybe(owner))

    def session_ended(self, owner: str) -> None:
        """End what was kept for the owner."""
        self.disown(owner)
        self.instances.release(owner)

    async def aclose(self) -> None:
        """Do as `Endpoint.aclose`, and end every instance."""
        await asyncio.gather(self.instances.aclose(), super().aclose())

    async def _own(self, owner: str) -> OwnInstance:
        instance = OwnInstance(self, self._make_transport(), owner)
        instance.transport.on_lost = partial(self._instance_lost, owner, instance)
        # The era is known: a child of the handshake era is not asked again.
        await instance.start(probe=self.era is not Era.HANDSHAKE)
        owned = self._owned.get(owner)
        if owned is not None:
            owned.begin(instance)
        return instance

    def _instance_lost(self, owner: str, instance: OwnInstance, reason: str) -> None:
        log.info("instance.lost", extra={"fields": {"backend": self.id, "reason": reason}})
        instance.failure = reason
        self.instances.lost(owner, instance)


class OwnInstance:
    """One connection to a backend that serves one owner."""

    def __init__(self, endpoint: ExclusiveEndpoint, transport: Transport, owner: str) -> None:
        self.id = endpoint.id
        self.timeout_s = endpoint.timeout_s
        self.owner = owner
        self.peer: Peer | None = None
        self.transport = transport
        self.replies = Replies(transport, name=endpoint.id)
        self.in_flight = 0
        self.idle_since = 0.0
        # Why it serves no more.
        self.failure: str | None = None
        self.teller = Teller(self)
        self._endpoint = endpoint
        self._ids = count(1)
        self._loop = asyncio.get_running_loop()
        self._ear = Ear(self.replies, on_change=self._changed, on_complete=self._completed)
        self._listening: asyncio.Task[None] | None = None
        transport.on_message = self._heard

    @property
    def held(self) -> bool:
        return self._endpoint.holds(self.owner)

    async def start(self, *, probe: bool) -> None:
        """Connect and learn who is there; raise `BackendError`, with nothing left behind."""
        try:
            await self.transport.start()
            self.peer = await establish(
                self.transport,
                self.next_id,
                timeout_s=ESTABLISH_TIMEOUT_S,
                client_version=__version__,
                probe=probe,
                capabilities=RELAYED_FOR_ONE,
            )
            self.teller.level = self._endpoint.level_of(self.owner)
            telling = self.teller.maybe_begin()
            if telling is not None:
                await told({telling})
            if self.failure is not None:
                raise BackendUnavailable(f"backend {self.id!r}: {self.failure}", data={"backend": self.id})
        except BaseException:
            await self.aclose()
            raise
        if self.peer.era is Era.HANDSHAKE and self._endpoint.config.transport == "http":
            wait = partial(backoff.wait_s, "http")
            listening = listen_handshake(self.transport, self._unheard, wait)
            self._listening = self._loop.create_task(listening, name=f"listen {self.id}")
        self.idle_since = self._loop.time()

    def next_id(self) -> bytes:
        return str(next(self._ids)).encode()

    async def call(self, call: BackendCall) -> Outcome:
        """Carry one call; raise as `Transport.forward` does."""
        self.in_flight += 1
        self._endpoint.in_flight += 1
        try:
            return await self.transport.forward(call)
        except BackendRefused as error:
            if error.status != 404 or self.transport.session_id is None:
                raise
            if self.transport.on_lost is not None:
                self.transport.on_lost("the session has ended")
            text = f"backend {self.id!r} has ended our session"
            raise BackendUnavailable(text, data={"backend": self.id}) from error
        finally:
            self.in_flight -= 1
            self._endpoint.in_flight -= 1
            self.idle_since = self._loop.time()

    def hear(self, message: Envelope) -> bool:
        return self._ear.hear(message)

    def _heard(self, message: Envelope) -> None:
        if not self._ear.hear(message) and message.method == "notifications/message":
            self._endpoint.audience.said(self.owner, message)

    def _changed(self, kind: str, uri: str | None) -> None:
        """What one instance tells of lists makes us look at them again; what it tells of a resource is its owner's."""
        endpoint = self._endpoint
        if uri is None:
            endpoint._changed(kind)
            return
        endpoint._on_stale(endpoint, kind, uri)
        endpoint.audience.updated(endpoint.config.group or endpoint.id, self.owner, uri)

    def _completed(self, elicitation_id: str) -> None:
        self._endpoint.audience.completed(self.id, self.owner, elicitation_id)

    def _unheard(self) -> None:
        """Its stream was broken for a time: what it says of resources may have been lost."""
        owned = self._endpoint._owned.get(self.owner)
        if owned is not None:
            owned.begin(self)

    async def aclose(self) -> None:
        """End it, whatever still runs on it."""
        self.transport.on_message = None
        self.transport.on_lost = None
        self._endpoint.ended(self)
        tasks = [task for task in (self._listening, self.teller.task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.replies.aclose()
        await self.transport.aclose()


class Owned:
    """What one owner wants of its instance between calls (`backend.interest.Watched`)."""

    def __init__(self, endpoint: ExclusiveEndpoint, owner: str) -> None:
        self.id = endpoint.id
        self.timeout_s = endpoint.timeout_s
        self.config = endpoint.config
        self.owner = owner
        self._interest: Interest | None = None
        self._endpoint = endpoint
        self._instance = endpoint.own_instance(owner)
        # Apart from those of calls, which are numbers.
        self._ids = count(1)

    @property
    def interest(self) -> Interest | None:
        return self._interest

    @interest.setter
    def interest(self, interest: Interest) -> None:
        self._interest = interest
        if self._instance is not None:
            self.begin(self._instance)

    @property
    def transport(self) -> Transport | None:
        return None if self._instance is None else self._instance.transport

    async def ready(self, timeout_s: float) -> object:
        """Return when the owner's instance runs; raise as `ExclusiveEndpoint.line_for`."""
        return await self._endpoint.line_for(self.owner, timeout_s)

    def begin(self, instance: OwnInstance) -> None:
        """Ask for everything over the instance."""
        self._instance = instance
        if self._interest is not None and instance.peer is not None:
            self._interest.apply(instance.transport, instance.peer)

    def end(self, instance: OwnInstance) -> None:
        """The instance has ended, or is about to."""
        if self._instance is instance:
            self._instance = None

    def next_id(self) -> bytes:
        return f'"own-{next(self._ids)}"'.encode()

    def hear(self, message: Envelope) -> bool:
        return self._instance is not None and self._instance.hear(message)
