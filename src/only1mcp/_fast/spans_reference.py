"""What `spans.pyx` does, in plain Python: look values up in JSON, read them, and put others in their place."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from only1mcp._fast.json_walk import Span
from only1mcp._fast.reference import members

Edit = tuple[int, int, bytes]


def pick(data: bytes, span: Span, names: tuple[bytes, ...]) -> list[Span | None]:
    """Return the span of each named member of the object at `span`, None for one that is not there.

    Refuses what `members` refuses: an object with the same key twice, whichever key it is.
    """
    found = members(data, *span)
    return [found.get(name.decode()) for name in names]


def splice(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Return `data` with each `(start, end, replacement)` applied; edits must not overlap, in any order."""
    parts = []
    position = 0
    for start, end, replacement in sorted(edits):
        parts.append(data[position:start])
        parts.append(replacement)
        position = end
    parts.append(data[position:])
    return b"".join(parts)


def says(data: bytes, span: Span, text: bytes) -> bool:
    """Return whether the JSON text at `span` is the plain spelling of `text`: ASCII without quotes and escapes."""
    plain = all(0x20 <= octet <= 0x7E and octet not in b'\\"' for octet in text)
    return plain and data[span[0] : span[1]] == b'"' + text + b'"'


def string_at(data: bytes, span: Span) -> object:
    """Return the Python value of the JSON text at `span`, which is mostly a string."""
    return orjson.loads(data[span[0] : span[1]])


def mentions(data: bytes, span: Span, word: bytes) -> bool:
    """Return False only if no string in the JSON at `span` contains `word`, however it is spelled."""
    start, end = span
    if not 0 <= start <= end <= len(data):
        raise IndexError(f"span {start}:{end} of {len(data)} bytes")
    text = data[start:end]
    return b"\\" in text or word in text
