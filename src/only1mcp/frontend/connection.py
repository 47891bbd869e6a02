"""One client connection: bytes become exchanges, one at a time, and their answers become bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from only1mcp.errors import Only1MCPError, Overloaded, ProtocolError, error_message
from only1mcp.frontend.flow import ReaderWatch, WriteGate
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.limits import (
    DISCARD_BYTES,
    EVENTS_PER_TURN,
    LINGER_BYTES,
    LINGER_S,
    MIN_PROGRESS_BYTES,
    PIPELINE_BYTES,
    WRITE_BUFFER_BYTES,
)
from only1mcp.frontend.owner import Admission, Owner
from only1mcp.frontend.phase import BODY, BUSY, HEAD, LINGER, LOST
from only1mcp.frontend.runner import ExchangeRunner, error_headers
from only1mcp.frontend.timer import Deadline
from only1mcp.frontend.upload import Upload
from only1mcp.wire.http1_events import CLOSED, END, Headers, RequestHead
from only1mcp.wire.http1_server import ServerConnection


class Connection:
    """The `asyncio.Protocol` of one accepted socket, in clear or over TLS."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._letterhead = owner.letterhead
        self._header_s = float(owner.timeouts.header_s)
        self._request_s = float(owner.timeouts.request_s)
        self._idle_s = float(owner.timeouts.idle_s)
        self._loop = loop

        # The connection.
        self.peer = ""
        self.tls = False
        self._transport: asyncio.Transport | None = None
        self._wire = ServerConnection(owner.limits.max_header_bytes, owner.limits.max_body_bytes)
        self._gate = WriteGate()
        self._reader = ReaderWatch(MIN_PROGRESS_BYTES)
        self._deadline = Deadline(loop, self._on_deadline)
        self._phase = HEAD
        self._advancing = False
        # Events are left that wait for the next turn.
        self._behind = False
        self._eof = False
        self.stopping = False
        self._reading_paused = False
        self._linger_left = LINGER_BYTES
        self._served_before = False

        # The exchange.
        self._head_since: float | None = None
        self._runner = ExchangeRunner(owner.app, self, loop)
        self._upload = Upload()

    def __repr__(self) -> str:
        return f"<Connection peer={self.peer} phase={self._phase.value} exchange={self._runner.exchange!r}>"

    def drain(self) -> None:
        """Close now when idle, else after the response at hand."""
        self._wire.close_after = True
        if self._phase is HEAD and not self._wire.pending_bytes:
            self.close()

    def stop(self) -> None:
        """Cancel what is in flight, say so to the client where no response has begun, and close."""
        self.stopping = True
        self._wire.close_after = True
        if self._runner.exchange is not None:
            self._runner.stop()
        elif not self.gone:
            self.close()

    def abort(self) -> None:
        """Close without sending what is still buffered."""
        if self._transport is not None:
            self._phase = LINGER
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports do not inherit asyncio's
        assert self._transport is not None
        address = transport.get_extra_info("peername")
        self.peer = address[0] if isinstance(address, tuple) else ""
        self.tls = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES // 4)
        self._deadline.set(self._loop.time() + self._header_s)
        admission = self._owner.admit(self)
        if admission is Admission.REFUSE:
            self._refuse(Overloaded("too many connections"))
        elif admission is Admission.DROP:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._phase is LINGER:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self.abort()
            return
        if self._phase is HEAD and not self._gate.paused and not self._advancing:
            whole = self._wire.maybe_whole(data)
            if whole is not None:
                head, body = whole
                self._serve(head, body)
                return
        self._wire.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        self._eof = True
        if self._phase is LINGER:
            return False
        self._wire.receive_eof()
        self._advance()
        # TLS as asyncio has it cannot be half closed. In clear, a client that closes inside a stream has left it; one
        # that closes before may only be saying that its request is complete.
        exchange = self._runner.exchange
        in_stream = exchange is not None and exchange.started_response
        return self.writable and not self.tls and not in_stream

    def pause_writing(self) -> None:
        self._gate.pause()
        self._schedule()

    def resume_writing(self) -> None:
        self._gate.resume()
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = LOST
        self._transport = None
        self._deadline.close()
        self._gate.release()
        if self._runner.exchange is None:
            self._end()
        else:
            self._runner.client_gone()

    def send_response(self, status: int, headers: Headers, body: bytes) -> None:
        self._wire.close_unless_short(DISCARD_BYTES)
        if self._wire.may_prepare(status):
            self._write(self._wire.send_prepared(self._letterhead.head(status, headers), body))
        else:
            self._write(self._wire.send_response(status, [*headers, self._letterhead.date_field()], body))

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> None:
        self._wire.close_unless_short(DISCARD_BYTES)
        self._write(self._wire.send_head(status, [*headers, self._letterhead.date_field()], length))

    def send_data(self, data: bytes) -> None:
        self._write(self._wire.send_data(data))

    def send_parts(self, parts: list[bytes | memoryview]) -> None:
        before, after = self._wire.frame_data(sum(map(len, parts)))
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._reader.note_written(sum(map(len, parts)) + len(before) + len(after))
            transport.writelines([before, *parts, after] if before else parts)

    def send_end(self) -> None:
        self._write(self._wire.send_end())

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._runner.run(work)

    def remember(self, repeat: Any) -> None: ...

    def counts_call(self) -> bool:
        return False

    def remember_call(self, known: Any) -> None: ...

    async def drain_writes(self) -> None:
        await self._gate.wait()

    def settle(self) -> None:
        self._runner.settle()

    @property
    def gone(self) -> bool:
        return self._phase is LOST

    @property
    def writable(self) -> bool:
        return self._phase not in (LINGER, LOST)

    def close_after_response(self) -> None:
        self._wire.close_after = True

    def exchange_over(self) -> None:
        """Go on with the next request, close, or wait for the rest of an unwanted body."""
        if self.gone:
            self._end()
            return
        if not self.writable:
            return
        if self._wire.start_next_cycle():
            self._phase = HEAD
            self._served_before = True
            self._upload.reset()
            self._reader.reset()
            if not self._wire.pending_bytes and not self._eof:
                self._schedule()
                return
        elif self._wire.must_close:
            self._linger()
        self._advance()

    def _end(self) -> None:
        """Nothing happens any more, and nothing is left that only a garbage collector would find."""
        self._owner.forget(self)
        self._runner.close()

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        turn = EVENTS_PER_TURN
        try:
            while turn and self._step():
                turn -= 1
        finally:
            self._advancing = False
        self._behind = not turn
        if self._behind:
            self._loop.call_soon(self._advance)
        self._schedule()

    def _step(self) -> bool:
        """Handle one event; False when there is none to be handled now."""
        if self._phase not in (HEAD, BODY) or (self._phase is HEAD and self._gate.paused):
            return False
        try:
            event = self._wire.next_event()
        except ProtocolError as error:
            self._refuse(error)
            return False
        if event is CLOSED:
            self.close()
        elif event is END:
            self._on_end()
        elif isinstance(event, RequestHead):
            self._on_head(event)
        elif isinstance(event, bytes):
            self._on_data(event)
        return event is not None

    def _serve(self, head: RequestHead, body: bytes) -> None:
        """Handle a request that came whole."""
        self._phase = BUSY
        self._head_since = None
        exchange = HttpExchange(self, head, self.peer, self.tls, self._loop.time())
        exchange.body = body
        self._runner.on_whole(exchange)
        self._schedule()

    def _on_head(self, head: RequestHead) -> None:
        self._phase = BODY
        self._head_since = None
        exchange = HttpExchange(self, head, self.peer, self.tls, self._loop.time())
        self._runner.on_head(exchange)
        if self._wire.continue_expected and not exchange.started_response:
            self._write(self._wire.send_continue())
        self._runner.settle()

    def _on_data(self, data: bytes) -> None:
        exchange = self._runner.exchange
        if exchange is not None and not exchange.started_response:
            self._upload.add(data)
        elif not self._upload.discard(data):
            self._wire.close_after = True
            if exchange is None:
                self._linger()

    def _on_end(self) -> None:
        self._phase = BUSY
        exchange = self._runner.exchange
        if exchange is None:
            self.exchange_over()
            return
        if not exchange.started_response:
            exchange.body = self._upload.take()
            self._runner.on_request(exchange)
        self._runner.settle()

    def _refuse(self, error: Only1MCPError) -> None:
        """Answer what is no request that we serve, as far as an answer is still possible, and close."""
        self._wire.close_after = True
        exchange = self._runner.exchange
        if exchange is not None:
            self._runner.fail(exchange, error)
            self._runner.settle()
            return
        if self._phase is HEAD:
            self._owner.refused(self.peer, error)
            headers = [*error_headers(error), self._letterhead.date_field()]
            self._write(self._wire.send_response(error.http_status, headers, error_message(error)))
        self._linger()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            self._reader.note_written(len(data))
            transport.write(data)

    def _linger(self) -> None:
        """Say that nothing follows, then read on until the client closes too, for a while."""
        transport = self._transport
        # TLS has no way to say it and still read, so there it is done only where the client is known to be sending.
        quiet = self.tls and self._wire.request_complete and not self._wire.pending_bytes
        if self._eof or quiet or transport is None or transport.is_closing():
            self.close()
            return
        self._pause_reading(False)
        self._phase = LINGER
        if not self.tls:
            transport.write_eof()
        self._deadline.set(self._loop.time() + LINGER_S)

    def close(self) -> None:
        """Send what is buffered, then close."""
        self._phase = LINGER
        if self._transport is not None:
            self._transport.close()
            self._deadline.set(self._loop.time() + LINGER_S)

    def _schedule(self) -> None:
        """Set the deadline of the phase, and read on or stop reading."""
        transport = self._transport
        if transport is None or self._phase is LINGER:
            return
        now = self._loop.time()
        waiting = self._phase is BUSY or (self._phase is HEAD and self._gate.paused)
        pause = (waiting or self._behind) and self._wire.pending_bytes > PIPELINE_BYTES
        if pause != self._reading_paused:
            self._pause_reading(pause)
        if waiting:
            if self._reader.stalled_s(now, transport.get_write_buffer_size()) >= self._request_s:
                self.abort()
                return
            self._deadline.set(now + (self._reader.probe_s() if self._may_be_gone() else self._request_s / 4))
        elif self._phase is BODY:
            self._deadline.set(now + self._request_s)
        elif self._wire.pending_bytes:
            self._head_since = now if self._head_since is None else self._head_since
            self._deadline.set(self._head_since + self._header_s)
        elif self._served_before:
            self._deadline.set(now + self._idle_s)

    def _pause_reading(self, pause: bool) -> None:
        transport = self._transport
        if pause == self._reading_paused or self._eof or transport is None or transport.is_closing():
            return
        self._reading_paused = pause
        (transport.pause_reading if pause else transport.resume_reading)()

    def _may_be_gone(self) -> bool:
        """Whether the client has closed its side and an interim response may ask whether it still listens."""
        exchange = self._runner.exchange
        if exchange is None or exchange.started_response:
            return False
        return self._eof and exchange.head.http_version != b"1.0"

    def _on_deadline(self) -> None:
        transport = self._transport
        if transport is None:
            return
        now = self._loop.time()
        unsent = transport.get_write_buffer_size()
        if self._phase is LINGER:
            if unsent and self._reader.stalled_s(now, unsent) < self._request_s:
                self._deadline.set(now + LINGER_S)
            else:
                self.abort()
        elif self._phase is BODY:
            self._refuse(ProtocolError("the request body stopped arriving", http_status=408))
        elif self._phase is BUSY or self._gate.paused:
            if self._may_be_gone():
                self._reader.note_probe()
                self._write(self._wire.send_continue())
            self._schedule()
        elif self._wire.pending_bytes:
            self._refuse(ProtocolError(f"expected the whole head within {self._header_s:g} s", http_status=408))
        else:
            (self.abort if unsent else self.close)()
