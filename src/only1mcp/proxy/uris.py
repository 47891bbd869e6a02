"""Resource URIs inside answers: rewritten where another group would answer to the same URI."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from only1mcp._fast import elements, members
from only1mcp.wire import jsonrpc
from only1mcp.wire.content import block_spans
from only1mcp.wire.jsonrpc import Edit, Span

Public = Callable[[str], str]


def rewrite(body: bytes, method: str, public: Public) -> bytes:
    """Return the JSON-RPC answer with every resource URI it holds passed through `public`; all else stays as it is.

    `method` is the one that it answers, or that of a notification.
    """
    fields = members(body, body.index(b"{"), body.rindex(b"}") + 1)
    edits: list[Edit] = []
    for block in block_spans(body, method):
        _edit_block(body, block, public, edits)
    if method == "resources/read" and "result" in fields and _is(body, fields["result"], b"{"):
        contents = members(body, *fields["result"]).get("contents")
        if contents is not None and _is(body, contents, b"["):
            for content in elements(body, *contents):
                if _is(body, content, b"{"):
                    _edit(body, content, "uri", public, edits)
    elif "error" in fields and _is(body, fields["error"], b"{"):
        data = members(body, *fields["error"]).get("data")
        if data is not None and _is(body, data, b"{"):
            _edit(body, data, "uri", public, edits)
    return jsonrpc.splice(body, edits) if edits else body


def _edit_block(body: bytes, block: Span, public: Public, edits: list[Edit]) -> None:
    fields = members(body, *block)
    kind = body[slice(*fields["type"])] if "type" in fields else b""
    if kind == b'"resource_link"':
        _edit(body, block, "uri", public, edits)
    elif kind == b'"resource"' and "resource" in fields and _is(body, fields["resource"], b"{"):
        _edit(body, fields["resource"], "uri", public, edits)


def _edit(body: bytes, span: Span, key: str, public: Public, edits: list[Edit]) -> None:
    found = members(body, *span).get(key)
    if found is None or not _is(body, found, b'"'):
        return
    uri = jsonrpc.decode_string(body, found)
    new = public(uri)
    if new != uri:
        edits.append((*found, orjson.dumps(new)))


def _is(body: bytes, span: Span, opener: bytes) -> bool:
    return body[span[0] : span[0] + 1] == opener
