"""What HTTP/1.1 connections send: whole messages or their heads, checked; compiled where they are plain."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import h11

from only1mcp._fast import Headers, write_request, write_response
from only1mcp.wire.http1_head import TOKEN

_NAME = re.compile(TOKEN)
_FIELD_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_SET_BY_CONNECTION = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii")) for status in HTTPStatus
}


class StreamFraming:
    """The framing of a body that is sent in pieces: an announced length, chunks, or the end of the connection."""

    __slots__ = ("_chunked", "_left")

    def __init__(self, length: int | None, *, chunked: bool) -> None:
        self._left = length
        self._chunked = chunked

    def around(self, size: int) -> tuple[bytes, bytes]:
        """Return what stands before and behind the next `size` octets; raise RuntimeError for more than announced."""
        if self._left is not None:
            if size > self._left:
                raise RuntimeError(f"expected at most {self._left} more octets of the body, got {size}")
            self._left -= size
        # An empty chunk would end the body.
        return (b"%x\r\n" % size, b"\r\n") if self._chunked and size else (b"", b"")

    def end(self) -> bytes:
        """Return what ends the body; raise RuntimeError for less than announced."""
        if self._left:
            raise RuntimeError(f"expected {self._left} more octets of the body, got its end")
        return b"0\r\n\r\n" if self._chunked else b""


# Has nothing to remember, so that all exchanges share it.
CLOSE_DELIMITED: Final = StreamFraming(None, chunked=False)


def request_bytes(
    method: bytes, target: bytes, headers: Headers, length: int, body: bytes
) -> tuple[bytes, h11.Connection | None]:
    """Return a whole request, and h11's side of the exchange if it had to write it; below 0 there is no `length`.

    Raise ValueError for what must not be sent.
    """
    message = write_request(method, target, headers, length, body)
    if message is not None:
        return message, None
    check_fields(headers)
    framing = [(b"content-length", b"%d" % length)] if length >= 0 else []
    connection, head = _h11_request(method, target, [*headers, *framing])
    return head + body, connection


def maybe_prepare_post(target: bytes, headers: Headers) -> bytes | None:
    """Return the head of a POST up to where Content-Length comes, None where h11 must see each such request.

    Raise ValueError for what must not be sent.
    """
    message, connection = request_bytes(b"POST", target, headers, -1, b"")
    return message.removesuffix(b"\r\n") if connection is None else None


def response_bytes(status: int, headers: Headers, length: int, chunked: bool, close: bool, body: bytes) -> bytes:
    """Return a whole response or the start of one; below 0 there is no `length`. Raise ValueError as above."""
    line = _STATUS_LINES.get(status)
    if line is None:
        line = b"HTTP/1.1 %d \r\n" % status
    message = write_response(line, headers, length, chunked, close, body)
    if message is not None:
        return message
    check_fields(headers)
    parts = [line]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    if close:
        parts.append(b"connection: close\r\n")
    if length >= 0:
        parts.append(b"content-length: %d\r\n" % length)
    if chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    return b"".join((*parts, b"\r\n", body))


def h11_after(method: bytes) -> h11.Connection:
    """Return h11's side of an exchange whose plain request it has not seen; only the method matters to the response."""
    return _h11_request(method, b"/", [(b"host", b"a")])[0]


def check_fields(headers: Headers) -> None:
    """Raise ValueError for a field to be sent that is none, or that is the connection's own to set."""
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _FIELD_VALUE.fullmatch(value) is None:
            raise ValueError(f"expected a header field, got {name!r}: {value!r:.80}")
        if name.lower() in _SET_BY_CONNECTION:
            raise ValueError(f"the connection sets {name.decode()} itself")


def _h11_request(method: bytes, target: bytes, headers: Headers) -> tuple[h11.Connection, bytes]:
    connection = h11.Connection(h11.CLIENT)
    try:
        head = connection.send(h11.Request(method=method, target=target, headers=headers))
    except h11.LocalProtocolError as error:
        raise ValueError(f"expected a request that HTTP allows: {error}") from None
    assert head is not None
    return connection, bytes(head)
