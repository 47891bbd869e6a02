"""HTTP/1.1 connections without I/O, seen from the server and from the client (RFC 9112).

Feed `receive_data` and `receive_eof`, then call `next_event` until it returns None; write what the `send_*` methods
return. One exchange at a time: after END nothing more is parsed until `start_next_cycle`.
"""

from __future__ import annotations

from typing import Final

import h11

from only1mcp._fast import read_request, read_response
from only1mcp.errors import ProtocolError
from only1mcp.wire.http1_body import NO_BODY, Body, ChunkedBody, LengthBody, UntilEOFBody
from only1mcp.wire.http1_events import (
    CLOSED,
    END,
    ClientEvent,
    Headers,
    RequestHead,
    ResponseHead,
    ServerEvent,
)
from only1mcp.wire.http1_head import (
    HeadCutter,
    check_request_line,
    check_status_line,
    read_request_head,
    read_response_head,
)
from only1mcp.wire.http1_state import State
from only1mcp.wire.http1_write import CLOSE_DELIMITED, StreamFraming, h11_after, request_bytes, response_bytes

# Interim responses that one request may get before its answer; more is a way to keep us busy for ever.
MAX_INTERIM_RESPONSES: Final = 16

# A member costs more to look up in its class than the comparison with it.
_HEAD, _BODY, _DONE, _CLOSED, _ERROR = State


class ServerConnection:
    """The server's side of one connection: requests come in, responses go out.

    `max_header_bytes` bounds the head and the trailer section, `max_body_bytes` the decoded body.
    """

    def __init__(self, max_header_bytes: int, max_body_bytes: int) -> None:
        self._max_header = max_header_bytes
        self._max_body = max_body_bytes
        self._buffer = bytearray()
        self._cutter = HeadCutter(max_header_bytes, "request", self._check_first_line)
        self._eof = False
        self._error: ProtocolError | None = None
        # Ask for `Connection: close` on the next response.
        self.close_after = False
        self._reset()

    def _reset(self) -> None:
        self._state = _HEAD
        self._head: RequestHead | None = None
        self._body: Body = NO_BODY
        self._method = b""
        self._blank_line_ignored = False
        self._continue_expected = False
        self._response: State = _HEAD
        self._stream = CLOSE_DELIMITED

    def __repr__(self) -> str:
        return f"<ServerConnection request={self._state.value} response={self._response.value}>"

    @property
    def pending_bytes(self) -> int:
        """The number of bytes received and not yet consumed."""
        return len(self._buffer)

    @property
    def request_complete(self) -> bool:
        """Whether END has been returned for the request at hand."""
        return self._state is _DONE

    @property
    def continue_expected(self) -> bool:
        """Whether the client waits for `send_continue` before it sends the body (RFC 9110 section 10.1.1)."""
        return self._continue_expected and not self._buffer

    @property
    def must_close(self) -> bool:
        """Whether the connection ends with the response at hand."""
        return self.close_after or self._state in (_ERROR, _CLOSED)

    def receive_data(self, data: bytes) -> None:
        self._buffer += data

    def receive_eof(self) -> None:
        self._eof = True

    def next_event(self) -> ServerEvent | None:
        """Return the next event, or None when more bytes or `start_next_cycle` are needed.

        Raise `ProtocolError` (400, 413, 414, 415, 417, 431, 501, 505) for what is not served: answer it and close.
        """
        if self._error is not None:
            raise self._error
        try:
            if self._state is _HEAD:
                return self._next_head()
            if self._state is _BODY:
                return self._next_data()
        except ProtocolError as error:
            self._error = error
            self._state = _ERROR
            raise
        return CLOSED if self._state is _CLOSED else None

    def send_continue(self) -> bytes:
        """Return the interim response that asks for the body."""
        self._continue_expected = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def send_response(self, status: int, headers: Headers, body: bytes) -> bytes:
        """Return a whole response; Content-Length and, where the connection ends, Connection are added."""
        # "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204"
        # (RFC 9110 section 8.6).
        without_body = status == 204 or status == 304
        length = -1 if without_body else len(body)
        message = self._write(status, headers, length, False, b"" if without_body or self._method == b"HEAD" else body)
        self._response = _DONE
        return message

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> bytes:
        """Return the head of a streamed response; `send_data`, of `length` octets if given, and `send_end` follow."""
        if status in (204, 304):
            raise ValueError(f"a response with status {status} has no body to stream")
        chunked = length is None and self._head is not None and self._head.http_version != b"1.0"
        if length is None and not chunked:
            self.close_after = True
        self._stream = StreamFraming(length, chunked=chunked)
        message = self._write(status, headers, -1 if length is None else length, chunked, b"")
        self._response = _BODY
        return message

    def send_data(self, data: bytes) -> bytes:
        """Return `data` framed as a part of the body; it may be empty."""
        before, after = self.frame_data(len(data))
        return b"" if self._method == b"HEAD" else before + data + after if before else data

    def frame_data(self, size: int) -> tuple[bytes, bytes]:
        """Return what stands before and behind the next `size` octets of the body, which are sent as they are."""
        if self._response is not _BODY:
            raise RuntimeError(f"expected a started stream, got data in state {self._response.value}")
        return self._stream.around(size)

    def send_end(self) -> bytes:
        """Return the end of a streamed body; without chunks it is the end of the connection."""
        if self._response is not _BODY:
            raise RuntimeError(f"expected a started stream, got its end in state {self._response.value}")
        end = self._stream.end()
        self._response = _DONE
        return b"" if self._method == b"HEAD" else end

    def start_next_cycle(self) -> bool:
        """Return True and get ready for the next request, or False when the connection must close.

        Both messages must be complete before.
        """
        if self.must_close or self._response is not _DONE or self._state is not _DONE:
            return False
        self._reset()
        return True

    def _next_head(self) -> ServerEvent | None:
        buffer = self._buffer
        # "a server ... SHOULD ignore at least one empty line (CRLF) received prior to the request-line"
        # (RFC 9112 section 2.2).
        if not self._blank_line_ignored and buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._blank_line_ignored = True
        if buffer:
            # Only the first look at a head may be a quick one: repeated for every octet that arrives it would not be.
            if not self._cutter.seen and (plain := read_request(buffer, self._max_header)) is not None:
                method, target, headers, index, length, chunked, close, size = plain
                if length is None or length <= self._max_body:
                    del buffer[:size]
                    self._method = method
                    head = RequestHead(method, target, headers, b"1.1", length, chunked, False, index)
                    return self._begin(head, close)
            raw = self._cutter.maybe_cut(buffer)
            if raw is not None:
                head = read_request_head(raw, self._max_body)
                return self._begin(head, b"close" in head.tokens(b"connection"))
            if self._eof:
                raise ProtocolError("connection closed inside a request head")
            return None
        if self._eof:
            self._state = _CLOSED
            return CLOSED
        return None

    def _begin(self, head: RequestHead, close: bool) -> RequestHead:
        self._head = head
        self._state = _BODY
        self._continue_expected = head.expect_continue
        if head.chunked:
            self._body = ChunkedBody(self._max_body, self._max_header)
        elif head.content_length:
            self._body = LengthBody(head.content_length)
        # HTTP/1.0 is answered and closed: its keep-alive was never specified.
        if close or head.http_version == b"1.0":
            self.close_after = True
        return head

    def _next_data(self) -> ServerEvent | None:
        data = self._body.maybe_read(self._buffer)
        if data is not None:
            self._continue_expected = False
            return data
        if self._body.complete:
            self._continue_expected = False
            self._state = _DONE
            return END
        if self._eof:
            self._body.read_eof()
        return None

    def _check_first_line(self, line: bytes) -> None:
        # Known even when the request is refused: the answer to HEAD has no body.
        self._method = line.partition(b" ")[0]
        check_request_line(line)

    def _write(self, status: int, headers: Headers, length: int, chunked: bool, body: bytes) -> bytes:
        """Return a response or its start; a `length` below 0 is not sent."""
        if self._response is not _HEAD:
            raise RuntimeError(f"expected one response to a request, got another in state {self._response.value}")
        return response_bytes(status, headers, length, chunked, self.must_close, body)


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
        self._reset()

    def _reset(self) -> None:
        self._state = _DONE
        # Only for what is not plain.
        self._h11: h11.Connection | None = None
        self._body: Body = NO_BODY
        self._pieces: list[bytes] = []
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
        return self._state is _DONE and self._keep_alive and not self._eof and not self._buffer

    def send_request(self, method: bytes, target: bytes, headers: Headers, body: bytes = b"") -> bytes:
        """Return the whole request; `headers` must hold Host; Content-Length is added where it belongs.

        Raise ValueError for what must not be sent (a CR in a value, a framing field, no Host).
        """
        if self._method or not self.reusable:
            raise RuntimeError(f"expected a connection between two exchanges, got {self!r}")
        # "A user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed content"
        # (RFC 9110 section 8.6).
        length = len(body) if body or method in (b"POST", b"PUT", b"PATCH") else -1
        message, self._h11 = request_bytes(method, target, headers, length, body)
        self._method = method
        self._state = _HEAD
        return message

    def send_prepared(self, prepared: bytes, body: bytes) -> bytes:
        """Return a whole POST whose head is what `prepare_post` has made."""
        if self._method or not self.reusable:
            raise RuntimeError(f"expected a connection between two exchanges, got {self!r}")
        self._method = b"POST"
        self._state = _HEAD
        return b"%bcontent-length: %d\r\n\r\n%b" % (prepared, len(body), body)

    def receive_data(self, data: bytes) -> None:
        self.response_started = True
        if not self._buffer and self._state is _BODY and self._body.maybe_take(data):
            self._pieces.append(data)  # what most pieces of a large body come to, and needs no copy
        else:
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

    def maybe_whole(self) -> tuple[ResponseHead, bytes] | None:
        """Return the response if exactly all of it is here and plain, with a length; otherwise change nothing.

        Saves the events of an answer that came in one piece; `next_event` is for every other.
        """
        if self._state is not _HEAD or self._h11 is not None or self._method == b"HEAD":
            return None
        plain = read_response(self._buffer, self._max_header)
        if plain is None:
            return None
        status, headers, index, length, _, close, size = plain
        if length is None or close or len(self._buffer) != size + length:
            return None
        body = bytes(memoryview(self._buffer)[size:])
        self._buffer.clear()
        self._state = _DONE
        return ResponseHead(status, headers, b"1.1", length, False, index), body

    def start_next_cycle(self) -> None:
        """Get ready for the next request; only when `reusable`."""
        if not self.reusable:
            raise RuntimeError(f"expected a reusable connection, got {self!r}")
        self._reset()

    def _next_head(self) -> ClientEvent | None:
        # The first look, as in the server; and where h11 has begun, it goes on.
        if self._h11 is None and not self._cutter.seen:
            plain = read_response(self._buffer, self._max_header)
            if plain is not None:
                status, headers, index, length, chunked, close, size = plain
                del self._buffer[:size]
                return self._begin(ResponseHead(status, headers, b"1.1", length, chunked, index), close)
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
