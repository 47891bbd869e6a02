"""All endpoints of one configuration, from start to close; tells once when something changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from only1mcp.backend.base import Transport
from only1mcp.backend.endpoint import Endpoint, OnStale
from only1mcp.backend.exclusive import ExclusiveEndpoint
from only1mcp.backend.guard import Guard
from only1mcp.backend.http import HttpTransport
from only1mcp.backend.sse import SseTransport
from only1mcp.backend.stdio import StdioTransport
from only1mcp.backend.unasked import Audience
from only1mcp.config.schema import BackendConfig, Config

log = logging.getLogger("only1mcp.backend")


class Registry:
    """Owns every endpoint from `start` to `aclose`.

    `on_change()` is called in the event loop, once for any number of changes that happen together; `on_stale` at once,
    as `Endpoint` does.
    """

    def __init__(self, config: Config, on_change: Callable[[], None], on_stale: OnStale = lambda *_: None) -> None:
        self._on_change = on_change
        self._told = False
        self._guard = Guard()
        self.endpoints: dict[str, Endpoint] = {}
        self._exclusive: list[ExclusiveEndpoint] = []
        for backend in config.servers:
            if not backend.enabled:
                continue
            connect = transport_for(backend, self._guard)
            if backend.instances.mode == "shared":
                self.endpoints[backend.id] = Endpoint(backend, connect, self._changed, on_stale)
            else:
                exclusive = ExclusiveEndpoint(backend, connect, self._changed, on_stale)
                self.endpoints[backend.id] = exclusive
                self._exclusive.append(exclusive)

    def introduce(self, audience: Audience, level_of: Callable[[str], str | None]) -> None:
        """Say who hears what backends tell single clients, and how much a session wants to be logged."""
        for endpoint in self.endpoints.values():
            endpoint.audience = audience
        for exclusive in self._exclusive:
            exclusive.level_of = level_of

    @property
    def children(self) -> int:
        """How many stdio children are running."""
        return len(self._guard.groups)

    async def start(self, settle_s: float) -> None:
        """Connect all; return when each has come up or failed once, or after `settle_s`."""
        for endpoint in self.endpoints.values():
            endpoint.start()
        waits = [asyncio.ensure_future(endpoint.settled()) for endpoint in self.endpoints.values()]
        if not waits:
            return
        try:
            await asyncio.wait(waits, timeout=settle_s)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def session_ended(self, session_id: str) -> None:
        """End what was kept at backends for one session alone."""
        for endpoint in self._exclusive:
            endpoint.session_ended(session_id)

    def tell_level(self, session_id: str, level: str) -> set[asyncio.Task[None]]:
        """Tell the session's own instances how much to log; return what is still being told."""
        tasks = (endpoint.tell_level(session_id, level) for endpoint in self._exclusive)
        return {task for task in tasks if task is not None}

    def roots_changed(self, session_id: str) -> None:
        """Tell the session's own instances that its client has other roots. Nobody else's roots are meant by that."""
        for endpoint in self._exclusive:
            endpoint.roots_changed(session_id)

    async def aclose(self) -> None:
        """Close every endpoint side by side; no child and no connection is left."""
        await asyncio.gather(*(endpoint.aclose() for endpoint in self.endpoints.values()), return_exceptions=True)
        await self._guard.aclose()

    def _changed(self, _endpoint: Endpoint) -> None:
        if not self._told:
            self._told = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._told = False
        self._on_change()


def transport_for(backend: BackendConfig, guard: Guard) -> Callable[[], Transport]:
    """Return what opens a connection to the backend; children that it starts end with the guard."""
    if backend.transport == "stdio":
        return lambda: StdioTransport(backend, guard=guard, log=log)
    if backend.transport == "sse":
        return lambda: SseTransport(backend, name=backend.id)
    return lambda: HttpTransport(backend, name=backend.id)
