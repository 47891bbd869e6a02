"""The access log: one line for each request, whoever asked and however it ended."""

from __future__ import annotations

import logging
import time
from typing import Final

from only1mcp.errors import Only1MCPError
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.exchange import Exchange
from only1mcp.wire.http1_events import RequestHead

ACCESS: Final = "only1mcp.access"
EVENT: Final = "request"
FIELDS: Final = (
    "client",
    "http",
    "path",
    "status",
    "bytes_out",
    "duration_ms",
    "principal",
    "method",
    "backend",
    "error",
)
# Methods are what clients say they are.
MAX_METHOD_CHARS: Final = 100

access_log = logging.getLogger(ACCESS)
INFO: Final = logging.INFO


def log_request(exchange: Exchange, duration_s: float) -> None:
    """Write the line of an exchange that has ended, where somebody wants it.

    Outputs of ours have `event_lines`, which write this one event without a record of `logging`. Whatever else has been
    attached to the logger gets a record, as of any other event, and then so do they.
    """
    if wanted():
        http = exchange.http
        _write(
            _values(
                http.head,
                http.peer,
                http.status,
                http.bytes_out,
                duration_s,
                exchange.principal,
                exchange.method,
                exchange.backend,
                exchange.error,
            )
        )


def log_again(
    head: RequestHead,
    peer: str,
    bytes_out: int,
    duration_s: float,
    principal: Principal,
    method: str,
    backend: str | None = None,
) -> None:
    """Write the line of a request that was served without becoming an exchange."""
    if wanted():
        _write(_values(head, peer, 200, bytes_out, duration_s, principal, method, backend, None))


def wanted() -> bool:
    """Return whether anybody takes these lines."""
    # What `isEnabledFor` remembers: to call it costs more than to write the line.
    enabled: bool | None = access_log._cache.get(INFO)  # type: ignore[attr-defined]
    return access_log.isEnabledFor(INFO) if enabled is None or access_log.disabled else enabled


def _write(values: tuple[object, ...]) -> None:
    if _only_ours():
        now = time.time()
        for handler in access_log.handlers:
            handler.event_lines.write(now, values)  # type: ignore[attr-defined]
        return
    fields = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    access_log.info(EVENT, extra={"fields": fields})


def _only_ours() -> bool:
    if access_log.propagate or access_log.filters:
        return False
    for handler in access_log.handlers:
        if getattr(handler, "event_lines", None) is None or handler.filters:
            return False
    return True


def _values(
    head: RequestHead,
    peer: str,
    status: int,
    bytes_out: int,
    duration_s: float,
    principal: Principal | None,
    method: str | None,
    backend: str | None,
    error: Only1MCPError | None,
) -> tuple[object, ...]:
    """Return what `FIELDS` names, None for what there is not."""
    target = head.target
    if b"?" in target:
        target = target[: target.index(b"?")]  # a query may hold secrets
    microseconds = int(duration_s * 1_000_000 + 0.5)
    return (
        peer,
        head.method.decode("latin-1"),
        target.decode("latin-1"),
        status,
        bytes_out,
        microseconds / 1000,
        None if principal is None else principal.id,
        None if method is None else method[:MAX_METHOD_CHARS],
        backend,
        None if error is None else error.code,
    )
