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
        self.endpoints: dict[str, Endpoint] = {
            backend.id: (Endpoint if backend.instances.mode == "shared" else ExclusiveEndpoint)(
                backend, self._transport_for(backend), self._changed, on_stale
            )
            for backend in config.servers
            if backend.enabled
        }

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
        for endpoint in self.endpoints.values():
            if isinstance(endpoint, ExclusiveEndpoint):
                endpoint.session_ended(session_id)

    async def aclose(self) -> None:
        """Close every endpoint side by side; no child and no connection is left."""
        await asyncio.gather(*(endpoint.aclose() for endpoint in self.endpoints.values()), return_exceptions=True)
        await self._guard.aclose()

    def _transport_for(self, backend: BackendConfig) -> Callable[[], Transport]:
        if backend.transport == "stdio":
            return lambda: StdioTransport(backend, guard=self._guard, log=log)
        if backend.transport == "sse":
            return lambda: SseTransport(backend, name=backend.id)
        return lambda: HttpTransport(backend, name=backend.id)

    def _changed(self, _endpoint: Endpoint) -> None:
        if not self._told:
            self._told = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._told = False
        self._on_change()
