"""What an HTTP server of the handshake era says on the stream that it keeps open for that."""

from __future__ import annotations

import logging

from only1mcp._fast import ERROR, RESULT, Envelope, scan
from only1mcp.backend.answer import MAX_ANSWER_BYTES, SSE, content, deliver, refused
from only1mcp.backend.base import OnMessage
from only1mcp.backend.connection import HttpConnection
from only1mcp.errors import BackendAnswerError, ProtocolError
from only1mcp.wire.http1_events import END, ResponseHead
from only1mcp.wire.sse import SSEDecoder

log = logging.getLogger("only1mcp.backend")


class StreamReader:
    """Reads the stream on which a handshake-era server speaks unasked."""

    def __init__(self, *, name: str, on_message: OnMessage | None, revision: str | None) -> None:
        self._name = name
        self._on_message = on_message
        self._revision = revision

    async def read(self, connection: HttpConnection, head: ResponseHead) -> None:
        """Return when the stream ends; raise `BackendAnswerError` when it breaks or the answer is no stream."""
        try:
            if head.status != 200 or content(head) != SSE:
                raise refused(head.status)
            decoder = SSEDecoder(MAX_ANSWER_BYTES)
            while (piece := await connection.next_event()) is not END:
                assert isinstance(piece, bytes)
                for event in decoder.receive_data(piece):
                    if event.data and event.event == "message":
                        self._take(scan(event.data))
        except ProtocolError as error:
            raise BackendAnswerError(f"the stream is not valid: {error.message}") from error

    def _take(self, message: Envelope) -> None:
        if message.kind in (RESULT, ERROR):
            log.warning("backend.foreign_answer", extra={"fields": {"backend": self._name}})
        else:
            deliver(message, self._on_message, self._revision, self._name)
