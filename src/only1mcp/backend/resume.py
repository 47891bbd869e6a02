"""Goes on reading a stream of the handshake era that broke before the response (MCP 2025-11-25 "Resumability").

A server may also close its stream on purpose, and have us come back for the rest (SEP-1699).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from only1mcp.backend.base import BackendCall, Outcome
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused
from only1mcp.wire import mcp
from only1mcp.wire.mcp import HANDSHAKE
from only1mcp.wire.sse import SSEDecoder

# So often in a row nothing new may come of coming back.
MAX_TRIES: Final = 5
# How long we wait where the server does not say, and at least: a server must not make us spin.
RETRY_S: Final = 1.0
MIN_RETRY_S: Final = 0.05
# Event ids are sent back as a header.
MAX_EVENT_ID_CHARS: Final = 1024


class StreamBroken(BackendAnswerError):
    """The stream ended without the response, and events after `last_event_id` can be asked for."""

    def __init__(self, message: str, last_event_id: str, retry_ms: int | None) -> None:
        super().__init__(message)
        self.last_event_id = last_event_id
        self.retry_s = RETRY_S if retry_ms is None else max(retry_ms / 1000, MIN_RETRY_S)


def broken(reason: str, decoder: SSEDecoder | None, revision: str | None) -> BackendAnswerError:
    """Return the error for a stream that ended without the response, a `StreamBroken` where that can be helped."""
    id = None if decoder is None else decoder.last_event_id
    if decoder is None or not id or revision is None or mcp.era_of(revision) is not HANDSHAKE:
        return BackendAnswerError(reason)
    if len(id) > MAX_EVENT_ID_CHARS or not all(" " < character <= "~" for character in id):
        return BackendAnswerError(reason)
    return StreamBroken(reason, id, decoder.retry_ms)


def last_id(data: bytes, start: int, end: int) -> bytes:
    """Return the line with the id of the last event in this part of the data, empty where none has one."""
    begin = data.rfind(b"\nid:", start, end) + 1
    if not begin and not data.startswith(b"id:", start):
        return b""
    begin = max(begin, start)
    return data[begin : data.find(b"\n", begin) + 1]


async def go_on(
    call: BackendCall,
    end: StreamBroken,
    get: Callable[[str], Awaitable[Outcome]],
    on_abandoned: Callable[[BackendCall], None],
) -> Outcome:
    """Return the response after all; `get` reads what came after an event.

    Raise `BackendError` where it cannot be had. What bounds the whole is the time of the call; `on_abandoned` is called
    when nobody waits any more.
    """
    try:
        return await _go_on(call, end, get)
    except asyncio.CancelledError:
        on_abandoned(call)
        raise


async def _go_on(call: BackendCall, end: StreamBroken, get: Callable[[str], Awaitable[Outcome]]) -> Outcome:
    if call.reader is not None:
        # The client's own stream begins, so that it may leave and come back too.
        call.reader.take_events(b"")
    tries = 0
    while True:
        await asyncio.sleep(end.retry_s)
        try:
            return await get(end.last_event_id)
        except StreamBroken as error:
            tries = 0 if error.last_event_id != end.last_event_id else tries + 1
            end = error
        except BackendRefused as error:
            if error.status == 404:
                raise  # the session is over, and whoever knows it must hear of that
            raise BackendAnswerError(f"{end.message}, and cannot be resumed: {error.message}") from error
        except BackendError as error:
            tries += 1
            if tries >= MAX_TRIES:
                raise BackendAnswerError(f"{end.message}, and cannot be resumed: {error.message}") from error
        if tries >= MAX_TRIES:
            raise end
