"""The channel of an exchange that no HTTP exchange carries: what the application answers becomes messages.

That is how clients on standard input and output and on HTTP+SSE are answered (`frontend/messages.py`), and each message
of a batch (`proxy/batch.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from only1mcp.errors import Only1MCPError, ProtocolError, error_message
from only1mcp.frontend.http_exchange import Application, HttpExchange
from only1mcp.frontend.runner import ExchangeRunner
from only1mcp.wire.http1_events import Headers
from only1mcp.wire.sse import SSEDecoder

MAX_EVENT_BYTES: Final = 64 << 20

# What the head of an exchange says that is made for a message: it may be answered in either form.
BOTH_FORMS: Final[Headers] = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]

# How `error_message` begins.
_WITHOUT_ID: Final = b'{"jsonrpc":"2.0",'
_WITH_ID: Final = _WITHOUT_ID + b'"id":'
_ERROR_WITHOUT_ID: Final = _WITHOUT_ID + b'"error":'


class Sink(Protocol):
    """Where messages go: standard output, or a stream of events."""

    def send(self, message: bytes) -> None:
        """Send one JSON-RPC message."""

    @property
    def unsent_bytes(self) -> int: ...

    async def drain(self) -> None: ...


class MessageChannel:
    """The `Channel` of one exchange, and the host of what runs it: each message of the answer goes to the sink.

    `id` is the raw id of the request that the exchange is for, None for what gets no response. A request that the
    application leaves without one, since over HTTP the end of the connection would tell, is answered with an error.
    `on_end` is called when the exchange is over; `headers` is what the answer's head said (Mcp-Session-Id).
    """

    def __init__(
        self,
        app: Application,
        sink: Sink,
        on_end: Callable[[MessageChannel], None],
        id: bytes | None = None,
        *,
        in_session: bool = False,
        muted: bool = False,
    ) -> None:
        self.id = id
        self.in_session = in_session
        # Nothing is sent any more: nobody waits for the answer, or there must not be one.
        self.muted = muted
        self.status = 0
        self.headers: Headers = []
        self.last_event_id: str | None = None
        self._sink = sink
        self._on_end = on_end
        self._decoder: SSEDecoder | None = None
        self._body = bytearray()
        self._gone = False
        self._broken = False
        self._stopping = False
        self._runner = ExchangeRunner(app, self, asyncio.get_running_loop())

    def serve(self, exchange: HttpExchange) -> None:
        """Let the application answer the exchange, whose body is there."""
        self._runner.on_whole(exchange)

    def leave(self) -> None:
        """The client does not want the answer any more: as if it had closed an HTTP connection."""
        self.muted = self._gone = True
        self._runner.client_gone()

    def stop(self) -> None:
        """We shut down: what is not answered by now is answered with an error."""
        self._stopping = True
        self._runner.stop()

    # What the exchange calls.

    def send_response(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_head(status, headers)
        self._body += body
        self.send_end()

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.status, self.headers = status, headers
        if (b"content-type", b"text/event-stream") in headers:
            self._decoder = SSEDecoder(MAX_EVENT_BYTES)

    def send_data(self, data: bytes) -> None:
        if self.muted or self._broken:
            return
        if self._decoder is None:
            self._body += data
            return
        try:
            events = self._decoder.receive_data(data)
        except ProtocolError:  # a message beyond the limit; without it the client cannot go on
            self._broken = True
            return
        self.last_event_id = self._decoder.last_event_id
        for event in events:
            if event.data:
                self._sink.send(event.data)

    def send_parts(self, parts: list[bytes | memoryview]) -> None:
        for part in parts:
            self.send_data(bytes(part))

    def send_end(self) -> None:
        if self._decoder is None and self._body and not self.muted:
            self._sink.send(self._addressed(bytes(self._body)))
        self._body.clear()

    def settle(self) -> None:
        self._runner.settle()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._runner.run(work)

    def counts_call(self) -> bool:
        return False

    def remember_call(self, known: object) -> None:
        """Messages without a head have no such."""

    def remember(self, repeat: object) -> None:
        """Nothing is read here as octets, so nothing can be known again by them."""

    async def drain_writes(self) -> None:
        await self._sink.drain()

    @property
    def unsent_bytes(self) -> int:
        return 0 if self.muted else self._sink.unsent_bytes

    def close(self) -> None:
        self._broken = True

    abort = close  # what is buffered is the sink's

    def _addressed(self, body: bytes) -> bytes:
        """Return the body with the request's id, which over HTTP an answer belongs to anyway."""
        if self.id is not None and body.startswith(_ERROR_WITHOUT_ID):
            return _WITH_ID + self.id + b"," + body[len(_WITHOUT_ID) :]
        return body

    # What the runner asks.

    @property
    def gone(self) -> bool:
        return self._gone

    @property
    def writable(self) -> bool:
        return not (self._gone or self._broken)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def close_after_response(self) -> None:
        """Other exchanges go on: there is nothing to close."""

    def exchange_over(self) -> None:
        if self._broken and self.id is not None and not self.muted:
            self._sink.send(error_message(Only1MCPError("the answer broke off"), self.id))
        self._on_end(self)
        self._runner.close()
