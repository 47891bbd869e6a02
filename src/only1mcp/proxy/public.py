"""What an answer calls by its backend's own names, as clients know it: URIs of resources, ids of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from only1mcp._fast import mentions
from only1mcp.errors import BackendAnswerError, ProtocolError
from only1mcp.proxy import uris
from only1mcp.proxy.tasks import ANSWERS

if TYPE_CHECKING:
    from only1mcp.proxy.catalog import Catalog
    from only1mcp.proxy.exchange import Exchange, Snapshot


def may_change(snapshot: Snapshot, data: bytes) -> bool:
    """Return whether an answer to a call may hold what `as_public` would change in it, however that is spelled."""
    if snapshot.rewrites_uris and b'"uri"' in data:
        return True
    # The letters of `task` as escapes are between \u0061 and \u0074.
    return b'"task' in data or b"\\u006" in data or b"\\u007" in data


def as_public(exchange: Exchange, group: str, method: str, body: bytes) -> bytes:
    """Return the answer of a backend of the group as this client may see it.

    Raise `BackendAnswerError` for one that cannot be translated, `RequestRefused` for a task that is not wanted.
    """
    snapshot = exchange.snapshot
    if snapshot.rewrites_uris and b'"uri"' in body:
        body = _with_public_uris(body, method, snapshot.catalog, group)
    if method in ANSWERS and mentions(body, (0, len(body)), b"task"):
        body = snapshot.desk.tasks.outward(exchange, method, body)
    return body


def _with_public_uris(body: bytes, method: str, catalog: Catalog, group: str) -> bytes:
    try:
        return uris.rewrite(body, method, lambda uri: catalog.public_uri(group, uri))
    except ProtocolError as error:
        raise BackendAnswerError(f"the backend's answer cannot be used: {error.message}") from error
