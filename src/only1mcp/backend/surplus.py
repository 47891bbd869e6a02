"""What follows an answer (the end of a stream, the page of an error) and is read to keep the connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from only1mcp.backend.connection import Event

# No further than this.
DRAIN_BYTES: Final = 64 * 1024


def weigh(piece: Event, is_surplus: Callable[[bytes], bool] | None) -> int:
    """Return how much of the allowed rest `piece` uses up, all of it and more when there should be no such bytes."""
    if not isinstance(piece, bytes):
        return 0
    return DRAIN_BYTES + 1 if is_surplus is not None and is_surplus(piece) else len(piece)
