"""HTTP/1.1 message bodies: by length, in chunks, or until the connection ends; framing is judged strictly.

The chunked decoder accepts a subset of what h11 accepts (RFC 9112 section 7.1 without the leniencies), at a cost that
is linear in the octets however small the chunks are.
"""

from __future__ import annotations

import re
import sys
from typing import Final, Protocol

from only1mcp._fast import read_chunks
from only1mcp.errors import ProtocolError
from only1mcp.wire.http1_head import MAX_FIELDS, TOKEN, check_trailer

# Chunk extensions carry nothing that anyone uses; a long line of them is there to burn our time ("A server ought to
# limit the total length of chunk extensions", RFC 9112 section 7.1.1).
MAX_CHUNK_LINE_BYTES: Final = 4096
# Octets of chunk lines beyond 16 a chunk, over the whole body: the bound on extensions as a sum.
MAX_EXTENSION_BYTES: Final = 16 * 1024

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_VALUE = rb"(?:" + TOKEN + rb"|" + _QUOTED + rb")"
# h11 refuses blanks before a `;`, so do we. Possessive, so that no line is read twice.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:;[ \t]*+" + TOKEN + rb"(?:[ \t]*+=[ \t]*+" + _VALUE + rb")?+)*+\r\n")
# What a chunk line may start like while its end is not there yet.
_CHUNK_LINE_START = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+(?:;[^\x00-\x08\x0a-\x1f\x7f]*+)?+\r?)?")


class Body(Protocol):
    """Reads one body off the front of a buffer. `complete` turns true with its last octet."""

    complete: bool

    def maybe_read(self, buffer: bytearray) -> bytes | None:
        """Remove and return the body's octets that have arrived; None when there are none now."""

    def maybe_take(self, data: bytes) -> bool:
        """Count `data`, which comes next, as octets of the body and nothing else, if that is what they are."""

    def read_eof(self) -> None:
        """The connection ended: become complete, or raise `ProtocolError`."""


class LengthBody:
    """A body of exactly `length` octets (RFC 9112 section 6.2)."""

    __slots__ = ("_remaining", "complete")

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.complete = length == 0

    def maybe_read(self, buffer: bytearray) -> bytes | None:
        if self.complete or not buffer:
            return None
        if len(buffer) <= self._remaining:
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(memoryview(buffer)[: self._remaining])
            del buffer[: self._remaining]
        self._remaining -= len(data)
        self.complete = self._remaining == 0
        return data

    def maybe_take(self, data: bytes) -> bool:
        if len(data) > self._remaining:
            return False
        self._remaining -= len(data)
        self.complete = self._remaining == 0
        return True

    def read_eof(self) -> None:
        if not self.complete:
            raise ProtocolError(f"connection closed with {self._remaining} bytes of the body missing")


# Has nothing to remember, so that all exchanges share it.
NO_BODY: Final = LengthBody(0)


class UntilEOFBody:
    """A response body that the end of the connection ends (RFC 9112 section 6.3, item 8)."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def maybe_read(self, buffer: bytearray) -> bytes | None:
        data = bytes(buffer)
        buffer.clear()
        return data or None

    def maybe_take(self, data: bytes) -> bool:
        return True

    def read_eof(self) -> None:
        self.complete = True


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1); extensions and trailer fields are checked and dropped.

    A sum of chunk sizes above `max_body_bytes` (None: no limit) is refused with 413 before the data is read.
    """

    __slots__ = (
        "_extension_bytes",
        "_in_chunk",
        "_in_trailer",
        "_max_body",
        "_received",
        "_trailer_fields",
        "_trailer_left",
        "complete",
    )

    def __init__(self, max_body_bytes: int | None, max_trailer_bytes: int) -> None:
        self.complete = False
        self._max_body = sys.maxsize if max_body_bytes is None else max_body_bytes
        self._received = 0
        self._extension_bytes = 0
        # Octets that the chunk at hand still has to give, its closing CRLF included; 0 between chunks.
        self._in_chunk = 0
        self._in_trailer = False
        self._trailer_left = max_trailer_bytes
        self._trailer_fields = 0

    def maybe_read(self, buffer: bytearray) -> bytes | None:
        if self.complete:
            return None
        position = 0
        data = bytearray()
        available = len(buffer)
        while position < available:
            if self._in_trailer:
                position = self._read_trailer(buffer, position)
                break
            if self._in_chunk == 0:
                position = self._read_whole_chunks(buffer, position, data)
                match = _CHUNK_LINE.match(buffer, position)
                if match is None or match.end() - position > MAX_CHUNK_LINE_BYTES:
                    self._check_partial_line(buffer, position)
                    break
                self._start_chunk(int(match[1], 16), match.end() - position)
                position = match.end()
                # The whole chunk is there: the common case, and the one that many tiny chunks make hot.
                end = position + self._in_chunk
                if self._in_chunk and end <= available and buffer[end - 2] == 13 and buffer[end - 1] == 10:
                    data += buffer[position : end - 2]
                    position = end
                    self._in_chunk = 0
                continue
            if self._in_chunk > 2:
                take = min(self._in_chunk - 2, available - position)
                data += buffer[position : position + take]
                position += take
                self._in_chunk -= take
            while self._in_chunk in (1, 2) and position < available:
                if buffer[position] != b"\n\r"[self._in_chunk - 1]:
                    raise ProtocolError("expected CRLF after the data of a chunk")
                position += 1
                self._in_chunk -= 1
        if position:
            del buffer[:position]
        return bytes(data) or None

    def maybe_take(self, data: bytes) -> bool:
        # Inside a chunk, before its closing CRLF.
        if len(data) > self._in_chunk - 2:
            return False
        self._in_chunk -= len(data)
        return True

    def read_eof(self) -> None:
        if not self.complete:
            raise ProtocolError("connection closed inside a chunked body")

    def _read_whole_chunks(self, buffer: bytearray, position: int, data: bytearray) -> int:
        held = len(data)
        room = self._max_body - self._received
        position, extensions = read_chunks(buffer, position, data, room, MAX_EXTENSION_BYTES - self._extension_bytes)
        self._received += len(data) - held
        self._extension_bytes += extensions
        return position

    def _start_chunk(self, size: int, line_bytes: int) -> None:
        self._extension_bytes += max(0, line_bytes - 16 - 2)
        if self._extension_bytes > MAX_EXTENSION_BYTES:
            raise ProtocolError("too many octets of chunk extensions")
        if size == 0:
            self._in_trailer = True
            return
        self._received += size
        if self._received > self._max_body:
            raise ProtocolError(f"expected a body of at most {self._max_body} bytes", http_status=413)
        self._in_chunk = size + 2

    @staticmethod
    def _check_partial_line(buffer: bytearray, position: int) -> None:
        """Raise `ProtocolError` unless the rest of the buffer can still become a chunk line."""
        if (
            len(buffer) - position > MAX_CHUNK_LINE_BYTES
            or buffer.find(b"\n", position) >= 0
            or _CHUNK_LINE_START.fullmatch(buffer, position) is None
        ):
            raise ProtocolError("expected a chunk size line")

    def _read_trailer(self, buffer: bytearray, position: int) -> int:
        while (end := buffer.find(b"\n", position) + 1) > 0:
            line = bytes(buffer[position:end])
            if line == b"\r\n":
                self.complete = True
                return end
            self._trailer_left -= len(line)
            self._trailer_fields += 1
            if self._trailer_left < 0 or self._trailer_fields > MAX_FIELDS:
                raise ProtocolError("too many trailer fields", http_status=431)
            check_trailer(line)
            position = end
        # One more than is left, so that the CR of the empty line is judged the same at every split.
        if len(buffer) - position > self._trailer_left + 1:
            raise ProtocolError("too many trailer fields", http_status=431)
        return position
