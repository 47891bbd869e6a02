"""The client's side of HTTP/1.1 connections, without I/O: requests go out, responses come in (RFC 9112).

It is used as `wire.http1_server`: feed what is received, take the events, write what the `send_*` methods return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h11

from only1mcp import _fast
from only1mcp._fast import finish_message, read_response
from only1mcp.errors import ProtocolError
from only1mcp.wire.http1_body import NO_BODY, Body, ChunkedBody, LengthBody, UntilEOFBody
from only1mcp.wire.http1_events import END, MAX_KNOWN_BYTES, ClientEvent, Headers, ResponseHead
from only1mcp.wire.http1_head import HeadCutter, check_status_line, read_response_head
from only1mcp.wire.http1_state import State
from only1mcp.wire.http1_write import h11_after, request_bytes

if TYPE_CHECKING:
    from only1mcp._fast.known import KnownHead

# Interim responses that one request may get before its answer; more is a way to keep us busy for ever.
MAX_INTERIM_RESPONSES: Final = 16

# A first piece above this is not copied into the buffer and out of it again.
LARGE_PIECE_BYTES: Final = 128 * 1024

# A member costs more to look up in its class than the comparison with it.
_HEAD, _BODY, _DONE, _CLOSED, _ERROR = State


class ClientConnection:
    """The client's side of one connection: one request goes out, its response comes in, and so on while `reusable`.

    `max_header_bytes` bounds the response head and the trailer section; the caller bounds the body.
    """

    def __init__(self, max_header_bytes: int) -> None:
        self._max_header = max_header_bytes
        self._buffer = bytearray()
        self._cutter = HeadCutter(max_header_bytes, "response", check_status_line)
        self._eof = False
        self._keep_alive = True
        self._error: ProtocolError | None = None
        # The last head that came in one piece with its body.
        self._known: KnownHead | None = None
        self._known_head: ResponseHead | None = None
        self._reset()

    def _reset(self) -> None:
        self._state = _DONE
        # Only for what is not plain.
        self._h11: h11.Connection | None = None
        self._body: Body = NO_BODY
        self._pieces: list[bytes] = []
        # A large first piece, which is not copied through the buffer.
        self._first = b""
        # Of the request that was sent; empty when there is none.
        self._method = b""
        self._interim = 0
        # Whether any byte of the response has arrived.
        self.response_started = False

    def __repr__(self) -> str:
        return f"<ClientConnection response={self._state.value} reusable={self.reusable}>"

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: the last answer is complete and nothing followed it."""
        return self.is_reusable()

    def is_reusable(self) -> bool:
        """Return `reusable`; a property costs more to ask for."""
        return self._state is _DONE and self._keep_alive and not self._eof and not self._buffer

    def send_request(self, method: bytes, target: bytes, headers: Headers, body: bytes = b"") -> bytes:
        """Return the whole request; `headers` must hold Host; Content-Length is added where it belongs.

        Raise ValueError for what must not be sent (a CR in a value, a framing field, no Host).
        """
        if self._method or not self.is_reusable():
            raise RuntimeError(f"expected a connection between two exchanges, got {self!r}")
        # "A user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed content"
        # (RFC 9110 section 8.6).
        length = len(body) if body or method in (b"POST", b"PUT", b"PATCH") else -1
        message, self._h11 = request_bytes(method, target, headers, length, body)
        self._method = method
        self._state = _HEAD
        return message

    def send_prepared(self, prepared: bytes, body: bytes) -> bytes:
        """Return a whole POST whose head is what `maybe_prepare_post` has made."""
        self.sends_post()
        return finish_message(prepared, body)

    def sends_post(self) -> None:
        """Say that a whole POST is sent, with a head from `maybe_prepare_post`."""
        if self._method or not self.is_reusable():
            raise RuntimeError(f"expected a connection between two exchanges, got {self!r}")
        self._method = b"POST"
        self._state = _HEAD

    def receive_data(self, data: bytes) -> None:
        self.response_started = True
        if self._first:
            self._put_first()
        elif not self._buffer:
            if self._state is _BODY and self._body.maybe_take(data):
                self._pieces.append(data)  # what most pieces of a large body come to, and needs no copy
                return
            if self._state is _HEAD and len(data) > LARGE_PIECE_BYTES:
                self._first = data
                return
        self._buffer += data

    def receive_eof(self) -> None:
        self._eof = True

    def next_event(self) -> ClientEvent | None:
        """Return the next event of the response, or None when more bytes are needed or it is complete.

        Interim responses are skipped. Raise `ProtocolError` (502) when the bytes are not one HTTP/1.1 response.
        """
        if self._error is not None:
            raise self._error
        try:
            if self._state is _HEAD:
                return self._next_head()
            if self._state is _BODY:
                return self._next_data()
        except ProtocolError as error:
            error.http_status = 502
            self._error = error
            self._state = _ERROR
            raise
        return None

    def maybe_whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Return the response if it has not begun before `data`, which is all of it and plain; else change nothing.

        In place of `receive_data` and the events of such an answer.
        """
        if self._state is not _HEAD or self._h11 is not None or self._method == b"HEAD" or self._buffer or self._first:
            return None
        known = self._known
        size = -1 if known is None else known.matches(data)
        if size < 0:
            return self._read_whole(data)
        head = self._known_head
        assert known is not None
        assert head is not None
        length = known.length
        if len(data) - size != length or size > self._max_header:
            return None
        if length != head.content_length:
            head = self._known_head = head.with_length(length)
        self.response_started = True
        self._state = _DONE
        return head, data[size:]

    def known_size(self, data: bytes) -> int:
        """Return the octets of the head if `data` is the response, whole, with the head of the last one; -1 otherwise.

        Nothing changes: `take_known` takes the response, and `maybe_whole` would.
        """
        known = self._known
        if known is None or self._state is not _HEAD or self._h11 is not None or self._method == b"HEAD":
            return -1
        if self._buffer or self._first:
            return -1
        size = known.matches(data)
        return size if size >= 0 and len(data) - size == known.length and size <= self._max_header else -1

    def knows_plain(self) -> bool:
        """Return whether the reader has found the last head to be `plain`."""
        return self._known_head is not None and self._known_head.plain

    def take_known(self) -> None:
        """Take the response that `known_size` has recognized."""
        self.response_started = True
        self._state = _DONE

    def _read_whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        plain = read_response(data, self._max_header)
        if plain is None:
            return None
        status, headers, index, length, _, close, size = plain
        if length is None or close or len(data) - size != length:
            return None
        head = ResponseHead(status, headers, b"1.1", length, False, index)
        if size <= MAX_KNOWN_BYTES:
            self._known = _fast.KnownHead(data[:size])
            self._known_head = head
        self.response_started = True
        self._state = _DONE
        return head, data[size:]

    def start_next_cycle(self) -> None:
        """Get ready for the next request; only when `reusable`."""
        if not self.is_reusable():
            raise RuntimeError(f"expected a reusable connection, got {self!r}")
        self._reset()

    def _next_head(self) -> ClientEvent | None:
        # The first look, as in the server; and where h11 has begun, it goes on.
        if self._h11 is None and not self._cutter.seen:
            plain = read_response(self._first or self._buffer, self._max_header)
            if plain is not None:
                status, headers, index, length, chunked, close, size = plain
                begun = self._begin(ResponseHead(status, headers, b"1.1", length, chunked, index), close)
                if self._first:
                    rest, self._first = self._first[size:], b""
                    self.receive_data(rest)
                else:
                    del self._buffer[:size]
                return begun
        if self._first:
            self._put_first()
        while (raw := self._cutter.maybe_cut(self._buffer)) is not None:
            if self._h11 is None:
                self._h11 = h11_after(self._method)
            head = read_response_head(raw, self._h11)
            if head is not None:
                return self._begin(head, b"close" in head.tokens(b"connection"))
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise ProtocolError(f"expected at most {MAX_INTERIM_RESPONSES} interim responses")
        if self._eof:
            raise ProtocolError("connection closed before the response was complete")
        return None

    def _put_first(self) -> None:
        self._buffer += self._first
        self._first = b""

    def _begin(self, head: ResponseHead, close: bool) -> ResponseHead:
        self._state = _BODY
        if close or head.http_version == b"1.0":
            self._keep_alive = False
        # RFC 9112 section 6.3, items 1, 4, 6 and 8.
        if self._method == b"HEAD" or head.status in (204, 304):
            self._body = NO_BODY
        elif head.chunked:
            self._body = ChunkedBody(None, self._max_header)
        elif head.content_length is not None:
            self._body = LengthBody(head.content_length)
        else:
            self._body = UntilEOFBody()
            self._keep_alive = False
        return head

    def _next_data(self) -> ClientEvent | None:
        data = self._pieces.pop(0) if self._pieces else self._body.maybe_read(self._buffer)
        if data is not None:
            return data
        if self._eof:
            self._body.read_eof()
        if self._body.complete:
            self._state = _DONE
            return END
        return None
