"""The views of tools: `ui://` resources that tools name in `_meta`, whether or not a list shows them.

MCP Apps (extension io.modelcontextprotocol/ui, 2026-01-26), "Resource Discovery".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import orjson

from only1mcp._fast import members
from only1mcp.errors import ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.jsonrpc import Span

if TYPE_CHECKING:
    from only1mcp.proxy.catalog import Item

# `_meta.ui.resourceUri`, and the flat key from before it, which hosts still read.
_NESTED: Final = ("ui", "resourceUri")
_FLAT: Final = "ui/resourceUri"
_SCHEME: Final = "ui:"


def owners(tools: Iterable[Item]) -> dict[str, str]:
    """Return which group has each view: the first whose tools name it, as with everything else."""
    found: dict[str, str] = {}
    for tool in tools:
        for _, uri in _views(tool.raw):
            found.setdefault(uri, tool.group)
    return found


def with_view(raw: bytes, public: Callable[[str], str]) -> bytes:
    """Return a tool (a JSON text) that names its view as `public` says; the very same bytes where nothing changes."""
    edits = [(*span, orjson.dumps(new)) for span, uri in _views(raw) if (new := public(uri)) != uri]
    return jsonrpc.splice(raw, edits) if edits else raw


def _views(raw: bytes) -> list[tuple[Span, str]]:
    """Return where a tool names its view, and the URI; nothing that is not a `ui:` URI is one."""
    if b"resourceUri" not in raw and b"\\u" not in raw:  # keys may be spelled with escapes
        return []
    found = []
    try:
        meta = _object(raw, members(raw, 0, len(raw)).get("_meta"))
        for span in (_object(raw, meta.get(_NESTED[0])).get(_NESTED[1]), meta.get(_FLAT)):
            if span is not None and raw[span[0] : span[0] + 1] == b'"':
                uri = jsonrpc.decode_string(raw, span)
                if uri.startswith(_SCHEME):
                    found.append((span, uri))
    except ProtocolError:
        return []  # a key twice: no two readers need agree on what it says
    return found


def _object(raw: bytes, span: Span | None) -> dict[str, Span]:
    return members(raw, *span) if span is not None and raw[span[0] : span[0] + 1] == b"{" else {}
