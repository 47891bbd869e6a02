"""What follows an answer (the end of a stream, the page of an error) and is read to keep the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from only1mcp.backend.connection import Event, HttpConnection
from only1mcp.errors import BackendAnswerError

# No further than this.
DRAIN_BYTES: Final = 64 * 1024
DRAIN_TIMEOUT_S: Final = 1.0


def weigh(piece: Event, is_surplus: Callable[[bytes], bool] | None) -> int:
    """Return how much of the allowed rest `piece` uses up, all of it and more when there should be no such bytes."""
    if not isinstance(piece, bytes):
        return 0
    return DRAIN_BYTES + 1 if is_surplus is not None and is_surplus(piece) else len(piece)


def skim(connection: HttpConnection, is_surplus: Callable[[bytes], bool] | None) -> int | None:
    """Read what is here of it; return how much more may come, None where nothing has to be waited for."""
    left = DRAIN_BYTES
    try:
        while not (connection.ended or connection.dead):
            piece = connection.maybe_event()
            if piece is None:
                return left
            left -= weigh(piece, is_surplus)
            if left < 0:
                connection.abort()
    except BackendAnswerError:
        connection.abort()
    return None


async def drain(
    connection: HttpConnection,
    is_surplus: Callable[[bytes], bool] | None,
    left: int,
    release: Callable[[HttpConnection], None],
) -> None:
    """Read the rest and release the connection, which is of no more use after one that is too long, late or wrong."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while left >= 0 and not connection.ended:
                left -= weigh(await connection.next_event(), is_surplus)
    except (TimeoutError, BackendAnswerError):
        connection.abort()
    finally:
        release(connection)
