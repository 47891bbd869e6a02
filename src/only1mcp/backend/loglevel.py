"""How much the backends shall log: what clients want together, told to every backend anew on each connection.

MCP 2025-11-25 "Logging": `logging/setLevel` holds for a session, and our session with a backend serves all clients. So
a backend is asked for the most that anybody wants, and what is more than one client wants is kept from that client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from only1mcp._fast import ERROR
from only1mcp.backend.base import BackendCall, Outcome, Transport
from only1mcp.backend.era import Peer
from only1mcp.errors import BackendError, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import HANDSHAKE

if TYPE_CHECKING:
    from only1mcp.backend.endpoint import Endpoint

log = logging.getLogger("only1mcp.backend")

METHOD: Final = "logging/setLevel"
# A client that sets a level waits for the backends no longer than this; those that are slower learn of it later.
TELL_TIMEOUT_S: Final = 5.0


# Tells the instances of one session (`instances: per_session`) a level; returns what is still being told.
TellOwn = Callable[[str, str], set[asyncio.Task[None]]]


class LogLevels:
    """Keeps every endpoint of the handshake era at one level. Stateless backends are told by each request.

    Where each session has an instance of its own, only that one is told, by `tell_own`.
    """

    def __init__(self, endpoints: Iterable[Endpoint], tell_own: TellOwn = lambda *_: set()) -> None:
        self._tellers = tuple(Teller(endpoint) for endpoint in endpoints if not endpoint.exclusive)
        self._tell_own = tell_own

    def want_own(self, session_id: str, level: str) -> set[asyncio.Task[None]]:
        """Tell the session's own instances; return what is still being told."""
        return self._tell_own(session_id, level)

    def want(self, level: str) -> set[asyncio.Task[None]]:
        """Tell the backends that do not know it yet; return what is still being told."""
        for teller in self._tellers:
            teller.level = level
        return self.renew()

    def renew(self) -> set[asyncio.Task[None]]:
        """Tell those that have been connected anew."""
        return {task for teller in self._tellers if (task := teller.maybe_begin()) is not None}

    async def aclose(self) -> None:
        """Tell nobody any more."""
        tasks = [teller.task for teller in self._tellers if teller.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Told(Protocol):
    """Who is told: an endpoint, or one session's instance of it."""

    id: str
    timeout_s: float

    @property
    def transport(self) -> Transport | None: ...

    @property
    def peer(self) -> Peer | None: ...

    def next_id(self) -> bytes: ...

    async def call(self, call: BackendCall) -> Outcome: ...


class Teller:
    """Tells one endpoint, one request at a time: of two levels, the later one must arrive last."""

    def __init__(self, endpoint: Told) -> None:
        self.level: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._endpoint = endpoint
        # What the backend was told last, and over which connection.
        self._told: tuple[Transport, str] | None = None

    def maybe_begin(self) -> asyncio.Task[None] | None:
        """Return the task that tells, None where there is nothing to tell or nobody to be told."""
        if self.task is None and self._due() is not None:
            self.task = asyncio.get_running_loop().create_task(self._tell(), name=f"level {self._endpoint.id}")
            self.task.add_done_callback(self._over)
        return self.task

    def _due(self) -> tuple[Transport, Peer, str] | None:
        transport, peer, level = self._endpoint.transport, self._endpoint.peer, self.level
        if transport is None or peer is None or level is None or self._told == (transport, level):
            return None
        return (transport, peer, level) if peer.era is HANDSHAKE and peer.offers("logging") else None

    async def _tell(self) -> None:
        while (due := self._due()) is not None:
            transport, _, level = due
            # Told once, whatever comes of it: a backend that refuses would be asked without end.
            self._told = (transport, level)
            id = self._endpoint.next_id()
            message = jsonrpc.request(id, METHOD, orjson.dumps({"level": level}))
            try:
                answer = await self._endpoint.call(BackendCall(METHOD, message, id, self._endpoint.timeout_s))
            except (BackendError, ProtocolError) as error:
                self._refused(level, error.message)
            else:
                # There is no passage, so that it is a message.
                if getattr(answer, "kind", None) == ERROR:
                    self._refused(level, "the backend answered with an error")

    def _refused(self, level: str, reason: str) -> None:
        fields = {"backend": self._endpoint.id, "level": level, "reason": reason}
        log.warning("backend.level_not_set", extra={"fields": fields})

    def _over(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("backend.failed", exc_info=task.exception(), extra={"fields": {"backend": self._endpoint.id}})


async def told(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait until the backends know, but not for those that take long."""
    await asyncio.wait(tasks, timeout=TELL_TIMEOUT_S)
