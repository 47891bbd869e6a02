"""Bounds the parts of a message that are taken apart here; what only passes through may be as long as a body."""

from __future__ import annotations

from typing import Final

from only1mcp._fast import Envelope
from only1mcp.errors import RequestRefused

# A body of 10 MB of tiny members, taken apart, costs a second of the event loop and 200 MB of memory. A quarter of a
# megabyte costs less than 50 ms, and is far more than any client has to say in `_meta`, capabilities or a URI.
MAX_DECODED_BYTES: Final = 256 * 1024
# The data of their users is in `arguments`, which nobody here looks into.
_CARRIERS: Final = frozenset({"tools/call", "prompts/get"})


def check_sizes(message: Envelope) -> None:
    """Raise `RequestRefused` (-32602) when a part that must be decoded is longer than `MAX_DECODED_BYTES`."""
    if len(message.data) <= MAX_DECODED_BYTES:
        return
    parts = (
        {"params.name": message.name, "params._meta": message.meta}
        if message.method in _CARRIERS
        else {"params": message.params}
    )
    for name, span in parts.items():
        if span is not None and span[1] - span[0] > MAX_DECODED_BYTES:
            raise RequestRefused(f"expected {name} to be at most {MAX_DECODED_BYTES} bytes, got {span[1] - span[0]}")
