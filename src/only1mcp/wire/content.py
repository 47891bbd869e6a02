"""Blocks of content in answers: where they stand, and what clients get whose revision does not know their type.

A client that checks what it is given refuses a whole result for one block of a type that it has never heard of.
"""

from __future__ import annotations

from typing import Final

import orjson

from only1mcp._fast import elements, members
from only1mcp.wire import jsonrpc
from only1mcp.wire.jsonrpc import Edit, Span

# The types that came after a revision, as JSON texts; later revisions know all there are.
UNKNOWN: Final = {
    "2024-11-05": (b'"audio"', b'"resource_link"'),
    "2025-03-26": (b'"resource_link"',),
}
# What is answered with content before there are tasks.
ANSWERS: Final = frozenset({"tools/call", "prompts/get"})
# The name of sound that stands in the place of a resource, which must have one; nothing can be read there.
AUDIO_URI: Final = b'"only1mcp:audio"'


def block_spans(body: bytes, method: str) -> list[Span]:
    """Return where blocks of content stand in an answer to `method`, or in a notification of that method."""
    fields = members(body, body.index(b"{"), body.rindex(b"}") + 1)
    if method == "notifications/tasks":
        return _of_task(body, _object(body, fields.get("params")))
    result = _object(body, fields.get("result"))
    if method in ("tools/call", "tasks/result"):
        return _blocks(body, result.get("content"))
    if method == "tasks/get":
        return _of_task(body, result)
    if method == "prompts/get":
        messages = _objects(body, result.get("messages"))
        return [block for each in messages for block in _blocks(body, members(body, *each).get("content"))]
    return []


def has_unknown(body: bytes, revision: str) -> bool:
    """Return whether a message may hold a block that a client of this revision does not know."""
    return any(kind in body for kind in UNKNOWN.get(revision, ()))


def for_revision(body: bytes, method: str, revision: str) -> bytes:
    """Return an answer without blocks that a client of this revision does not know: the same, said in older types.

    All else keeps its bytes. Sound becomes an embedded resource, a link to a resource a line of text.
    """
    if method not in ANSWERS or not has_unknown(body, revision):
        return body
    unknown = UNKNOWN[revision]
    edits: list[Edit] = []
    for block in block_spans(body, method):
        fields = members(body, *block)
        kind = _text(body, fields, "type")
        older = _OLDER[kind](body, fields) if kind in unknown else None
        if older is not None:
            kept = b"".join(b',"%b":%b' % (key.encode(), _text(body, fields, key)) for key in _KEPT if key in fields)
            edits.append((*block, b"{" + older + kept + b"}"))
    return jsonrpc.splice(body, edits) if edits else body


def _resource(body: bytes, fields: dict[str, Span]) -> bytes | None:
    """Return sound as an embedded resource; None where it is not whole, which is left as it is."""
    data, kind = _text(body, fields, "data"), _text(body, fields, "mimeType")
    if data[:1] != b'"' or kind[:1] != b'"':
        return None
    return b'"type":"resource","resource":{"uri":%b,"mimeType":%b,"blob":%b}' % (AUDIO_URI, kind, data)


def _line(body: bytes, fields: dict[str, Span]) -> bytes | None:
    """Return a link as a text that a model can read; None where it leads nowhere."""
    said = {key: _string(body, fields, key) for key in ("title", "name", "uri", "description")}
    if not said["uri"]:
        return None
    named = said["title"] or said["name"]
    text = f"{named}: {said['uri']}" if named else said["uri"]
    return b'"type":"text","text":' + orjson.dumps(f"{text}\n{said['description']}" if said["description"] else text)


_OLDER: Final = {b'"audio"': _resource, b'"resource_link"': _line}
# Members that every block may have.
_KEPT: Final = ("annotations", "_meta")


def _of_task(body: bytes, task: dict[str, Span]) -> list[Span]:
    """A task that is complete holds the result of the tool."""
    return _blocks(body, _object(body, task.get("result")).get("content"))


def _blocks(body: bytes, span: Span | None) -> list[Span]:
    """Content is an array of blocks, or in prompt messages one block."""
    return [span] if span is not None and _is(body, span, b"{") else _objects(body, span)


def _objects(body: bytes, span: Span | None) -> list[Span]:
    if span is None or not _is(body, span, b"["):
        return []
    return [element for element in elements(body, *span) if _is(body, element, b"{")]


def _object(body: bytes, span: Span | None) -> dict[str, Span]:
    return members(body, *span) if span is not None and _is(body, span, b"{") else {}


def _is(body: bytes, span: Span, opener: bytes) -> bool:
    return body[span[0] : span[0] + 1] == opener


def _text(body: bytes, fields: dict[str, Span], key: str) -> bytes:
    """Return the JSON text of a member, nothing where it is missing."""
    return body[slice(*fields[key])] if key in fields else b""


def _string(body: bytes, fields: dict[str, Span], key: str) -> str:
    value = jsonrpc.decode(body, fields[key]) if key in fields else ""
    return value if isinstance(value, str) else ""
