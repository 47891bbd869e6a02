"""One HTTP request and its answer, as the application behind a listener sees them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from only1mcp.frontend.limits import WRITE_BUFFER_BYTES
from only1mcp.wire.http1_events import Headers, RequestHead

if TYPE_CHECKING:
    from only1mcp.frontend.repeat import Repeat


class Application(Protocol):
    """What a listener serves. Errors of ours that escape are answered as they say, others with 500 and a log entry."""

    def on_head(self, exchange: HttpExchange) -> None:
        """The head has arrived; a response begun here means that the body is not wanted and `on_request` not called."""

    def on_request(self, exchange: HttpExchange) -> Coroutine[Any, Any, None] | None:
        """The body is complete. Begin the response before returning None, or return what is run as the one task."""


class Channel(Protocol):
    """What an exchange needs of its connection."""

    def send_response(self, status: int, headers: Headers, body: bytes) -> None: ...

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> None: ...

    def send_data(self, data: bytes) -> None: ...

    def send_parts(self, parts: list[bytes | memoryview]) -> None:
        """Send the parts as one piece of the body, without joining them."""

    def send_end(self) -> None: ...

    def close(self) -> None:
        """Send what is buffered, then close, whatever is missing."""

    def abort(self) -> None:
        """Close without sending what is buffered."""

    def settle(self) -> None:
        """The response is complete: finish the exchange as soon as nothing runs for it any more."""

    def remember(self, repeat: Repeat) -> None:
        """Let `repeat` answer requests that differ from this one in their id alone."""

    def counts_call(self) -> bool:
        """Count a call; return whether it is time to find out what the next ones have in common with it."""

    def remember_call(self, known: Any) -> None:
        """Let `known` have the first look at requests with the head of this one (`frontend.repeating.Known`)."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Make `work` the task of the exchange."""

    async def drain_writes(self) -> None: ...

    @property
    def unsent_bytes(self) -> int:
        """What has been written and the client has not taken yet."""


class HttpExchange:
    """One request, from its head to the last byte of its response.

    `on_finish` is called exactly once, when the response is complete and the task has ended, or when the client has
    gone (`client_gone`), or when the application failed; the exchange is dead afterwards. Until a response is begun
    `status` is 0. After the client has gone everything sent is dropped.
    """

    __slots__ = (
        "_channel",
        "body",
        "bytes_out",
        "client_gone",
        "finished",
        "head",
        "on_cancel",
        "on_finish",
        "peer",
        "started",
        "started_response",
        "state",
        "status",
        "tls",
        "vouched",
    )

    def __init__(self, channel: Channel, head: RequestHead, peer: str, tls: bool, started: float) -> None:
        self._channel = channel
        self.peer = peer
        self.tls = tls
        # The event loop's time at which the head was complete.
        self.started = started
        self.head = head
        self.body = b""

        # The application's own.
        self.state: Any = None
        self.on_finish: Callable[[HttpExchange], None] | None = None
        # Who the frontend says this is, where no HTTP request speaks for itself (stdio, HTTP+SSE).
        self.vouched: Any = None
        # Set by `defer`.
        self.on_cancel: Callable[[], None] | None = None

        self.status = 0
        # Octets of the response body, without their framing.
        self.bytes_out = 0
        self.started_response = False
        # The response is complete.
        self.finished = False
        self.client_gone = False

    def __repr__(self) -> str:
        stage = "finished" if self.finished else "answering" if self.started_response else "open"
        return f"<HttpExchange {self.head.method!r} {self.head.target!r} {stage} status={self.status}>"

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send the whole response. The connection adds Content-Length, Date and, where it must, Connection.

        Raise ValueError for header fields that must not be sent, RuntimeError when a response has begun.
        """
        self._expect(False)
        self.on_cancel = None
        self._channel.send_response(status, headers, body)
        self.status = status
        self.started_response = self.finished = True
        self._count(body)
        self._channel.settle()

    def defer(self, on_cancel: Callable[[], None]) -> None:
        """Say, from `on_request`, that the answer comes later and without a task.

        `on_cancel` is called once if the exchange ends otherwise: the client leaves, we shut down, or fail. It must not
        answer.
        """
        self.on_cancel = on_cancel

    def resume(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a task answer a deferred exchange after all."""
        self.on_cancel = None
        self._channel.run(work)

    def may_repeat(self, repeat: Repeat) -> None:
        """Have requests of this connection that differ from this one in their id alone answered by `repeat`."""
        self._channel.remember(repeat)

    def counts_call(self) -> bool:
        """Say that this is a call; return whether `may_call_again` is worth its while."""
        return self._channel.counts_call()

    def may_call_again(self, known: Any) -> None:
        """Have requests of this connection with the head of this one shown to `known` first."""
        self._channel.remember_call(known)

    def start_stream(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send the head of a response whose body follows by `write`, up to `end_stream`. Raises like `respond`.

        A body whose `length` is given must have that many octets; one without is sent in chunks.
        """
        self._expect(False)
        self._channel.send_head(status, headers, length)
        self.status = status
        self.started_response = True

    def write(self, data: bytes) -> None:
        """Send a part of the body; never blocks, so `drain` after it where much is written."""
        self._expect(True)
        self._channel.send_data(data)
        self._count(data)

    def write_parts(self, parts: list[bytes | memoryview]) -> None:
        """Send a part of the body that lies in pieces, as `write` does but without a copy."""
        self._expect(True)
        self._channel.send_parts(parts)
        if self.head.method != b"HEAD":
            self.bytes_out += sum(map(len, parts))

    @property
    def must_drain(self) -> bool:
        """Whether so much waits for the client that whoever has more should `drain` first."""
        return self._channel.unsent_bytes > WRITE_BUFFER_BYTES

    @property
    def waiting_bytes(self) -> int:
        """How much waits in our memory because the client reads slowly."""
        return self._channel.unsent_bytes

    async def drain(self) -> None:
        """Wait while the client reads more slowly than we write."""
        await self._channel.drain_writes()

    def end_stream(self) -> None:
        """The body is complete."""
        self._expect(True)
        self.on_cancel = None
        self._channel.send_end()
        self.finished = True
        self._channel.settle()

    def cut(self) -> None:
        """End a response that has begun and cannot be completed: without its end, the client sees that it is not whole.

        The connection closes, and the exchange with it.
        """
        self._expect(True)
        self.on_cancel = None
        if not self.client_gone:
            self._channel.close()
            self._channel.settle()

    def abort(self) -> None:
        """Do as `cut`, and drop what the client has not taken: for one that does not read."""
        self._expect(True)
        self.on_cancel = None
        if not self.client_gone:
            self._channel.abort()
            self._channel.settle()

    def _expect(self, started: bool) -> None:
        if self.started_response != started or self.finished:
            raise RuntimeError(f"expected {'a begun' if started else 'no'} response, got {self!r}")

    def _count(self, data: bytes) -> None:
        if self.head.method != b"HEAD":
            self.bytes_out += len(data)
