"""Server-sent events as bytes: a decoder that takes them in any pieces, one for the parts of an event, an encoder.

Both follow the WHATWG HTML standard, section 9.2 "Server-sent events" (https://html.spec.whatwg.org/#server-sent-events).
Data stays bytes: MCP puts one JSON text into each event, and whoever reads it validates its UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from only1mcp.errors import ProtocolError

BOM: Final = b"\xef\xbb\xbf"
CR: Final = 0x0D
LF: Final = 0x0A
# The lines of an event up to the value of its first data line, as servers write them.
_TO_DATA: Final = re.compile(
    rb"(?:(?:event: ?message|id:[^\r\n]*+|retry:[^\r\n]*+|:[^\r\n]*+)\r?\n)*+data:(?: (?=.)|(?=[^ ]))", re.DOTALL
)
# Longest `retry` value we read, in digits (11 days in milliseconds). int() on an unbounded run of digits is quadratic.
MAX_RETRY_DIGITS: Final = 9


@dataclass(slots=True)
class Event:
    """One dispatched event. `id` is the stream's last event id (it outlives the event that set it), None if unset.

    `data` may be empty: MCP servers open resumable streams with an event that has an id and an empty `data:` line.
    """

    event: str
    data: bytes
    id: str | None


class SSEDecoder:
    """Turns the bytes of one event stream into events.

    An event that the stream's end cuts off is never returned. `max_event_bytes` bounds what is held for one event, data
    and unfinished line together; it stops a peer that never ends a line or an event.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self.max_event_bytes = max_event_bytes
        # The reconnection time that the stream last asked for; None if it did not.
        self.retry_ms: int | None = None
        self.last_event_id: str | None = None

        # Bytes before the first line until it is known whether they are a byte order mark; None afterwards.
        self._start: bytes | None = b""
        # The unfinished line, without terminator.
        self._line = bytearray()
        # The last line ended in CR; an LF that comes next belongs to it.
        self._after_cr = False
        # Each data line of the event followed by LF.
        self._data = bytearray()
        self._event = ""
        self._error: ProtocolError | None = None

    def receive_data(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes; raise `ProtocolError`, now and ever after, for one that is too big.

        The events before the oversized one are returned first, whatever the pieces the stream came in.
        """
        if self._error is not None:
            raise self._error
        if self._start is not None:
            data = self._start + data
            if len(data) < len(BOM) and BOM.startswith(data):
                self._start = data
                return []
            self._start = None
            data = data.removeprefix(BOM)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == LF:
                data = data[1:]
        if not data:
            return []

        events: list[Event] = []
        lines = data.splitlines()  # of bytes: at CR, LF and CRLF, as the standard has it
        rest = b"" if data[-1] in (CR, LF) else lines.pop()
        self._after_cr = data[-1] == CR
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        for line in lines:
            if len(line) + len(self._data) > self.max_event_bytes:
                return self._fail(events)
            if line:
                self._take_field(line)
            elif self._data:
                del self._data[-1]
                events.append(Event(self._event or "message", bytes(self._data), self.last_event_id))
                self._data.clear()
                self._event = ""
            else:
                self._event = ""
        self._line += rest
        if len(self._line) + len(self._data) > self.max_event_bytes:
            return self._fail(events)
        return events

    @property
    def between_events(self) -> bool:
        """Whether the next byte begins an event, and a line of it."""
        return not (self._line or self._data or self._event or self._after_cr or self._start)

    @property
    def unfinished_bytes(self) -> int:
        """How much is held of an event that is not complete."""
        return len(self._line) + len(self._data)

    def unfinished_data(self) -> bytes | None:
        """Return the data of a `message` event as far as it is here; None where that is no event, or not clear yet."""
        if self._event not in ("", "message"):
            return None
        if not self._line:
            return bytes(self._data[:-1]) if self._data else None
        # One octet more than the field name and its blank, which is not part of the value.
        if not self._line.startswith(b"data:") or len(self._line) < len(b"data: x"):
            return None
        return bytes(self._data) + bytes(self._line[5:]).removeprefix(b" ")

    def open_event(self) -> OpenEvent:
        """Return what reads on where `unfinished_data` ends. Give `receive_data` what it leaves behind the event."""
        event = OpenEvent(bool(self._line), self._after_cr, self.max_event_bytes)
        self._line.clear()
        self._data.clear()
        self._event = ""
        self._after_cr = False
        return event

    def _fail(self, events: list[Event]) -> list[Event]:
        self._error = ProtocolError(f"an event is longer than {self.max_event_bytes} bytes", http_status=413)
        self._line.clear()
        self._data.clear()
        if not events:
            raise self._error
        return events

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")  # a comment has the empty name
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data += value
            self._data.append(LF)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self.retry_ms = int(value)


class OpenEvent:
    """The rest of one event, whose data is taken part by part instead of being held."""

    def __init__(self, in_data: bool, after_cr: bool, max_line_bytes: int) -> None:
        self.complete = False
        # What came behind the event.
        self.rest = b""
        self._in_data = in_data
        self._after_cr = after_cr
        self._max_line = max_line_bytes
        # The beginning of a line whose field is not known yet, or has no part in the data.
        self._line = bytearray()

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the parts of the event's data that `data` brings; raise `ProtocolError` if it is no `message`."""
        position = 0
        if self._after_cr and data:
            self._after_cr = False
            position = int(data[0] == LF)
        parts: list[bytes] = []
        while position < len(data) and not self.complete:
            end = _line_end(data, position)
            stop = len(data) if end < 0 else end
            if self._in_data:
                if stop > position:
                    parts.append(data[position:stop])  # of all of `data` this is no copy
            else:
                self._line += data[position:stop]
                self._look_at_line(parts, whole=end >= 0)
            position = stop
            if end >= 0:
                position = self._end_line(data, end)
        self.rest = data[position:]
        return parts

    def _look_at_line(self, parts: list[bytes], *, whole: bool) -> None:
        line = self._line
        if not line:
            self.complete = whole
        elif (line.startswith(b"data:") and (whole or len(line) >= len(b"data: x"))) or (whole and line == b"data"):
            self._begin_data(parts)
        elif whole and line.startswith(b"event:") and bytes(line[6:]).removeprefix(b" ") not in (b"", b"message"):
            raise ProtocolError("an event turned out to be no message")
        elif len(line) > self._max_line:
            raise ProtocolError(f"a line of an event is longer than {self._max_line} bytes")

    def _begin_data(self, parts: list[bytes]) -> None:
        self._in_data = True
        parts.append(b"\n" + bytes(self._line[5:]).removeprefix(b" "))

    def _end_line(self, data: bytes, end: int) -> int:
        """Move past the end of the line."""
        self._in_data = False
        self._line.clear()
        if data[end] == LF:
            return end + 1
        self._after_cr = end + 1 == len(data)
        return end + 1 + int(data[end + 1 : end + 2] == b"\n")


def open_event(data: bytes, max_line_bytes: int) -> tuple[bytes, OpenEvent] | None:
    """Return the data of the `message` event that `data` is the beginning of, and what reads on; None if unusual."""
    match = _TO_DATA.match(data)
    if match is None or data.find(b"\n", match.end()) >= 0 or data.find(b"\r", match.end()) >= 0:
        return None
    return data[match.end() :], OpenEvent(in_data=True, after_cr=False, max_line_bytes=max_line_bytes)


def _line_end(data: bytes, start: int) -> int:
    """Return where the line that begins at `start` ends, below 0 if it does not; each octet is looked at twice."""
    lf = data.find(b"\n", start)
    cr = data.find(b"\r", start, len(data) if lf < 0 else lf)
    return lf if cr < 0 else cr


def encode(data: bytes, event: str = "message", id: str | None = None) -> bytes:
    """Return one event. Line ends within `data` reach the reader as LF.

    Raise `ValueError` when `event` or `id` holds CR, LF or NUL: they would end the field and forge the next.
    """
    parts = [b"event: ", _field(event), b"\n"]
    if id is not None:
        parts += (b"id: ", _field(id), b"\n")
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    parts += (b"data: ", data, b"\n\n")
    return b"".join(parts)


def _field(value: str) -> bytes:
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(f"expected a field value without CR, LF and NUL, got {value!r:.60}")
    return value.encode()
