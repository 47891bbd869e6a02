"""The plain-Python twin of `relay.pyx`: progress and log messages of an event stream, many at a time."""

from __future__ import annotations

import re
from typing import Final

from only1mcp._fast.json_walk import Span
from only1mcp._fast.reference import NOTIFICATION, members, scan
from only1mcp.errors import ProtocolError

# What `relay_events` returns instead of the end of an event.
UNFINISHED: Final = -1
UNUSUAL: Final = -2

_LINE_END: Final = re.compile(rb"\r?\n")
# A line of an event as servers write it; the value of its data, if it has any.
_LINE: Final = re.compile(rb"data: ?(.*)|event: message|id:.*|retry:.*|:.*", re.DOTALL)
_PARAMS: Final = {
    b"notifications/progress": ({"progressToken", "progress", "total", "message", "_meta"}, "progressToken"),
    b"notifications/message": ({"level", "logger", "data", "_meta"}, None),
}


def relay_events(
    data: bytes, position: int, token: bytes, replacement: bytes | None, logs: bool
) -> tuple[int, bytes, int]:
    """Relay the events from `position` on, where one begins, up to the first that is not ready or not for us.

    Relayed are progress whose token is `token`, with `replacement` in its place (None: not at all), and, where `logs`
    are wanted, log messages as they are. Each must be valid as `scan` has it and of the plainest form; comments and
    events without data are dropped. Return where that other event begins, what goes to the client, and where the event
    ends: UNFINISHED when the rest of it is still to come, UNUSUAL when its lines are not ended by LF or CRLF.
    """
    out = bytearray()
    while True:
        values, end = _event(data, position)
        if end < 0:
            return position, bytes(out), end
        if values is None or len(values) > 1:
            return position, bytes(out), end
        if values and values[0]:
            relayed = _relayed(values[0], token, replacement, logs)
            if relayed is None:
                return position, bytes(out), end
            out += b"event: message\ndata: " + relayed + b"\n\n"
        position = end


def _event(data: bytes, position: int) -> tuple[list[bytes] | None, int]:
    """Return the values of the data lines of the event at `position`, None for other lines than usual; its end."""
    values: list[bytes] | None = []
    while True:
        match = _LINE_END.search(data, position)
        line = data[position : match.start() if match else len(data)]
        # One at the very end may be the first half of CRLF.
        if b"\r" in (line if match else line[:-1]):
            return None, UNUSUAL
        if match is None:
            return None, UNFINISHED
        position = match.end()
        if not line:
            return values, position
        field = _LINE.fullmatch(line)
        if field is None:
            values = None
        elif field[1] is not None and values is not None:
            values.append(field[1])


def _relayed(text: bytes, token: bytes, replacement: bytes | None, logs: bool) -> bytes | None:
    try:
        message = scan(text)
        if message.kind != NOTIFICATION or message.method_span is None or message.params is None:
            return None
        method = text[slice(*message.method_span)][1:-1]
        known, with_token = _PARAMS.get(method, (None, None))
        params = members(text, *message.params)
    except ProtocolError:
        return None
    if known is None or not params.keys() <= known or not _is_plain(text, message.params):
        return None
    if with_token is None:
        return text if logs else None
    span = params.get(with_token)
    if replacement is None or span is None or text[slice(*span)] != token:
        return None
    return text[: span[0]] + replacement + text[span[1] :]


def _is_plain(text: bytes, params: Span) -> bool:
    """Whether the keys of the message and of its params, and its version, are written without escapes."""
    spans = members(text, text.index(b"{"), text.rindex(b"}") + 1)
    if text[slice(*spans["jsonrpc"])] != b'"2.0"':
        return False
    for start, end in ((text.index(b"{"), text.rindex(b"}") + 1), params):
        keys = bytearray(text[start:end])
        for value_start, value_end in members(text, start, end).values():
            keys[value_start - start : value_end - start] = b"0" * (value_end - value_start)
        if b"\\" in keys:
            return False
    return True
