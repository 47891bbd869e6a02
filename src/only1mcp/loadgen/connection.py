"""One connection to the target: a protocol around `wire.http1_client` that tells its owner what became of a request."""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Final, Protocol, cast

from only1mcp._fast import Envelope, scan
from only1mcp.errors import ProtocolError
from only1mcp.loadgen.answer import SSE, judge_body, judge_message, media_type
from only1mcp.loadgen.failure import BAD_ANSWER, CLOSED, CONNECT, TIMEOUT, Failure
from only1mcp.wire.http1_client import ClientConnection
from only1mcp.wire.http1_events import END, Headers, ResponseHead
from only1mcp.wire.sse import SSEDecoder

CONNECT_TIMEOUT_S: Final = 10.0
MAX_HEADER_BYTES: Final = 64 * 1024
# One answer. A target that never stops sending must not fill our memory, nor keep a connection for ever.
MAX_ANSWER_BYTES: Final = 64 << 20
# What may follow an answer on its stream, and how long; a connection that takes more is closed.
DRAIN_BYTES: Final = 64 * 1024
DRAIN_S: Final = 1.0
TLS_SHUTDOWN_TIMEOUT_S: Final = 1.0


class Owner(Protocol):
    """Who sends requests over a connection."""

    def answered(self, head: ResponseHead | None, outcome: Envelope | Failure) -> None:
        """What became of the request: once for each."""

    def released(self) -> None:
        """After `answered`: the connection takes another request, or it is closed."""


class Traffic:
    """How many bytes have gone and come over all connections, and how many of those were opened."""

    __slots__ = ("opened", "received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.opened = 0


class State(enum.Enum):
    IDLE = "idle"
    BUSY = "busy"  # the answer is awaited
    DRAINING = "draining"  # the answer is here, the end of its stream is not
    CLOSED = "closed"


_IDLE, _BUSY, _DRAINING, _CLOSED = State


class Connection(asyncio.Protocol):
    """Carries one request at a time: `send`, then the owner's `answered` and `released`."""

    def __init__(self, owner: Owner, traffic: Traffic) -> None:
        self.owner = owner
        self.state = State.IDLE
        self._traffic = traffic
        self._http = ClientConnection(MAX_HEADER_BYTES)
        self._transport: asyncio.Transport | None = None

        # The exchange.
        self._id = b""
        self._head: ResponseHead | None = None
        self._decoder: SSEDecoder | None = None
        self._body = bytearray()
        self._length = 0  # of the body so far; once the answer is known, of what came after it
        self._eof = False

    def __repr__(self) -> str:
        return f"<Connection {self.state.value}>"

    def send(self, verb: bytes, target: bytes, headers: Headers, body: bytes, id: bytes) -> None:
        """Send a request whose answer must have this `id`."""
        assert self.state is _IDLE
        assert self._transport is not None
        data = self._http.send_request(verb, target, headers, body)
        self.state = _BUSY
        self._id = id
        self._traffic.sent += len(data)
        self._transport.write(data)

    def expire(self, timeout_s: float) -> None:
        """Give the request up: it took too long."""
        self._fail(Failure(TIMEOUT, "", f"no complete answer within {timeout_s:g} s"))

    def abort(self) -> None:
        """Close at once; the owner hears nothing more."""
        self.state = _CLOSED
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Close because the end of a stream does not come; the request has been answered."""
        self.abort()
        self.owner.released()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._traffic.opened += 1
        if self.state is _CLOSED:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._traffic.received += len(data)
        if self.state is _BUSY:
            http = self._http
            # A second look would read the head again for every piece of the body.
            first = not http.response_started
            whole = http.maybe_whole(data) if first else None
            if whole is not None:
                self._take_whole(*whole)
                return
            http.receive_data(data)
            self._read_on()
        elif self.state is _DRAINING:
            self._http.receive_data(data)
            self._read_on()
        else:
            # Nobody asked: at best the server's goodbye (408).
            self.abort()

    def eof_received(self) -> None:
        if self.state in (_BUSY, _DRAINING):
            self._http.receive_eof()
            self._eof = True
            self._read_on()
        if self.state is _BUSY:
            self._fail(_cut())
        elif self.state is _DRAINING:
            self.give_up()
        else:
            self.state = _CLOSED

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.state is _BUSY:
            self._fail(Failure(CLOSED, "", f"the connection broke before the answer was complete: {reason_of(exc)}"))
        else:
            self.eof_received()
        self._transport = None

    # Below, in call order.

    def _take_whole(self, head: ResponseHead, body: bytes) -> None:
        if head.status == 200 and _is_stream(head):
            self._head = head
            self._start_stream()
            self._take(body)
            if self.state is _CLOSED:
                return
            self._end()
            return
        outcome = judge_body(head, body, self._id)
        self._free()
        self.owner.answered(head, outcome)
        self.owner.released()

    def _read_on(self) -> None:
        try:
            while (event := self._http.next_event()) is not None:
                if isinstance(event, ResponseHead):
                    self._head = event
                    if event.status == 200 and _is_stream(event):
                        self._start_stream()
                    elif event.content_length is not None and event.content_length > MAX_ANSWER_BYTES:
                        self._fail(_too_long())
                elif event is END:
                    self._end()
                    return
                else:
                    self._take(event)
                if self.state is _CLOSED:
                    return
        except ProtocolError as error:
            if self.state is _DRAINING:
                self.give_up()
            elif self._eof:
                self._fail(_cut())
            else:
                self._fail(Failure(BAD_ANSWER, "not HTTP", f"the answer is not valid HTTP: {error.message}"))

    def _start_stream(self) -> None:
        self._decoder = SSEDecoder(MAX_ANSWER_BYTES)

    def _take(self, data: bytes) -> None:
        self._length += len(data)
        if self.state is _DRAINING:
            if self._length > DRAIN_BYTES:
                self.give_up()
            return
        if self._length > MAX_ANSWER_BYTES:
            self._fail(_too_long())
        elif self._decoder is None:
            self._body += data
        else:
            try:
                self._take_events(self._decoder, data)
            except ProtocolError as error:
                self._fail(Failure(BAD_ANSWER, error.message, error.message))

    def _take_events(self, decoder: SSEDecoder, data: bytes) -> None:
        for event in decoder.receive_data(data):
            if not event.data or event.event != "message":
                continue
            outcome = judge_message(scan(event.data), self._id)
            if outcome is not None:
                self.state = _DRAINING
                self._length = 0
                self.owner.answered(self._head, outcome)
                return

    def _end(self) -> None:
        """The whole answer is here."""
        head = self._head
        assert head is not None
        answered = self.state is _DRAINING
        outcome = None if answered else judge_body(head, bytes(self._body), self._id)
        self._free()
        if outcome is not None:
            self.owner.answered(head, outcome)
        self.owner.released()

    def _free(self) -> None:
        """Make ready for the next request, or close where there can be none."""
        if not self._http.reusable:
            self.abort()
            return
        self._http.start_next_cycle()
        self._head = self._decoder = None
        if self._body:
            self._body = bytearray()
        self._length = 0
        self.state = _IDLE

    def _fail(self, failure: Failure) -> None:
        self.abort()
        self.owner.answered(self._head, failure)
        self.owner.released()


def _is_stream(head: ResponseHead) -> bool:
    try:
        return media_type(head) == SSE
    except ProtocolError:
        return False


def _cut() -> Failure:
    return Failure(CLOSED, "", "the target closed the connection before the answer was complete")


def _too_long() -> Failure:
    return Failure(BAD_ANSWER, "too long", f"the answer is longer than {MAX_ANSWER_BYTES >> 20} MB")


class CannotConnect(Exception):
    """No connection could be opened; the message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """The one address that everything is sent to, and what TLS needs; `shown` is for people."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None

    @property
    def shown(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self, owner: Owner, traffic: Traffic) -> Connection:
        """Open a connection; raise `CannotConnect`."""
        connection = Connection(owner, traffic)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    self.host,
                    self.port,
                    ssl=self.tls,
                    server_hostname=self.server_name,
                    ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S if self.tls is not None else None,
                )
        except OSError as error:
            connection.abort()
            raise CannotConnect(reason_of(error)) from error
        except BaseException:
            connection.abort()
            raise
        return connection


def connect_failure(error: CannotConnect) -> Failure:
    return Failure(CONNECT, str(error), f"cannot connect: {error}")


def reason_of(error: Exception) -> str:
    """Return in a few words, few of them different, why a connection failed."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS handshake failed: {error.reason or 'connection closed'}"
        case TimeoutError():
            return f"no connection within {CONNECT_TIMEOUT_S:g} s"
        case socket.gaierror():
            return "host name not found"
        case OSError(errno=int() as number):
            return os.strerror(number).lower()
    return "connection failed"
