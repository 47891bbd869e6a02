"""Tasks as bytes: who declares them, where their ids stand, and what a client is told of them.

The extension `io.modelcontextprotocol/tasks` of 2026-07-28, and "Tasks" of 2025-11-25, which has another form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from only1mcp._fast import members, mentions
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.jsonrpc import Span
from only1mcp.wire.listen import META_SUBSCRIPTION_ID, stamp
from only1mcp.wire.mcp import META_RELATED_TASK, STATELESS, TASKS_EXTENSION, Era
from only1mcp.wire.parked import declared

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

# What a client lacks that has not declared the extension, in the form of `data.requiredCapabilities` of -32021.
REQUIRED: Final[dict[str, Any]] = {"extensions": {TASKS_EXTENSION: {}}}
_BRACE: Final = ord("{")
_QUOTE: Final = ord('"')


def declares(request: Envelope) -> bool:
    """Return whether a stateless request declares the extension."""
    if request.meta is None or not mentions(request.data, request.meta, TASKS_EXTENSION.encode()):
        return False
    extensions = declared(request).get("extensions")
    return isinstance(extensions, dict) and isinstance(extensions.get(TASKS_EXTENSION), dict)


def named(request: Envelope) -> Span:
    """Return where a request names its task; raise `ProtocolError` (-32602) where it does not."""
    span = None if request.params is None else members(request.data, *request.params).get("taskId")
    if span is None or request.data[span[0]] != _QUOTE:
        raise ProtocolError("params.taskId must be a string", code=INVALID_PARAMS)
    return span


def id_spans(body: bytes, era: Era, *, created: bool) -> list[Span]:
    """Return where the result in an answer names its task; `created` for one that may have made it.

    There is none in an error, nor in the result of a call that has made no task.
    """
    result = _object(body, _object(body, (body.index(b"{"), body.rindex(b"}") + 1)).get("result"))
    if era is STATELESS:
        kind = result.get("resultType")
        if created and (kind is None or jsonrpc.decode(body, kind) != "task"):
            return []
        found = [result]
    else:
        related = _object(body, _object(body, result.get("_meta")).get(META_RELATED_TASK))
        found = [related, _object(body, result.get("task")) if created else result]
    spans = [fields["taskId"] for fields in found if "taskId" in fields]
    return [span for span in spans if body[span[0]] == _QUOTE]


def related_span(request: Envelope) -> Span | None:
    """Return where a request of a handshake server names the task that it belongs to, None where it does not."""
    if request.meta is None or not mentions(request.data, request.meta, META_RELATED_TASK.encode()):
        return None
    span = _object(request.data, members(request.data, *request.meta).get(META_RELATED_TASK)).get("taskId")
    return span if span is not None and request.data[span[0]] == _QUOTE else None


def told(message: Envelope) -> str | None:
    """Return the task that `notifications/tasks` is about, None for a message that does not say."""
    span = _object(message.data, message.params).get("taskId")
    return None if span is None or message.data[span[0]] != _QUOTE else jsonrpc.decode_string(message.data, span)


def retold(message: Envelope, id: bytes, listen_id: bytes) -> bytes:
    """Return `notifications/tasks` for the listen with the id `listen_id`, whose client knows the task as `id`.

    Both are JSON texts.
    """
    data = message.data
    assert message.params is not None
    meta = jsonrpc.edit_object(data, message.meta, put={META_SUBSCRIPTION_ID: listen_id}) if message.meta else None
    put = {"_meta": stamp(listen_id) if meta is None else meta, "taskId": id}
    return jsonrpc.notification("notifications/tasks", jsonrpc.edit_object(data, message.params, put=put))


def granted(message: Envelope) -> frozenset[str]:
    """Return the tasks that the acknowledgement of a listen names."""
    span = _object(message.data, message.params).get("notifications")
    value = None if span is None else orjson.loads(message.data[slice(*span)])
    ids = value.get("taskIds") if isinstance(value, dict) else None
    return frozenset(id for id in ids if isinstance(id, str)) if isinstance(ids, list) else frozenset()


def _object(data: bytes, span: Span | None) -> dict[str, Span]:
    """Return the members of an object, none for what is missing or of another type."""
    return members(data, *span) if span is not None and data[span[0]] == _BRACE else {}
