"""Lets a client without HTTP exchanges of its own be served by the same application: stdio, and 2024-11-05 HTTP+SSE.

Each message becomes an exchange with a head made for it; what the application answers becomes messages again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from only1mcp._fast import REQUEST, members, scan, string_at
from only1mcp.errors import ProtocolError
from only1mcp.frontend.http_exchange import Application, HttpExchange
from only1mcp.frontend.message_channel import BOTH_FORMS, MessageChannel, Sink
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.http1_events import Headers, RequestHead
from only1mcp.wire.jsonrpc import Span
from only1mcp.wire.mirror import encode_header

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

# A stream of notifications that broke off, because its reader was too slow, is opened again after this long.
REOPEN_S: Final = 1.0
# What is longer is not looked into here: the application refuses it for its size.
MAX_DECODED_BYTES: Final = 256 * 1024

# Any of these revisions: what a message says of the stateless era in its `_meta` is not asked.
_HANDSHAKE: Final = (mcp.HEADER_VERSION, mcp.LATEST_HANDSHAKE.encode())


class MessageClient:
    """One client that sends messages and nothing around them; it is `vouched` for by whoever opened the door to it.

    The first `initialize` opens its session; after `notifications/initialized` it hears what the session's own stream
    says. Where `stateless`, messages with a protocol version in `_meta` belong to that era, elsewhere none.
    `on_expired` is called when the session is no longer known; `vouched` and `peer` hold for what comes next.
    """

    def __init__(
        self,
        app: Application,
        sink: Sink,
        vouched: Any,
        *,
        path: bytes,
        peer: str,
        max_depth: int,
        stateless: bool = True,
        on_expired: Callable[[], None] | None = None,
    ) -> None:
        self._app = app
        self._sink = sink
        self.vouched = vouched
        self.peer = peer
        self._path = path
        self._max_depth = max_depth
        self._stateless = stateless
        self._on_expired = on_expired

        self._loop = asyncio.get_running_loop()
        self._fields: Headers = BOTH_FORMS if stateless else [*BOTH_FORMS, _HANDSHAKE]
        self._head = self._opening = RequestHead(b"POST", path, self._fields)
        self._session: bytes | None = None
        # Every exchange that goes on, and those that the client may call off, by the id as it wrote it.
        self._channels: dict[MessageChannel, None] = {}
        self._open: dict[bytes, MessageChannel] = {}
        self._listening: MessageChannel | None = None
        self._reopen: asyncio.TimerHandle | None = None
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def answering(self) -> int:
        """How many exchanges go on, the session's own stream left out."""
        return len(self._channels)

    def take(self, text: bytes) -> None:
        """Serve one message; never raises for what it holds."""
        try:
            message = scan(text, self._max_depth)
        except ProtocolError as error:
            # Read once more by the application, which has the words for it and counts it.
            if not self._closed:
                self._serve(text, self._head, error.id)
            return
        self.hear(text, message)

    def hear(self, text: bytes, message: Envelope) -> None:
        """Serve one message that has been read already; as `take` otherwise."""
        if not self._closed:
            (self._request if message.kind == REQUEST else self._told)(text, message)

    async def idle(self) -> None:
        """Wait until nothing is being answered; the session's own stream may be open."""
        await self._idle.wait()

    def stop(self) -> None:
        """Answer what is still open with an error."""
        for channel in list(self._channels):
            channel.stop()

    def close(self) -> None:
        """The client has gone: end everything that is done for it, and its session."""
        if self._closed:
            return
        self._closed = True
        if self._reopen is not None:
            self._reopen.cancel()
        for channel in list(self._channels):
            channel.leave()
        self._end_session()

    # Requests.

    def _request(self, text: bytes, message: Envelope) -> None:
        assert message.id is not None
        head = self._stateless_head(message) if self._stateless else None
        if head is None:
            if message.method == "ping" and self._session is None:  # allowed before `initialize` (2025-11-25 lifecycle)
                self._sink.send(jsonrpc.result(message.id, b"{}"))
                return
            # `initialize` is served without a session, like the first one.
            head = self._opening if message.method == "initialize" else self._head
        self._serve(text, head, message.id)

    def _stateless_head(self, message: Envelope) -> RequestHead | None:
        """Return the head that an HTTP client would have sent, None for a request of the handshake era.

        It is made of the body, so that what is checked against it holds.
        """
        version = _member(message, message.meta, mcp.META_VERSION)
        if not isinstance(version, str) or version in mcp.HANDSHAKE_REVISIONS:
            return None
        method = message.method or ""
        headers = [
            *BOTH_FORMS,
            (mcp.HEADER_VERSION, version.encode("latin-1", "replace")),
            (mcp.HEADER_METHOD, method.encode("latin-1", "replace")),
        ]
        named_by = mcp.NAMED_BY.get(method)
        name = None if named_by is None else _member(message, message.params, named_by)
        if isinstance(name, str):
            headers.append((mcp.HEADER_NAME, encode_header(name)))
        return RequestHead(b"POST", self._path, headers)

    def _serve(self, text: bytes, head: RequestHead, id: bytes | None, *, muted: bool = False) -> None:
        in_session = self._session is not None and head is self._head
        channel = MessageChannel(self._app, self._sink, self._over, id, in_session=in_session, muted=muted)
        self._channels[channel] = None
        self._idle.clear()
        if id is not None:
            self._open[id] = channel
        self._begin(channel, head, text)

    def _begin(self, channel: MessageChannel, head: RequestHead, body: bytes) -> None:
        exchange = HttpExchange(channel, head, self.peer, False, self._loop.time())
        exchange.vouched = self.vouched
        exchange.body = body
        channel.serve(exchange)

    def _over(self, channel: MessageChannel) -> None:
        self._channels.pop(channel, None)
        if channel.id is not None and self._open.get(channel.id) is channel:
            del self._open[channel.id]
        if not self._channels:
            self._idle.set()
        session = dict(channel.headers).get(mcp.HEADER_SESSION)
        if session is not None and channel.status == 200:
            self._end_session()
            self._session = session
            self._head = RequestHead(b"POST", self._path, [*self._fields, (mcp.HEADER_SESSION, session)])
        elif channel.status == 404 and channel.in_session and self._on_expired is not None:
            self._on_expired()

    # Notifications and responses.

    def _told(self, text: bytes, message: Envelope) -> None:
        if message.method == "notifications/cancelled":
            span = _span(message, message.params, "requestId")
            channel = None if span is None else self._open.get(message.data[slice(*span)])
            if channel is not None:
                if not channel.in_session:
                    channel.leave()
                    return
                channel.muted = True  # a cancelled request gets no response where no HTTP response has to end
        if self._session is None:
            return
        self._serve(text, self._head, None, muted=True)
        if message.method == "notifications/initialized" and self._listening is None:
            self._listen(None)

    # The session's own stream.

    def _listen(self, last_event_id: str | None) -> None:
        if self._closed or self._session is None:
            return
        headers = [(b"accept", b"text/event-stream"), (mcp.HEADER_SESSION, self._session)]
        if last_event_id is not None:
            headers.append((b"last-event-id", last_event_id.encode()))
        channel = self._listening = MessageChannel(self._app, self._sink, self._unheard)
        self._begin(channel, RequestHead(b"GET", self._path, headers), b"")

    def _unheard(self, channel: MessageChannel) -> None:
        """The stream has ended; one that was there at all, and that we did not end, is opened again."""
        if channel is self._listening:
            self._listening = None
            if channel.status == 200 and not self._closed:
                self._reopen = self._loop.call_later(REOPEN_S, self._listen, channel.last_event_id)

    def _end_session(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.leave()
        session, self._session = self._session, None
        if session is not None:
            channel = MessageChannel(self._app, self._sink, lambda _: None, muted=True)
            self._begin(channel, RequestHead(b"DELETE", self._path, [(mcp.HEADER_SESSION, session)]), b"")


def _member(message: Envelope, inside: Span | None, name: str) -> object:
    """Return the value of a member of `params` or `_meta`, None where there is none that can be read."""
    span = _span(message, inside, name)
    return None if span is None else string_at(message.data, span)


def _span(message: Envelope, inside: Span | None, name: str) -> Span | None:
    if inside is None:
        return None
    if inside[1] - inside[0] > MAX_DECODED_BYTES:
        # A call may carry as much; of those the name stands in the envelope.
        return {"name": message.name, "uri": message.uri}.get(name)
    try:
        return members(message.data, *inside).get(name)
    except ProtocolError:  # the same key twice: the application refuses it
        return None
