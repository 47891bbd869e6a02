"""Resource URIs inside answers: rewritten where another group would answer to the same URI."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from only1mcp._fast import elements, members
from only1mcp.wire import jsonrpc
from only1mcp.wire.jsonrpc import Edit, Span

Public = Callable[[str], str]


def rewrite(body: bytes, method: str, public: Public) -> bytes:
    """Return the JSON-RPC answer with every resource URI it holds passed through `public`; all else stays as it is.

    `method` is the one that it answers, or that of a notification.
    """
    fields = members(body, *_trimmed(body))
    edits: list[Edit] = []
    if "result" in fields and _is(body, fields["result"], b"{"):
        result = members(body, *fields["result"])
        if method == "resources/read":
            for content in _objects(body, result.get("contents")):
                _edit(body, content, "uri", public, edits)
        elif method in ("tools/call", "tasks/result"):
            _blocks(body, result.get("content"), public, edits)
        elif method == "tasks/get":
            _blocks_of_task(body, result, public, edits)
        elif method == "prompts/get":
            for message in _objects(body, result.get("messages")):
                _blocks(body, members(body, *message).get("content"), public, edits)
    elif method == "notifications/tasks" and "params" in fields:
        _blocks_of_task(body, members(body, *fields["params"]), public, edits)
    elif "error" in fields and _is(body, fields["error"], b"{"):
        data = members(body, *fields["error"]).get("data")
        if data is not None and _is(body, data, b"{"):
            _edit(body, data, "uri", public, edits)
    return jsonrpc.splice(body, edits) if edits else body


def _blocks_of_task(body: bytes, task: dict[str, Span], public: Public, edits: list[Edit]) -> None:
    """A task that is complete holds the result of the tool."""
    if "result" in task and _is(body, task["result"], b"{"):
        _blocks(body, members(body, *task["result"]).get("content"), public, edits)


def _blocks(body: bytes, span: Span | None, public: Public, edits: list[Edit]) -> None:
    """Content is an array of blocks, or in prompt messages one block."""
    blocks = [span] if span is not None and _is(body, span, b"{") else _objects(body, span)
    for block in blocks:
        fields = members(body, *block)
        kind = fields.get("type")
        if kind is None:
            continue
        if body[slice(*kind)] == b'"resource_link"':
            _edit(body, block, "uri", public, edits)
        elif body[slice(*kind)] == b'"resource"' and "resource" in fields and _is(body, fields["resource"], b"{"):
            _edit(body, fields["resource"], "uri", public, edits)


def _edit(body: bytes, span: Span, key: str, public: Public, edits: list[Edit]) -> None:
    found = members(body, *span).get(key)
    if found is None or not _is(body, found, b'"'):
        return
    uri = jsonrpc.decode_string(body, found)
    new = public(uri)
    if new != uri:
        edits.append((*found, orjson.dumps(new)))


def _objects(body: bytes, span: Span | None) -> list[Span]:
    if span is None or not _is(body, span, b"["):
        return []
    return [element for element in elements(body, *span) if _is(body, element, b"{")]


def _is(body: bytes, span: Span, opener: bytes) -> bool:
    return body[span[0] : span[0] + 1] == opener


def _trimmed(body: bytes) -> Span:
    return body.index(b"{"), body.rindex(b"}") + 1
