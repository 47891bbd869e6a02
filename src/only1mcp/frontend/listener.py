"""One listening address: accepts connections up to a limit, knows them all, and drains them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import Final

from only1mcp.errors import Only1MCPError
from only1mcp.frontend.connection import Connection
from only1mcp.frontend.http_exchange import Application
from only1mcp.frontend.letterhead import Letterhead
from only1mcp.frontend.limits import Limits, Timeouts
from only1mcp.frontend.owner import Admission
from only1mcp.frontend.repeating import RepeatingConnection

__all__ = ["Limits", "Listener", "Timeouts"]

BACKLOG: Final = 1024
# Inside the time for the head, so that a silent TLS client is not the cheaper way to hold a socket.
TLS_HANDSHAKE_S: Final = 5.0
# Clients being told that there are too many of them; beyond these a connection is closed without a word.
MAX_REFUSED: Final = 64
# How long a cancelled exchange has to finish, and its last answer to leave, after the drain is over.
STOP_S: Final = 1.0

_log = logging.getLogger("only1mcp.frontend")
_REASONS = {
    errno.EADDRINUSE: "address already in use",
    errno.EACCES: "permission denied",
    errno.EADDRNOTAVAIL: "no such address on this machine",
}


class Listener:
    """Serves `app` on one address, or on the bound or listening socket `sock`, which it then owns.

    Beyond `limits.max_connections` a connection is accepted, answered with 503 and closed: a client (or a load
    balancer) that waits in the kernel's backlog learns nothing, and one that is refused comes back elsewhere.
    `on_refused(peer, error)` is told of every answer given without an exchange (malformed heads, too many connections).
    """

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        limits: Limits,
        timeouts: Timeouts,
        ssl: ssl_module.SSLContext | None = None,
        sock: socket.socket | None = None,
        on_refused: Callable[[str, Only1MCPError], None] | None = None,
    ) -> None:
        self.app = app
        self.host = host
        self.limits = limits
        self.timeouts = timeouts
        self._port = port
        self._ssl = ssl
        self._sock = sock
        self._on_refused = on_refused

        self._server: asyncio.Server | None = None
        self._serving: set[Connection] = set()
        self._refused: set[Connection] = set()
        self._draining = False
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()

        self.letterhead = Letterhead()

    def __repr__(self) -> str:
        return f"<Listener {self.host}:{self._port} connections={self.connections}>"

    @property
    def port(self) -> int:
        """The port, as the system chose it when 0 was asked for."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are being served."""
        return len(self._serving)

    async def start(self) -> None:
        """Bind and accept. Raise `Only1MCPError`, one line, when that is not possible."""
        loop = asyncio.get_running_loop()
        handshake_s = TLS_HANDSHAKE_S if self._ssl is not None else None

        def accept() -> asyncio.BaseProtocol:
            return RepeatingConnection(self, loop)  # type: ignore[return-value]  # compiled, it inherits from no Python class

        try:
            if self._sock is not None:
                self._server = await loop.create_server(
                    accept, sock=self._sock, backlog=BACKLOG, ssl=self._ssl, ssl_handshake_timeout=handshake_s
                )
            else:
                self._server = await loop.create_server(
                    accept, self.host, self._port, backlog=BACKLOG, ssl=self._ssl, ssl_handshake_timeout=handshake_s
                )
        except OSError as error:
            if isinstance(error, socket.gaierror):
                reason = "unknown host name"
            else:
                reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0).lower()
            host = f"[{self.host}]" if ":" in self.host else self.host
            raise Only1MCPError(f"cannot listen on {host}:{self._port}: {reason}") from error
        address = self._server.sockets[0].getsockname()
        if isinstance(address, tuple):
            self._port = address[1]

    async def drain(self, timeout_s: float) -> None:
        """Accept no more, let every exchange finish, then cut off what is left after `timeout_s`.

        Idle connections are closed at once, the others after the response at hand. Those cut off are answered 503
        where no response has begun.
        """
        self._draining = True
        if self._server is not None:
            self._server.close()
        for connection in self._all():
            connection.drain()
        if await self._emptied(timeout_s):
            return
        for connection in self._all():
            connection.stop()
        if await self._emptied(STOP_S):
            return
        for connection in self._all():
            connection.abort()
        if not await self._emptied(STOP_S):
            _log.error("exchanges ignore their cancellation", extra={"connections": len(self._all())})

    async def aclose(self) -> None:
        """Accept no more and cut off every connection."""
        await self.drain(0)

    # What connections call.

    def admit(self, connection: Connection) -> Admission:
        self._empty.clear()
        if not self._draining and len(self._serving) < self.limits.max_connections:
            self._serving.add(connection)
            return Admission.SERVE
        admission = Admission.REFUSE if len(self._refused) < MAX_REFUSED else Admission.DROP
        self._refused.add(connection)
        return admission

    def forget(self, connection: Connection) -> None:
        self._serving.discard(connection)
        self._refused.discard(connection)
        if not self._serving and not self._refused:
            self._empty.set()

    def refused(self, peer: str, error: Only1MCPError) -> None:
        if self._on_refused is not None:
            self._on_refused(peer, error)

    def _all(self) -> list[Connection]:
        return [*self._serving, *self._refused]

    async def _emptied(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
