"""Answers that need no backend: initialize, server/discover, ping and the merged lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from only1mcp import __version__
from only1mcp._fast import Envelope, members
from only1mcp.errors import INVALID_PARAMS, METHOD_NOT_FOUND, ProtocolError, RequestRefused
from only1mcp.proxy.capabilities import told
from only1mcp.proxy.catalog import Catalog
from only1mcp.wire import mcp
from only1mcp.wire.mcp import Era

IMPLEMENTATION = {"name": "only1mcp", "title": "Only1MCP", "version": __version__}
_STAMP = b'"_meta":{' + orjson.dumps(mcp.META_SERVER_INFO) + b":" + orjson.dumps(IMPLEMENTATION) + b"}"


def initialize(catalog: Catalog, message: Envelope) -> tuple[str, bytes, bytes, bytes]:
    """Return the negotiated revision, the client's capabilities, its info and the result (2025-11-25 "Lifecycle").

    Raise `ProtocolError` (-32602) for params that are not those of `initialize`.
    """
    fields = {} if message.params is None else members(message.data, *message.params)
    params: dict[str, Any] = {key: orjson.loads(message.data[slice(*span)]) for key, span in fields.items()}
    requested = params.get("protocolVersion")
    if not isinstance(requested, str):
        raise ProtocolError("params.protocolVersion must be a string", code=INVALID_PARAMS)
    capabilities = params.get("capabilities", {})
    if not isinstance(capabilities, dict):
        raise ProtocolError("params.capabilities must be an object", code=INVALID_PARAMS)
    revision = mcp.negotiate(requested)
    result: dict[str, Any] = {
        "protocolVersion": revision,
        "capabilities": told(catalog.capabilities, revision),
        "serverInfo": IMPLEMENTATION,
    }
    if catalog.instructions:
        result["instructions"] = catalog.instructions
    info = orjson.dumps(params.get("clientInfo"))
    return revision, orjson.dumps(capabilities), info, orjson.dumps(result)


def discover(catalog: Catalog) -> bytes:
    """Return the result of `server/discover` (2026-07-28 "Discovery")."""
    result: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": list(mcp.STATELESS_REVISIONS),
        "capabilities": told(catalog.capabilities, mcp.LATEST_STATELESS),
        "ttlMs": 0,  # backends come and go, and no subscription would tell
        "cacheScope": "public",
        "_meta": {mcp.META_SERVER_INFO: IMPLEMENTATION},
    }
    if catalog.instructions:
        result["instructions"] = catalog.instructions
    return orjson.dumps(result)


def list_page(
    catalog: Catalog, method: str, era: Era, only: Callable[[str], bool] | None, cursor: str | None
) -> tuple[bytes, bytes | None, str | None]:
    """Return one page of a merged list, of the items whose key passes `only`, and the cursor of the next.

    The page comes in two parts, between which the value of `ttlMs` belongs; clients of the handshake era are told none,
    so that for them there is one part. Raise `RequestRefused`: -32601 where no backend has the capability, -32602 for a
    cursor that we did not give.
    """
    if mcp.CAPABILITY_OF[method] not in catalog.capabilities:
        raise RequestRefused(f"no backend offers {mcp.CAPABILITY_OF[method]}", code=METHOD_NOT_FOUND, http_status=404)
    merged = catalog.lists[method]
    start = 0
    if cursor is not None:
        found = merged.after(cursor)
        if found is None:
            raise RequestRefused("this cursor is not one of ours", code=INVALID_PARAMS)
        start = found
    items, following = merged.page(start, only)
    parts = [b'{"', mcp.LIST_METHODS[method].encode(), b'":[']
    parts.append(b",".join([item.text(era) for item in items]))
    parts.append(b"]")
    if following is not None:
        parts.append(b',"nextCursor":' + orjson.dumps(following))
    if era is Era.HANDSHAKE:
        parts.append(b"}")
        return b"".join(parts), None, following
    scope = b"public" if merged.public and only is None else b"private"
    parts.append(b',"resultType":"complete","cacheScope":"' + scope + b'",' + _STAMP + b',"ttlMs":')
    return b"".join(parts), b"}", following
