"""The server's side of HTTP/1.1 connections, without I/O: requests come in, responses go out (RFC 9112).

Feed `receive_data` and `receive_eof`, then call `next_event` until it returns None; write what the `send_*` methods
return. One exchange at a time: after END nothing more is parsed until `start_next_cycle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from only1mcp import _fast
from only1mcp._fast import finish_message, read_request
from only1mcp.errors import ProtocolError
from only1mcp.wire.http1_body import NO_BODY, Body, ChunkedBody, LengthBody
from only1mcp.wire.http1_events import CLOSED, END, MAX_KNOWN_BYTES, Headers, RequestHead, ServerEvent
from only1mcp.wire.http1_head import HeadCutter, check_request_line, read_request_head
from only1mcp.wire.http1_state import State
from only1mcp.wire.http1_write import CLOSE_DELIMITED, StreamFraming, response_bytes

if TYPE_CHECKING:
    from only1mcp._fast.known import KnownHead

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
        self._cutter = HeadCutter(max_header_bytes, "request", check_request_line)
        self._eof = False
        self._error: ProtocolError | None = None
        # The last head that came in one piece with its body.
        self._known: KnownHead | None = None
        self._known_head: RequestHead | None = None
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
        return self.close_after or self._state is _ERROR or self._state is _CLOSED

    def receive_data(self, data: bytes) -> None:
        self._buffer += data

    def maybe_whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return head and body if `data` is one request and no more, whole and plain; otherwise change nothing.

        In place of `receive_data` and the events of such a request.
        """
        if self._state is not _HEAD or self._buffer or self._eof:
            return None
        known = self._known
        size = -1 if known is None else known.matches(data)
        if size < 0:
            return self._read_whole(data)
        head = self._known_head
        assert known is not None
        assert head is not None
        length = known.length
        if len(data) - size != length or size > self._max_header or length > self._max_body:
            return None
        if length != head.content_length:
            head = self._known_head = head.with_length(length)
        self._take_whole(head)
        return head, data[size:]

    def known_size(self, known: KnownHead, data: bytes) -> int:
        """Return the octets of the head if `data` is one request, whole, with this head or another name; -1 otherwise.

        Nothing changes; `maybe_whole` would take the request, and its response could be sent prepared.
        """
        if self._state is not _HEAD or self._buffer or self._eof or self.close_after or self._blank_line_ignored:
            return -1
        size = known.matches_but_name(data)
        if size < 0 or len(data) - size != known.length or size > self._max_header or known.length > self._max_body:
            return -1
        return size

    def known_as(self, head: RequestHead) -> KnownHead | None:
        """Return the octets of the head if it is the last one that came in one piece with its body."""
        return self._known if self._known_head is head else None

    def _read_whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        plain = read_request(data, self._max_header)
        if plain is None:
            return None
        method, target, headers, index, length, _, close, size = plain
        if length is None or len(data) - size != length or length > self._max_body:
            return None
        head = RequestHead(method, target, headers, b"1.1", length, False, False, index)
        if close:
            self.close_after = True
        elif size <= MAX_KNOWN_BYTES:
            self._known = _fast.KnownHead(data[:size])
            self._known_head = head
        self._take_whole(head)
        return head, data[size:]

    def _take_whole(self, head: RequestHead) -> None:
        self._head = head
        self._method = head.method
        self._state = _DONE

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

    def close_unless_short(self, limit_bytes: int) -> None:
        """Before a response: ask to close if the client may still send a body, longer than that, that nobody wants."""
        if self._state is _DONE or self._head is None:
            return
        if self.continue_expected or (self._head.content_length or 0) > limit_bytes:
            self.close_after = True

    def send_response(self, status: int, headers: Headers, body: bytes) -> bytes:
        """Return a whole response; Content-Length and, where the connection ends, Connection are added."""
        # "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204"
        # (RFC 9110 section 8.6).
        without_body = status == 204 or status == 304
        length = -1 if without_body else len(body)
        message = self._write(status, headers, length, False, b"" if without_body or self._method == b"HEAD" else body)
        self._response = _DONE
        return message

    def may_prepare(self, status: int) -> bool:
        """Return whether `send_prepared` can be used: nothing has to be left out or added."""
        return not (self.must_close or status == 204 or status == 304 or self._method == b"HEAD")

    def send_prepared(self, prepared: bytes, body: bytes) -> bytes:
        """Return a whole response; `prepared` is its head but for Content-Length and the empty line."""
        if self._response is not _HEAD:
            raise RuntimeError(f"expected one response to a request, got another in state {self._response.value}")
        self._response = _DONE
        return finish_message(prepared, body)

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
            try:
                raw = self._cutter.maybe_cut(buffer)
            finally:
                # Known even when the request is refused: the answer to HEAD has no body.
                self._method = self._cutter.first_line.partition(b" ")[0]
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

    def _write(self, status: int, headers: Headers, length: int, chunked: bool, body: bytes) -> bytes:
        """Return a response or its start; a `length` below 0 is not sent."""
        if self._response is not _HEAD:
            raise RuntimeError(f"expected one response to a request, got another in state {self._response.value}")
        return response_bytes(status, headers, length, chunked, self.must_close, body)
