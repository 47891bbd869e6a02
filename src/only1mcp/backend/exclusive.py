"""An endpoint whose calls go over instances of their owners; its own connection reads the lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count

from only1mcp import __version__
from only1mcp._fast import Envelope
from only1mcp.backend.base import BackendCall, Outcome, Transport
from only1mcp.backend.endpoint import ESTABLISH_TIMEOUT_S, Endpoint, OnStale
from only1mcp.backend.era import Peer, establish
from only1mcp.backend.instances import Instances
from only1mcp.backend.line import Line
from only1mcp.backend.replies import Replies
from only1mcp.backend.unasked import Ear
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendRefused, BackendUnavailable
from only1mcp.wire.mcp import Era

log = logging.getLogger("only1mcp.backend")


class ExclusiveEndpoint(Endpoint):
    """An `Endpoint` with `instances: {mode: per_session}`."""

    def __init__(
        self,
        config: BackendConfig,
        make_transport: Callable[[], Transport],
        on_change: Callable[[Endpoint], None],
        on_stale: OnStale = lambda *_: None,
    ) -> None:
        super().__init__(config, make_transport, on_change, on_stale)
        self.exclusive = True
        settings = config.instances
        self.instances = Instances(self.id, self._own, limit=settings.max, idle_s=settings.idle_seconds)

    async def line_for(self, owner: str, timeout_s: float) -> Line:
        """Return the owner's instance; raise as `ready` and as `Instances.acquire`."""
        began = asyncio.get_running_loop().time()
        await self.ready(timeout_s)
        return await self.instances.acquire(owner, timeout_s - (asyncio.get_running_loop().time() - began))

    def session_ended(self, owner: str) -> None:
        """End what was kept for the owner."""
        self.instances.release(owner)

    async def aclose(self) -> None:
        """Do as `Endpoint.aclose`, and end every instance."""
        await asyncio.gather(self.instances.aclose(), super().aclose())

    async def _own(self, owner: str) -> OwnInstance:
        instance = OwnInstance(self, self._make_transport())
        instance.transport.on_lost = partial(self._instance_lost, owner, instance)
        # The era is known: a child of the handshake era is not asked again.
        await instance.start(probe=self.era is not Era.HANDSHAKE)
        return instance

    def _instance_lost(self, owner: str, instance: OwnInstance, reason: str) -> None:
        log.info("instance.lost", extra={"fields": {"backend": self.id, "reason": reason}})
        instance.failure = reason
        self.instances.lost(owner, instance)


class OwnInstance:
    """One connection to a backend that serves one owner."""

    def __init__(self, endpoint: ExclusiveEndpoint, transport: Transport) -> None:
        self.id = endpoint.id
        self.peer: Peer | None = None
        self.transport = transport
        self.replies = Replies(transport, name=endpoint.id)
        self.in_flight = 0
        self.idle_since = 0.0
        # Why it serves no more.
        self.failure: str | None = None
        self._endpoint = endpoint
        self._ids = count(1)
        self._loop = asyncio.get_running_loop()
        # What one instance tells of lists and resources makes us look at them again.
        self._ear = Ear(self.replies, on_change=endpoint._changed)
        transport.on_message = self._heard

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
            )
            if self.failure is not None:
                raise BackendUnavailable(f"backend {self.id!r}: {self.failure}", data={"backend": self.id})
        except BaseException:
            await self.aclose()
            raise
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
            assert self.transport.on_lost is not None
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
        self._ear.hear(message)

    async def aclose(self) -> None:
        """End it, whatever still runs on it."""
        self.transport.on_message = None
        self.transport.on_lost = None
        await self.replies.aclose()
        await self.transport.aclose()
