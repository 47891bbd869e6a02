"""Batches of messages, which revision 2025-03-26 alone has: each message is an exchange of its own.

The POST that brings them is answered with one stream, on which the answers come as they are ready (2025-03-26
"Streamable HTTP"); without a request among them it is answered with 202.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from only1mcp._fast import REQUEST, scan
from only1mcp.errors import INVALID_REQUEST, ProtocolError, RequestRefused
from only1mcp.frontend.http_exchange import Application, HttpExchange
from only1mcp.frontend.message_channel import BOTH_FORMS, MessageChannel
from only1mcp.proxy.exchange import forget
from only1mcp.wire import mcp, sse
from only1mcp.wire.classify import era_of_headers
from only1mcp.wire.http1_events import RequestHead
from only1mcp.wire.jsonrpc import begins_batch, split_batch
from only1mcp.wire.mcp import STATELESS

if TYPE_CHECKING:
    from only1mcp.proxy.exchange import Exchange

# Taken apart a batch costs a hundred times as much; and each message is counted, and may be a call.
MAX_BYTES: Final = 256 * 1024
MAX_MESSAGES: Final = 100


class Batches:
    """What the pipeline does with what is no message; `open_session` and `admit` are its own."""

    def __init__(
        self, app: Application, open_session: Callable[[Exchange], None], admit: Callable[[Exchange], None]
    ) -> None:
        self._app = app
        self._open_session = open_session
        self._admit = admit

    def takes(self, exchange: Exchange) -> bool:
        """Serve a batch that has been admitted as one message; False for what is none, and where there are none.

        Raise `RequestRefused` or `ProtocolError`.
        """
        head = exchange.http.head
        if not begins_batch(exchange.http.body) or head.verdict.path != exchange.snapshot.path:
            return False
        if era_of_headers(head) is STATELESS or head.get(mcp.HEADER_SESSION) is None:
            return False
        self._open_session(exchange)
        exchange.session = None  # it is that of the messages
        if exchange.revision != mcp.BATCH_REVISION:
            return False
        batch = Batch(self._app, exchange)
        for _ in range(len(batch) - 1):
            self._admit(exchange)
        batch.serve()
        return True


class Batch:
    """The batch in the body of the exchange; the `Sink` of its own messages. `serve` answers the exchange.

    Raise `RequestRefused` or `ProtocolError` for what is no batch, or one that is too large.
    """

    def __init__(self, app: Application, exchange: Exchange) -> None:
        body = exchange.http.body
        if len(body) > MAX_BYTES:
            raise RequestRefused(
                f"expected a batch of at most {MAX_BYTES} bytes, got {len(body)}", code=INVALID_REQUEST, http_status=413
            )
        max_depth = exchange.snapshot.max_depth
        texts = split_batch(body, max_depth)
        if not 0 < len(texts) <= MAX_MESSAGES:
            raise ProtocolError(f"expected a batch of 1 to {MAX_MESSAGES} messages, got {len(texts)}")
        # One that is no message makes all of it unreadable: nothing of it is served.
        messages = [scan(text, max_depth) for text in texts]
        if any(message.method == "initialize" for message in messages):
            raise ProtocolError("initialize must be sent alone")
        self._app = app
        self._exchange = exchange
        # The raw id of each request, None for what gets no answer.
        self._messages = [(message.data, message.id if message.kind == REQUEST else None) for message in messages]
        self._open: dict[MessageChannel, None] = {}
        self._left = len(messages)

    def __len__(self) -> int:
        return len(self._messages)

    def serve(self) -> None:
        """Serve every message, in the session that the request names."""
        outer = self._exchange.http
        outer.on_finish = forget  # the messages are what is counted
        outer.defer(self._leave)
        session = outer.head.get(mcp.HEADER_SESSION)
        assert session is not None
        head = RequestHead(b"POST", self._exchange.snapshot.path, [*BOTH_FORMS, (mcp.HEADER_SESSION, session)])
        now = asyncio.get_running_loop().time()
        for text, id in self._messages:
            channel = MessageChannel(self._app, self, self._over, id, in_session=True, muted=id is None)
            self._open[channel] = None
            inner = HttpExchange(channel, head, outer.peer, outer.tls, now)
            inner.vouched = self._exchange.principal
            inner.body = text
            channel.serve(inner)

    def _over(self, channel: MessageChannel) -> None:
        self._open.pop(channel, None)
        self._left -= 1
        outer = self._exchange.http
        if self._left or outer.client_gone:
            return
        if outer.started_response:
            outer.end_stream()
        else:
            self._exchange.empty(202)

    def _leave(self) -> None:
        """Nobody waits for the answers any more."""
        self._left = -1  # it does not end in order
        for channel in list(self._open):
            channel.leave()

    # What messages are sent to.

    def send(self, message: bytes) -> None:
        self._exchange.interim_events(sse.encode(message))

    @property
    def unsent_bytes(self) -> int:
        return self._exchange.http.waiting_bytes

    async def drain(self) -> None:
        await self._exchange.http.drain()
