"""Opens connections to an endpoint, and says why that fails in words that name no address."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Final

from only1mcp.backend.connection import HttpConnection
from only1mcp.errors import BackendUnavailable

# Without a limit a backend that accepts no connection, or speaks no TLS, would hold a call until its own deadline.
CONNECT_TIMEOUT_S: Final = 5.0
# How long a TLS peer may take to confirm that we are closing; asyncio's default holds the socket for 30 s.
TLS_SHUTDOWN_TIMEOUT_S: Final = 1.0


async def connect(host: str, port: int, tls: ssl.SSLContext | None) -> HttpConnection:
    """Open a connection; raise `BackendUnavailable`, whose message names no address, when that fails."""
    connection = HttpConnection()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().create_connection(
                lambda: connection,  # type: ignore[type-var]  # as the listener's
                host,
                port,
                ssl=tls,
                server_hostname=host if tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S if tls else None,
            )
    except (OSError, UnicodeError) as error:
        connection.abort()
        raise BackendUnavailable(f"cannot connect: {_reason(error)}") from error
    except BaseException:
        connection.abort()
        raise
    return connection


def _reason(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS handshake failed: {error.reason or 'connection closed'}"
        case socket.gaierror() | UnicodeError():
            return "host name not found"
        case TimeoutError():
            return f"no connection within {CONNECT_TIMEOUT_S:g} s"
        case OSError(errno=int() as number):
            return os.strerror(number).lower()
    return "no address of the host accepted a connection"
