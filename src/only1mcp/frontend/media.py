"""Which media types a POST must name (MCP "Streamable HTTP", sending messages; RFC 9110 sections 8.3 and 12.5.1)."""

from __future__ import annotations

from functools import lru_cache

from only1mcp.errors import INVALID_REQUEST, RequestRefused
from only1mcp.wire.http1_events import RequestHead

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream"


def check_media_types(head: RequestHead) -> None:
    """Raise `RequestRefused`: 400 for a body not declared JSON, 406 for a client that takes only one answer form."""
    check_json(head)
    if not _accepts_both(tuple(head.get_all(b"accept"))):
        raise RequestRefused(
            "the Accept header must list application/json and text/event-stream",
            code=INVALID_REQUEST,
            http_status=406,
        )


def check_json(head: RequestHead) -> None:
    """Raise `RequestRefused` (400) for a body not declared JSON."""
    declared = head.get(b"content-type")
    if not _is_json(declared or b""):
        raise RequestRefused(
            f"expected Content-Type application/json, got {(declared or b'nothing').decode('latin-1'):.60}",
            code=INVALID_REQUEST,
        )


# Clients send the same few values with every request.
@lru_cache(maxsize=64)
def _is_json(declared: bytes) -> bool:
    kind, _, parameters = declared.lower().partition(b";")
    return kind.strip() == JSON and _without_blanks(parameters).replace(b'"', b"") in (b"", b"charset=utf-8")


@lru_cache(maxsize=64)
def _accepts_both(values: tuple[bytes, ...]) -> bool:
    taken: dict[bytes, bool] = {}
    for value in values:
        for entry in value.lower().split(b","):
            kind, *parameters = _without_blanks(entry).split(b";")
            taken[kind] = not any(p.startswith(b"q=") and not p[2:].strip(b"0.") for p in parameters)
    return all(_is_taken(kind, taken) for kind in (JSON, EVENT_STREAM))


def _is_taken(kind: bytes, taken: dict[bytes, bool]) -> bool:
    """The most specific range decides (RFC 9110 section 12.5.1)."""
    return next((taken[each] for each in (kind, kind.split(b"/")[0] + b"/*", b"*/*") if each in taken), False)


def _without_blanks(text: bytes) -> bytes:
    return text.replace(b" ", b"").replace(b"\t", b"")
