"""JSON-RPC 2.0 messages as bytes: build them, and change parts of them without decoding the rest.

An `Envelope` (from `_fast`) holds spans into the original bytes; everything here keeps the bytes outside the spans it
replaces exactly as they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from only1mcp._fast import elements, members, scan, splice, string_at
from only1mcp.errors import PARSE_ERROR, ProtocolError

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

__all__ = [
    "Edit",
    "Span",
    "begins_batch",
    "decode",
    "decode_string",
    "edit_object",
    "notification",
    "replace_id",
    "request",
    "result",
    "splice",
    "split_batch",
]

Span = tuple[int, int]
Edit = tuple[int, int, bytes]

_AROUND_BATCH = b'{"jsonrpc":"2.0","id":0,"result":'


def request(id: bytes, method: str, params: bytes | None = None) -> bytes:
    """Return a request; `id` and `params` are JSON texts."""
    head = b'{"jsonrpc":"2.0","id":' + id + b',"method":' + orjson.dumps(method)
    return head + (b',"params":' + params + b"}" if params is not None else b"}")


def notification(method: str, params: bytes | None = None) -> bytes:
    """Return a notification; `params` is a JSON text."""
    head = b'{"jsonrpc":"2.0","method":' + orjson.dumps(method)
    return head + (b',"params":' + params + b"}" if params is not None else b"}")


def result(id: bytes, value: bytes) -> bytes:
    """Return a result response; `id` and `value` are JSON texts."""
    return b'{"jsonrpc":"2.0","id":' + id + b',"result":' + value + b"}"


def begins_batch(data: bytes) -> bool:
    """Return whether this is a batch of messages, if it is anything."""
    return data.lstrip(b" \t\r\n")[:1] == b"["


def split_batch(data: bytes, max_depth: int = 64) -> list[bytes]:
    """Return the elements of a batch, which need not be messages; raise `ProtocolError` unless it is an array.

    Taken apart it costs a hundred bytes of memory for each byte of hostile input: whoever calls this bounds its size.
    """
    # As the result of a response it is validated like any other value, its depth included.
    text = data.strip(b" \t\r\n")
    whole = scan(_AROUND_BATCH + text + b"}", max_depth)
    if whole.result != (len(_AROUND_BATCH), len(_AROUND_BATCH) + len(text)):
        raise ProtocolError("expected one array", code=PARSE_ERROR)
    return [whole.data[start:end] for start, end in elements(whole.data, *whole.result)]


def decode(data: bytes, span: Span) -> Any:
    """Return the Python value of the JSON text at `span`."""
    return orjson.loads(data[span[0] : span[1]])


def decode_string(data: bytes, span: Span) -> str:
    """Return the string at `span`; raise `ProtocolError` when it is another JSON type."""
    value = string_at(data, span)
    if not isinstance(value, str):
        raise ProtocolError(f"expected a string, got {value!r:.40}", code=-32602)
    return value


def replace_id(message: Envelope, id: bytes) -> bytes:
    """Return the message with its id replaced by the JSON text `id`; the message must have one."""
    span = message.id_span
    assert span is not None
    return splice(message.data, ((span[0], span[1], id),))


def edit_object(data: bytes, span: Span, *, put: dict[str, bytes], drop: Iterable[str] = ()) -> bytes:
    """Return the JSON object at `span` with members dropped and put first; all other values keep their bytes.

    `put` maps keys to JSON texts; a key of `put` that is present is replaced.
    """
    gone = {*drop, *put}
    parts = [orjson.dumps(key) + b":" + value for key, value in put.items()]
    for key, (start, end) in members(data, *span).items():
        if key not in gone:
            parts.append(orjson.dumps(key) + b":" + data[start:end])
    return b"{" + b",".join(parts) + b"}"
