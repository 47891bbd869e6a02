"""One HTTP connection to an endpoint: an asyncio protocol around `wire.http1_client`, one exchange at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, cast

from only1mcp._fast import readable
from only1mcp.backend.receiver import Receiver, Shortcut
from only1mcp.errors import BackendAnswerError, ProtocolError
from only1mcp.wire.http1_client import LARGE_PIECE_BYTES, ClientConnection
from only1mcp.wire.http1_events import END, End, Headers, ResponseHead

# Head of one answer; a backend that floods us with header fields stops here. nginx takes 8 KiB, Envoy 60.
MAX_HEADER_BYTES: Final = 64 * 1024
# Received and not yet taken by the reader; above it the socket is no longer read, so a fast backend cannot fill memory.
READ_HIGH_WATER_BYTES: Final = 256 * 1024
# Larger requests are handed to the transport in such slices, so that a stalled backend holds one slice, not a copy.
WRITE_SLICE_BYTES: Final = 64 * 1024

Event = ResponseHead | bytes | End
Taker = Callable[[bytes], bool]


class State(Enum):
    IDLE = "idle"
    BUSY = "busy"
    CLOSED = "closed"


# A member costs more to look up in its class than the comparison with it.
_IDLE, _BUSY, _CLOSED = State


class HttpConnection:
    """An `asyncio.Protocol`. `request`, then `next_event` until `END`, then `finish`; `abort` at any moment.

    `on_lost` is called once, when the connection ends for whatever reason but `abort`.
    """

    def __init__(self) -> None:
        self.on_lost: Callable[[HttpConnection], None] | None = None

        # The connection.
        self.state = _IDLE
        self.idle_since = 0.0
        self.exchanges = 0
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._socket_fd = -1
        self._http = ClientConnection(MAX_HEADER_BYTES)
        self._failure: str | None = None  # why nothing more will come
        self._reading = True
        self._writing = True
        self._waiter: asyncio.Future[None] | None = None
        self._receiver: Receiver | None = None
        # In the place of a receiver.
        self._shortcut: Shortcut | None = None
        self._taker: Taker | None = None
        # The exchange. `sent`, `answered`: a byte of the request left us, a byte of the answer came.
        self.sent = False
        self.answered = False
        self._early: Event | None = None  # came before it was asked for
        self._cut = False  # the rest of the request was not written
        self.ended = False  # `END` was returned
        self._unread = 0

    def __repr__(self) -> str:
        return f"<HttpConnection {self.state.value} exchanges={self.exchanges}>"

    async def request(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> ResponseHead:
        """Send a request and return the head of its final answer; raise `BackendAnswerError` when none comes."""
        self.sent = self.answered = self._cut = self.ended = False
        self._early = None
        self._unread = 0
        if self.state is not _IDLE or self._transport is None or self._transport.is_closing():
            self.abort()
            raise BackendAnswerError("the connection closed before the request was sent")
        data = self._http.send_request(method, target, headers, body)
        self.state = _BUSY
        self.exchanges += 1
        self.sent = True
        if len(data) <= WRITE_SLICE_BYTES:
            self._transport.write(data)
        else:
            await self._write_slices(self._transport, memoryview(data))
        event = await self.next_event()
        assert isinstance(event, ResponseHead)
        return event

    def begin(self, prepared: bytes, body: bytes, receiver: Receiver) -> None:
        """POST a small body at once over a `usable` connection; `receiver` hears when there is an answer."""
        data = self._http.send_prepared(prepared, body)
        self._receiver = receiver
        self._begin(data)

    def begin_plain(self, data: bytes, shortcut: Shortcut) -> None:
        """As `begin`, with a whole message; `shortcut` hears first of the answer."""
        self._http.sends_post()
        self._shortcut = shortcut
        self._begin(data)

    def _begin(self, data: bytes) -> None:
        assert self._transport is not None
        self.answered = self._cut = self.ended = False
        self._early = None
        self._unread = 0
        self.state = _BUSY
        self.exchanges += 1
        self.sent = True
        self._transport.write(data)

    def took_answer(self) -> None:
        """The shortcut has taken the answer."""
        self._shortcut = None
        self._http.take_known()
        self.ended = True

    def hand_to(self, receiver: Receiver) -> None:
        """Let `receiver` hear of the answer in the place of the shortcut that began the request."""
        self._shortcut = None
        self._receiver = receiver

    async def next_event(self) -> Event:
        """Return the next piece of the answer, `END` last; raise `BackendAnswerError` when it breaks off."""
        while (event := self.maybe_event()) is None:
            await self._changed()
        return event

    async def pour(self, take: Taker) -> bool:
        """Give the rest of the body to `take`, every piece as soon as it comes; raise as `next_event`.

        Return True at its end, False when `take` wants no more for now: nothing is read then, until it is called again.
        """
        while (event := self.maybe_event()) is not END:
            if event is None:
                self._taker = take
                try:
                    await self._changed()
                    if self._taker is not take:
                        return False
                finally:
                    self._taker = None
            elif isinstance(event, bytes) and not take(event):
                return False
        return True

    def maybe_event(self) -> Event | None:
        """Return the next piece if it is here, else None; raise as `next_event`."""
        event: Event | None = self._early
        if event is not None:
            self._early = None
            return event
        try:
            event = self._http.next_event()
        except ProtocolError as error:
            closed = self._failure
            self.abort()
            raise BackendAnswerError(closed or f"the answer is not valid HTTP: {error.message}") from None
        if event is END:
            self.ended = True
        if event is None:
            if self._failure is not None:
                raise BackendAnswerError(self._failure)
            self._unread = 0
            if not self._reading and self._transport is not None:
                self._reading = True
                self._transport.resume_reading()
        return event

    def finish(self) -> bool:
        """Make ready for the next exchange and return True; abort and return False where that is not possible."""
        if self.state is _IDLE:
            return True
        if (
            self.state is _BUSY
            and self.ended
            and not self._cut
            and self._failure is None
            and self._transport is not None
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() == 0
            and self._http.is_reusable()
        ):
            self._http.start_next_cycle()
            self.state = _IDLE
            self.idle_since = self._loop.time()
            if not self._reading:
                self._reading = True
                self._transport.resume_reading()
            return True
        self.abort()
        return False

    @property
    def dead(self) -> bool:
        """Whether the connection is closed; what was received before may still be readable."""
        return self.state is _CLOSED

    def usable(self) -> bool:
        """Return whether a request may be sent: idle, and nothing waits in the socket, neither end nor unasked bytes.

        The socket itself is asked, because what arrived in this turn of the event loop has not been reported yet, and a
        call that is written to a dying connection may not be repeated.
        """
        return (
            self.state is _IDLE
            and self._transport is not None
            and not self._transport.is_closing()
            and not readable(self._socket_fd)
        )

    def abort(self) -> None:
        """Close at once, without flushing; whoever waits for an event gets `BackendAnswerError`, a receiver nothing."""
        self.on_lost = None
        self._receiver = self._shortcut = None
        self._fail("the connection was closed before the answer was complete")
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.idle_since = self._loop.time()
        self._socket_fd = transport.get_extra_info("socket").fileno()
        if self.state is _CLOSED:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.state is _IDLE:
            # Nobody asked: at best the server's goodbye (408), at worst an answer meant for the next call.
            self._lose("the backend sent data unasked")
            return
        if self.state is _CLOSED:
            return
        self.answered = True
        shortcut = self._shortcut
        if shortcut is not None:
            size = self._http.known_size(data)
            if size >= 0 and self._http.knows_plain() and shortcut.maybe_answered(data, size):
                return
            self.hand_to(shortcut.ordinary())
        receiver = self._receiver
        if receiver is not None:
            self._receiver = None
            whole = self._http.maybe_whole(data)
            if whole is not None:
                self.ended = True
                head, body = whole
                receiver.answered(head, body)
            else:
                self._unread = len(data)
                self._http.receive_data(data)
                receiver.begun()
                # What would come before the receiver goes on could only be gathered.
                if self._unread > LARGE_PIECE_BYTES:
                    self._pause_reading()
            return
        self._unread += len(data)
        self._http.receive_data(data)
        if self._taker is not None and self._pour_at_once(self._taker):
            return
        if self._unread > READ_HIGH_WATER_BYTES:
            self._pause_reading()
        self._wake()

    def eof_received(self) -> None:
        if self.state is _BUSY and self._failure is None:
            self._http.receive_eof()
        self._lose("the backend closed the connection before the answer was complete")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.eof_received()
        else:
            self._lose("the connection to the backend broke before the answer was complete")
        self._transport = None
        self._socket_fd = -1
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        self._wake()

    # Below, in call order.

    def _pour_at_once(self, take: Taker) -> bool:
        """Give away what is here of the body; return False where whoever called `pour` has to go on."""
        try:
            while (event := self._http.next_event()) is not None:
                if event is END:
                    self.ended = True
                    self._early = END
                    return False
                if isinstance(event, bytes) and not take(event):
                    # What does not come yet costs neither memory nor copies.
                    self._taker = None
                    self._pause_reading()
                    return False
        except ProtocolError:
            return False  # it is raised again
        self._unread = 0
        return True

    def _pause_reading(self) -> None:
        if self._reading and self.state is _BUSY and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    async def _write_slices(self, transport: asyncio.Transport, data: memoryview) -> None:
        for start in range(0, len(data), WRITE_SLICE_BYTES):
            while not self._writing and self._failure is None and self._early is None:
                self._early = self.maybe_event()
                if self._early is None:
                    await self._changed()
            if self._failure is not None or self._early is not None:
                self._cut = True
                return
            transport.write(data[start : start + WRITE_SLICE_BYTES])

    async def _changed(self) -> None:
        assert self._waiter is None
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
        self.state = _CLOSED
        self._wake()
        if self._shortcut is not None:
            self.hand_to(self._shortcut.ordinary())
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(self._failure)

    def _lose(self, reason: str) -> None:
        """End for a reason that is not ours. What was received before stays readable."""
        self._fail(reason)
        if self._transport is not None:
            self._transport.abort()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost(self)
