"""Lines out of a stream of bytes, sans-I/O: newline-delimited JSON with a limit, and whose answer a lost line was."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

# A program that prints without end and never a message would take the time of every other backend. A server that greets
# people on its standard output prints far fewer lines before its first message.
MAX_GARBAGE_LINES: Final = 1000
# What is kept of both ends of a line beyond the limit: enough for the members around the id, useless as a store.
KEPT_BYTES: Final = 1024

_ID: Final = rb'(-?[0-9]{1,20}|"[^"\\\x00-\x1f]{0,200}")'
_VERSION: Final = rb'\s*"jsonrpc"\s*:\s*"2\.0"\s*,'
_OPEN: Final = rb"\s*\{(?:" + _VERSION + rb")?"
_ID_AHEAD: Final = re.compile(
    _OPEN + rb'\s*"id"\s*:\s*' + _ID + rb"\s*,(?:" + _VERSION + rb')?\s*"(?:result|error)"\s*:'
)
_ANSWER_AHEAD: Final = re.compile(_OPEN + rb'\s*"(?:result|error)"\s*:')
_ID_AT_END: Final = re.compile(
    rb'(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?,\s*"id"\s*:\s*' + _ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z'
)
_METHOD_AHEAD: Final = re.compile(_OPEN + rb'(?:\s*"id"\s*:\s*' + _ID + rb'\s*,)?\s*"method"\s*:')


class Overlong(NamedTuple):
    """A line beyond the limit: its size and what was kept of its two ends."""

    head: bytes
    tail: bytes
    size: int


class LineSplitter:
    """Splits a stream at newlines (MCP "stdio": no message holds one). A line beyond the limit is never held."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._overlong: tuple[bytes, bytes] | None = None

    def receive_data(self, data: bytes) -> list[bytes | Overlong]:
        """Return the lines that `data` completes, without their CR LF or LF."""
        lines: list[bytes | Overlong] = []
        complete = data.split(b"\n")
        rest = complete.pop()
        if self._size or len(data) > self.limit:
            for part in complete:
                self._keep(part)
                lines.append(self._take())
        elif b"\r" in data:
            lines += map(_without_cr, complete)
        else:  # whole lines, as most servers write
            lines += complete
        if rest:
            self._keep(rest)
        return lines

    def receive_eof(self) -> list[bytes | Overlong]:
        """Return what follows the last newline, if anything does."""
        return [self._take()] if self._size else []

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._overlong is not None:
            head, tail = self._overlong
            self._overlong = (head, (tail + part[-KEPT_BYTES:])[-KEPT_BYTES:])
            return
        self._parts.append(part)
        if self._size > self.limit:
            line = b"".join(self._parts)
            self._parts.clear()
            self._overlong = (line[:KEPT_BYTES], line[-KEPT_BYTES:])

    def _take(self) -> bytes | Overlong:
        if self._overlong is not None:
            line: bytes | Overlong = Overlong(*self._overlong, self._size)
        else:
            line = _without_cr(b"".join(self._parts))
        self._parts.clear()
        self._size = 0
        self._overlong = None
        return line


def _without_cr(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") else line


def answered_id(head: bytes, tail: bytes) -> bytes | None:
    """Return the raw id of a response of which only the two ends are known, or None where they leave room for doubt.

    An id right after the opening brace, or right before the last closing one, is a member of the message itself: the
    byte before its key is a brace or comma outside any string.
    """
    ahead = _ID_AHEAD.match(head)
    if ahead is not None:
        return ahead[1]
    at_end = _ID_AT_END.search(tail) if _ANSWER_AHEAD.match(head) else None
    return at_end[1] if at_end is not None else None


def is_asking(head: bytes) -> bool:
    """Return whether the message that begins with `head` is a request or a notification: nobody's answer."""
    return _METHOD_AHEAD.match(head) is not None


def asked_id(head: bytes, tail: bytes) -> bytes | None:
    """Return the raw id of a request of which only the two ends are known, as `answered_id` does for a response."""
    ahead = _METHOD_AHEAD.match(head)
    if ahead is None:
        return None
    at_end = _ID_AT_END.search(tail) if ahead[1] is None else None
    return ahead[1] if at_end is None else at_end[1]


def asks(line: bytes) -> bool:
    """Return whether a line that failed the scan is a request or notification all the same; their ids are not ours."""
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return is_asking(line[:KEPT_BYTES])
    return isinstance(message, dict) and "method" in message
