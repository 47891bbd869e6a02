"""Lets a client without HTTP exchanges of its own be served by the same application: stdio, and 2024-11-05 HTTP+SSE.

Each message becomes an exchange with a head made for it; what the application answers becomes messages again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.wire.http1_events import Headers
from only1mcp.wire.sse import SSEDecoder

MAX_EVENT_BYTES = 64 << 20


class Sink(Protocol):
    """Where messages go: standard output, or a stream of events."""

    def send(self, message: bytes) -> None:
        """Send one JSON-RPC message."""

    @property
    def unsent_bytes(self) -> int: ...

    async def drain(self) -> None: ...


class MessageChannel:
    """The `Channel` of one exchange: a JSON body or a stream of events, each message to the sink; statuses go nowhere.

    `on_end` is called when the exchange is over. `headers` is what the answer's head said (Mcp-Session-Id).
    """

    def __init__(self, sink: Sink, on_end: Callable[[MessageChannel], None]) -> None:
        self._sink = sink
        self._on_end = on_end
        self._decoder: SSEDecoder | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._complete = False
        self.exchange: HttpExchange | None = None
        self.status = 0
        self.headers: Headers = []

    def send_response(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_head(status, headers)
        if body:
            self._sink.send(body)
        self._complete = True

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.status, self.headers = status, headers
        if dict(headers).get(b"content-type") == b"text/event-stream":
            self._decoder = SSEDecoder(MAX_EVENT_BYTES)

    def send_data(self, data: bytes) -> None:
        if self._decoder is None:
            self._body += data
            return
        for event in self._decoder.receive_data(data):
            if event.data:
                self._sink.send(event.data)

    def send_parts(self, parts: list[bytes | memoryview]) -> None:
        self.send_data(b"".join(parts))

    def send_end(self) -> None:
        if self._decoder is None and self._body:
            self._sink.send(bytes(self._body))
        self._complete = True

    def close(self) -> None:
        self._complete = True

    def settle(self) -> None:
        if self._complete and self._task is None:
            self._end()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._task_done)

    def leave(self) -> None:
        """The client does not want the answer any more: as if it had closed an HTTP connection."""
        exchange = self.exchange
        if exchange is not None and not exchange.finished:
            exchange.client_gone = True
            on_cancel, exchange.on_cancel = exchange.on_cancel, None
            if on_cancel is not None:
                on_cancel()
            if self._task is not None:
                self._task.cancel()
            else:
                self._end()

    async def drain_writes(self) -> None:
        await self._sink.drain()

    @property
    def unsent_bytes(self) -> int:
        return self._sink.unsent_bytes

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._end()

    def _end(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            if exchange.on_finish is not None:
                exchange.on_finish(exchange)
            self._on_end(self)
