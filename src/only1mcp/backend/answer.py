"""What an HTTP backend answers: one JSON-RPC response as JSON or on an event stream, or a status that refuses.

A response is gathered, or goes to the passage of its call as it comes (`backend.passing`).
Nothing here is trusted: sizes are bounded, ids compared, and what does not fit ends as a `BackendError`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from only1mcp._fast import ERROR, REQUEST, RESULT, UNFINISHED, relay_events, scan
from only1mcp.backend.base import PASSED, BackendCall, Clock, OnMessage, Outcome
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.passing import Passing, keep_pace
from only1mcp.backend.resume import broken, last_id
from only1mcp.errors import BackendAnswerError, BackendRefused, ProtocolError
from only1mcp.wire import mcp
from only1mcp.wire.http1_events import END, ResponseHead
from only1mcp.wire.jsonrpc import begins_batch, split_batch
from only1mcp.wire.mcp import BATCH_REVISION, Era
from only1mcp.wire.sse import OpenEvent, SSEDecoder, open_event

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

log = logging.getLogger("only1mcp.backend")

JSON: Final = b"application/json"
SSE: Final = b"text/event-stream"

# One JSON body or one event that is gathered. A backend that never stops sending would otherwise take the proxy's
# memory with it.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
# A response up to this is gathered: it costs less to handle in one piece, and its errors can still be told.
PASS_BYTES: Final = 64 * 1024
# Of an event that is not complete: looked at again with every piece, and longer ones are not.
MAX_TAIL_BYTES: Final = 8 * 1024
# Of a batch, which is taken apart as a whole.
MAX_BATCH_BYTES: Final = 1024 * 1024
# How the Python SDK 1.x refuses what it has not read: of a session that it does not know, or of no session at all.
UNREAD_ID: Final = b'"server-error"'
WITHOUT_RESPONSE: Final = "the stream ended without the response"
# Session ids are sent with every request; a longer one is an attempt to fill requests and logs.
MAX_SESSION_ID_CHARS: Final = 1024


def maybe_response(head: ResponseHead, body: bytes, id: bytes) -> Envelope | None:
    """Return the response with this id if a whole answer is nothing but that, None for one to be looked at closely."""
    try:
        if not head.plain:
            if head.status != 200 or head.get(b"content-encoding") is not None or content(head) != JSON:
                return None
            head.plain = True
        message = scan(body)
    except ProtocolError:
        return None
    return message if message.id == id and message.kind in (RESULT, ERROR) else None


class CallReader:
    """Reads the answer to one call. `session_id` is set when the answer to `initialize` brought one."""

    def __init__(
        self, call: BackendCall, *, name: str, on_message: OnMessage | None, in_session: bool, revision: str | None
    ) -> None:
        self.session_id: str | None = None
        self._call = call
        self._name = name
        self._on_message = on_message
        self._in_session = in_session
        self._revision = revision
        self._decoder: SSEDecoder | None = None
        # The beginning of an event, small enough to be looked at again.
        self._tail = b""
        # The beginning of one that is large enough to pass.
        self._large = b""
        # Whether events that are relayed many at once have ids, once that is known.
        self._ids: bool | None = None
        # Stopped while a passage makes us wait.
        self.clock: Clock | None = None

    async def read(self, connection: HttpConnection, head: ResponseHead) -> Outcome:
        """Return the response to the call; raise `BackendRefused`, or `BackendAnswerError` for what is none."""
        media = self._media(head)
        try:
            if media == JSON:
                return await self._read_json(connection, head)
            if media == SSE:
                return await self._read_stream(connection, head)
        except ProtocolError as error:
            raise _invalid(head, error) from error
        raise self._no_answer(head, media)

    async def read_on(self, connection: HttpConnection, head: ResponseHead) -> Outcome:
        """Go on with a stream that broke; raise as `read`."""
        if head.status != 200 or self._media(head) != SSE:
            raise refused(head.status)
        self._tail = self._large = b""
        try:
            return await self._read_stream(connection, head)
        except ProtocolError as error:
            raise _invalid(head, error) from error

    def read_whole(self, connection: HttpConnection, head: ResponseHead, body: bytes) -> Envelope:
        """Return the response that an answer in one piece holds; raise as `read`."""
        media = self._media(head)
        if media == JSON:
            return self._match(head, body)
        if media != SSE:
            raise self._no_answer(head, media)
        self._decoder = SSEDecoder(MAX_ANSWER_BYTES)
        try:
            response = self._take_piece(self._decoder, connection, body)
            if response is None:
                raise self._without_response()
            return self._accept(head, response)
        except ProtocolError as error:
            raise _invalid(head, error) from error

    def is_surplus(self, data: bytes) -> bool:
        """Return whether `data`, which came after the response, holds anything but the comments of an event stream."""
        try:
            surplus = self._decoder is not None and any(event.data for event in self._decoder.receive_data(data))
        except ProtocolError:
            surplus = True
        if surplus:
            self._warn("backend.surplus_answer")
        return surplus

    def _media(self, head: ResponseHead) -> bytes:
        # "The server MAY terminate the session at any time, after which it MUST respond to requests containing that
        # session ID with HTTP 404 Not Found" (2025-11-25, "Session Management"): whatever the body says.
        if head.status == 404 and self._in_session:
            raise refused(head.status)
        try:
            return content(head)
        except ProtocolError as error:
            raise _invalid(head, error) from error

    def _match(self, head: ResponseHead, body: bytes) -> Envelope:
        try:
            response = self._take(self._messages(body))
        except ProtocolError as error:
            raise _invalid(head, error) from error
        if response is None:
            if head.status >= 400:
                raise refused(head.status)
            raise BackendAnswerError("the answer holds no response with the id of the request")
        return self._accept(head, response)

    def _accept(self, head: ResponseHead, response: Envelope) -> Envelope:
        if self._call.method == "initialize":
            try:
                session_id = _session_id(head)
            except ProtocolError as error:
                raise _invalid(head, error) from error
            if response.kind == RESULT:
                self.session_id = session_id
        return response

    def _no_answer(self, head: ResponseHead, media: bytes) -> BackendAnswerError:
        if head.status >= 400:
            return refused(head.status)
        return BackendAnswerError(f"expected JSON or an event stream, got content type {_shown(media)}")

    async def _read_json(self, connection: HttpConnection, head: ResponseHead) -> Outcome:
        length = head.content_length
        passing = self._passing(head) if length is None or length > PASS_BYTES else None
        begin = b""
        if passing is not None:
            begin = await read_beginning(connection, PASS_BYTES)
            if len(begin) > PASS_BYTES and passing.maybe_begin(begin, length):
                return await passing.pass_body(connection)
        return self._match(head, await read_body(connection, head, begin))

    async def _read_stream(self, connection: HttpConnection, head: ResponseHead) -> Outcome:
        decoder = SSEDecoder(MAX_ANSWER_BYTES)
        if self._decoder is not None:
            decoder.last_event_id, decoder.retry_ms = self._decoder.last_event_id, self._decoder.retry_ms
        self._decoder = decoder
        tried = False
        while True:
            try:
                piece = await connection.next_event()
            except BackendAnswerError as error:
                raise self._without_response(error.message) from error
            if piece is END:
                raise self._without_response()
            assert isinstance(piece, bytes)
            response = self._take_piece(decoder, connection, piece)
            if self._large:
                large, self._large = self._large, b""
                opened = open_event(large, MAX_ANSWER_BYTES)
                if opened is not None and (passing := self._passing(head)) is not None:
                    tried = True
                    if passing.maybe_begin(opened[0], None):
                        return await self._pass_event(passing, connection, opened[1])
                response = self._take_events(decoder, connection, large)
            if response is not None:
                return self._accept(head, response)
            if decoder.unfinished_bytes <= PASS_BYTES:
                tried = False
            elif not tried and (begin := decoder.unfinished_data()) is not None:
                tried = True
                passing = self._passing(head)
                if passing is not None and passing.maybe_begin(begin, None):
                    return await self._pass_event(passing, connection, decoder.open_event())
            if self._call.reader is not None:
                await keep_pace(self._call.reader, self.clock)

    async def _pass_event(self, passing: Passing, connection: HttpConnection, event: OpenEvent) -> Outcome:
        rest = await passing.pass_event(connection, event)
        if rest is None:
            raise BackendAnswerError(WITHOUT_RESPONSE)
        if rest and self.is_surplus(rest):
            connection.abort()
        return PASSED

    def _passing(self, head: ResponseHead) -> Passing | None:
        """Return what lets a large result pass, None where it must be gathered."""
        call = self._call
        # A batch is taken apart, and what refuses is read.
        if call.passage is None or head.status != 200 or self._revision == BATCH_REVISION:
            return None
        return Passing(call.id, call.passage, self.clock)

    def _take_piece(self, decoder: SSEDecoder, connection: HttpConnection, piece: bytes) -> Envelope | None:
        """Relay what only has to be relayed, all of it at once; take the other events, return the response."""
        reader = self._call.reader
        if reader is None or not decoder.between_events:
            return self._take_events(decoder, connection, piece)
        data = self._tail + piece if self._tail else piece
        self._tail = b""
        position = 0
        while True:
            start = position
            position, out, end = relay_events(data, position, self._call.id, reader.progress_token, reader.wants_logs)
            if position > start and self._ids is not False:
                line = last_id(data, start, position)
                self._ids = bool(line or self._ids or decoder.last_event_id)
                decoder.receive_data(line)
            if out:
                reader.take_events(out)
            if end == UNFINISHED and len(data) - position <= MAX_TAIL_BYTES:
                self._tail = data[position:]
                return None
            if end == UNFINISHED and len(data) - position > PASS_BYTES:
                self._large = data[position:]
                return None
            if end < 0:
                return self._take_events(decoder, connection, data[position:])
            response = self._take_events(decoder, connection, data[position:end])
            position = end
            if response is not None:
                if position < len(data) and self.is_surplus(data[position:]):
                    connection.abort()
                return response

    def _without_response(self, reason: str = WITHOUT_RESPONSE) -> BackendAnswerError:
        return broken(reason, self._decoder, self._revision)

    def _take_events(self, decoder: SSEDecoder, connection: HttpConnection, piece: bytes) -> Envelope | None:
        response = None
        for event in decoder.receive_data(piece):
            if not event.data or event.event != "message":
                continue
            if response is not None:
                self._warn("backend.surplus_answer")
                connection.abort()
                break
            response = self._take(self._messages(event.data))
        return response

    def _messages(self, data: bytes) -> list[Envelope]:
        if self._revision == BATCH_REVISION and len(data) <= MAX_BATCH_BYTES and begins_batch(data):
            return [scan(each) for each in split_batch(data)]
        return [scan(data)]

    def _take(self, messages: list[Envelope]) -> Envelope | None:
        """Deliver notifications and requests, return the response to the call, drop other responses."""
        response = None
        for message in messages:
            if message.kind in (RESULT, ERROR):
                if message.id == self._call.id and response is None:
                    response = message
                elif message.id is not None and (message.id != UNREAD_ID or message.kind == RESULT):
                    self._warn("backend.foreign_answer")  # an error without id refuses what was not read
            elif message.kind == REQUEST and self._call.asked is not None:
                if may_request(message, self._revision, self._name):
                    self._call.asked.asked(message, self.clock)
            else:
                deliver(message, self._on_message, self._revision, self._name)
        return response

    def _warn(self, event: str) -> None:
        log.warning(event, extra={"fields": {"backend": self._name, "method": self._call.method}})


async def read_accepted(connection: HttpConnection, head: ResponseHead) -> None:
    """Return when the status says that a notification or response was accepted; raise `BackendRefused` if not."""
    if head.status not in (200, 202, 204):
        raise refused(head.status)


async def read_status(connection: HttpConnection, head: ResponseHead) -> int:
    """Return the status, whatever it is."""
    return head.status


async def read_beginning(connection: HttpConnection, above: int) -> bytes:
    """Return the body up to the piece that brings it above so many bytes, or all of it."""
    pieces: list[bytes] = []
    size = 0
    while size <= above and (piece := await connection.next_event()) is not END:
        assert isinstance(piece, bytes)
        pieces.append(piece)
        size += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_body(connection: HttpConnection, head: ResponseHead, first: bytes = b"") -> bytes:
    """Return the whole body, whose beginning may have been read already.

    Raise `BackendAnswerError` when it is longer than `MAX_ANSWER_BYTES` or breaks off.
    """
    if head.content_length is not None and head.content_length > MAX_ANSWER_BYTES:
        raise BackendAnswerError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    whole: bytearray | None = None  # most answers are one piece and are not copied
    while not connection.ended and (piece := await connection.next_event()) is not END:
        assert isinstance(piece, bytes)
        if whole is not None:
            whole += piece
        elif not first:
            first = piece
        else:
            whole = bytearray(first)
            whole += piece
        if len(whole if whole is not None else first) > MAX_ANSWER_BYTES:
            raise BackendAnswerError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    return first if whole is None else bytes(whole)


def content(head: ResponseHead) -> bytes:
    """Return the media type in lower case, empty when there is none; raise for answers that are not read at all.

    We ask for no content coding, so that none of the limits can be got round by compression, and follow no redirect:
    it would take our credentials where nobody configured them to go.
    """
    if 300 <= head.status < 400:
        raise refused(head.status)
    coding = head.get(b"content-encoding")
    if coding is not None and coding.strip().lower() not in (b"", b"identity"):
        if head.status >= 400:
            raise refused(head.status)
        raise BackendAnswerError(f"the answer has a content coding nobody asked for: {_shown(coding)}")
    return (head.get(b"content-type") or b"").partition(b";")[0].strip().lower()


def refused(status: int) -> BackendRefused:
    return BackendRefused(f"the backend refused the request with HTTP status {status}", status=status)


def _invalid(head: ResponseHead, error: ProtocolError) -> BackendAnswerError:
    if head.status >= 400:
        return refused(head.status)
    return BackendAnswerError(f"the answer is not valid: {error.message}")


def deliver(message: Envelope, on_message: OnMessage | None, revision: str | None, name: str) -> None:
    """Hand over a notification or a server's request, but no request in the stateless era: there are none."""
    if on_message is not None and (message.kind != REQUEST or may_request(message, revision, name)):
        on_message(message)


def may_request(message: Envelope, revision: str | None, name: str) -> bool:
    """Return whether a server of this revision may send requests; log where it may not."""
    if revision is None or mcp.era_of(revision) is not Era.STATELESS:
        return True
    log.warning("backend.forbidden_request", extra={"fields": {"backend": name, "method": message.method}})
    return False


def _session_id(head: ResponseHead) -> str | None:
    """Return the session id; "it MUST only contain visible ASCII characters" (2025-11-25, "Session Management")."""
    value = head.get(mcp.HEADER_SESSION)
    if value is None:
        return None
    if not value or len(value) > MAX_SESSION_ID_CHARS or not all(0x21 <= octet <= 0x7E for octet in value):
        raise BackendAnswerError(f"expected a session id of 1 to {MAX_SESSION_ID_CHARS} visible ASCII characters")
    return value.decode("ascii")


def _shown(value: bytes) -> str:
    return repr(value[:60].decode("ascii", "backslashreplace"))
