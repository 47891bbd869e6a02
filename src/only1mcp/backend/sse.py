"""The HTTP+SSE transport of revision 2024-11-05: one stream brings everything, each message of ours is a POST."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import orjson

from only1mcp._fast import NOTIFICATION, REQUEST, scan
from only1mcp.backend.answer import MAX_ANSWER_BYTES, SSE, content, read_accepted, refused
from only1mcp.backend.attribution import Attribution
from only1mcp.backend.base import BackendCall, Transport
from only1mcp.backend.connecting import connect
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.passing import TimeoutClock
from only1mcp.backend.pool import Pool
from only1mcp.backend.target import Target, constant_headers, parse_target
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import (
    BackendAnswerError,
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ConfigError,
    ProtocolError,
)
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.http1_events import END, Headers
from only1mcp.wire.sse import Event, SSEDecoder

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

log = logging.getLogger("only1mcp.backend")

# The first event says where messages go; a server that does not say so is no server of this transport.
ENDPOINT_TIMEOUT_S: Final = 30.0
MAX_ENDPOINT_CHARS: Final = 2048
SEND_TIMEOUT_S: Final = 30.0
CANCEL_TIMEOUT_S: Final = 2.0
# What is sent without anybody waiting for it: cancellations, refusals.
MAX_POSTS: Final = 64


class SseCall:
    """A call that waits for its answer on the stream."""

    def __init__(self, call: BackendCall, answer: asyncio.Future[Envelope], clock: TimeoutClock) -> None:
        self.call = call
        self.answer = answer
        self.asks: set[bytes] | None = None
        self.stop = clock.stop
        self.go_on = clock.go_on


class SseTransport(Transport):
    """One stream of a server, from `start` until it ends or is closed; a new stream is a new transport."""

    def __init__(self, config: BackendConfig, *, name: str) -> None:
        """Raise `ConfigError` when the URL or the headers cannot be used."""
        self._url = config.url or ""
        try:
            self._target = parse_target(self._url)
        except ValueError as error:
            raise ConfigError([f"servers[{config.id}].url: {error}"]) from None
        self.name = name
        self._blame = {"backend": name}
        self._headers = constant_headers(config, self._target)
        self._send_timeout_s = min(SEND_TIMEOUT_S, config.timeout_ms / 1000)
        self._tls = ssl.create_default_context() if self._target.tls else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._pool = Pool(self._connect)
        self._stream: HttpConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        # Where messages are posted, once the stream has said so; why it brings no more.
        self._path: bytes | None = None
        self._opened = asyncio.Event()
        self._gone: str | None = None
        self._calls: dict[bytes, SseCall] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._attribution = Attribution(name, self._calls, self._post_soon, log)

    async def start(self) -> None:
        """Open the stream and wait until it says where messages go."""
        try:
            async with asyncio.timeout(ENDPOINT_TIMEOUT_S):
                self._stream = await self._connect()
                headers = [*self._headers, (b"accept", SSE), (b"cache-control", b"no-store")]
                head = await self._stream.request(b"GET", self._target.path, headers, b"")
                if head.status != 200 or content(head) != SSE:
                    raise refused(head.status)
                reading = asyncio.get_running_loop().create_task(self._read(self._stream), name=f"sse {self.name}")
                self._reading = reading
                reading.add_done_callback(lambda _: self._opened.set())
                await self._opened.wait()
        except TimeoutError:
            raise BackendUnavailable("the stream did not say where to send messages", data=self._blame) from None
        if self._path is None:
            raise BackendUnavailable(f"the stream {self._gone}", data=self._blame)

    async def call(self, call: BackendCall) -> Envelope:
        self._running()
        if call.id in self._calls:
            raise BackendUnavailable(f"request id {call.id.decode()} is in use")
        answer: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(call.timeout_s) as timeout:
                self._calls[call.id] = SseCall(call, answer, TimeoutClock(timeout))
                if call.asked is not None:
                    self._attribution.serve(call.asked.owner)
                await self._post_for(call.message, answer)
                return await answer
        except TimeoutError:
            self._leave(call, "timed out")
            raise BackendTimeout(f"no answer within {call.timeout_s} s", data=self._blame) from None
        except asyncio.CancelledError:
            self._leave(call, "the client has gone")
            raise
        finally:
            self._calls.pop(call.id, None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def send(self, message: bytes) -> None:
        self._running()
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await self._post(message)
        except TimeoutError:
            raise BackendTimeout(f"not accepted within {self._send_timeout_s} s", data=self._blame) from None

    async def listen(self) -> None:
        """Return at once: what a server says unasked arrives on its one stream."""

    async def aclose(self) -> None:
        self._end("was closed")
        tasks = [*self._posts, *([] if self._reading is None else [self._reading])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._stream is not None:
            self._stream.abort()
        await self._pool.aclose()

    # Towards the server.

    async def _connect(self) -> HttpConnection:
        return await connect(self._target.host, self._target.port, self._tls)

    def _running(self) -> None:
        if self._gone is not None or self._path is None:
            what = self._gone or "is not open"
            raise BackendUnavailable(f"backend {self.name!r}: the stream {what}", data=self._blame)

    async def _post_for(self, message: bytes, answer: asyncio.Future[Envelope]) -> None:
        """Post a request; a server may answer it on the stream and accept it only then, or never."""
        post = asyncio.get_running_loop().create_task(self._post(message), name=f"sse {self.name}")
        try:
            await asyncio.wait((post, answer), return_when=asyncio.FIRST_COMPLETED)
            if post.done() and not answer.done():
                post.result()
        finally:
            post.cancel()
            await asyncio.gather(post, return_exceptions=True)

    async def _post(self, message: bytes) -> None:
        connection = await self._pool.acquire()
        headers: Headers = [*self._headers, (b"content-type", b"application/json")]
        if self.revision is not None:
            headers.append((mcp.HEADER_VERSION, self.revision.encode()))
        assert self._path is not None
        try:
            head = await connection.request(b"POST", self._path, headers, message)
            await read_accepted(connection, head)
            while not connection.ended and await connection.next_event() is not END:
                pass
        except BackendRefused as error:
            connection.abort()
            if error.status == 404:
                self._lose("was forgotten by the server")
                raise BackendUnavailable(f"backend {self.name!r} has ended our session", data=self._blame) from error
            error.data = error.data or self._blame
            raise
        except BackendError as error:
            connection.abort()
            if not connection.sent:
                raise BackendUnavailable(error.message, data=self._blame) from error
            error.data = error.data or self._blame
            raise
        except BaseException:
            connection.abort()
            raise
        finally:
            self._pool.release(connection)

    def _post_soon(self, message: bytes) -> None:
        if self._gone is not None or len(self._posts) >= MAX_POSTS:
            return
        task = asyncio.get_running_loop().create_task(self._post_quietly(message), name=f"sse {self.name}")
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _post_quietly(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self.send(message)
        except (BackendError, TimeoutError) as error:
            log.debug("backend.send_failed", extra={"fields": {"backend": self.name, "reason": str(error)}})

    def _leave(self, call: BackendCall, reason: str) -> None:
        if call.method not in ("initialize", "server/discover"):
            params = orjson.dumps({"requestId": orjson.Fragment(call.id), "reason": reason})
            self._post_soon(jsonrpc.notification("notifications/cancelled", params))

    # From the server.

    async def _read(self, stream: HttpConnection) -> None:
        decoder = SSEDecoder(MAX_ANSWER_BYTES)
        try:
            while (piece := await stream.next_event()) is not END:
                assert isinstance(piece, bytes)
                for event in decoder.receive_data(piece):
                    self._take(event)
            reason = "has ended"
        except (BackendError, ProtocolError) as error:
            reason = f"broke: {error.message}"
        self._lose(reason)

    def _take(self, event: Event) -> None:
        if event.event == "endpoint":
            if self._path is None:
                self._path = message_path(self._url, self._target, event.data.decode("utf-8", "replace"))
                self._opened.set()
            return
        if not event.data or event.event != "message":
            return
        message = scan(event.data)
        if message.kind in (REQUEST, NOTIFICATION):
            self._attribution.heard(message, self.on_message)
            return
        waiting = None if message.id is None else self._calls.get(message.id)
        if waiting is None or waiting.answer.done():
            log.warning("backend.foreign_answer", extra={"fields": {"backend": self.name}})
        else:
            waiting.answer.set_result(message)

    def _lose(self, reason: str) -> None:
        if self._gone is None:
            self._end(reason)
            if self.on_lost is not None:
                self.on_lost(f"the stream {reason}")

    def _end(self, reason: str) -> None:
        if self._gone is not None:
            return
        self._gone = reason
        for waiting in self._calls.values():
            if not waiting.answer.done():
                text = f"backend {self.name!r}: the stream {reason} while it worked on the request"
                waiting.answer.set_exception(BackendAnswerError(text, data=self._blame))


def message_path(url: str, stream: Target, said: str) -> bytes:
    """Return the path to which messages are posted, as the server of the stream says.

    Raise `BackendAnswerError` for one elsewhere: our credentials go nowhere but where they were configured to go.
    """
    if len(said) > MAX_ENDPOINT_CHARS or re.fullmatch(r"[!-~]+", said) is None:
        raise BackendAnswerError("the address for messages is no URL")
    try:
        target = parse_target(urljoin(url, said))
    except ValueError as error:
        raise BackendAnswerError(f"the address for messages cannot be used: {error}") from None
    if (target.host, target.port, target.tls) != (stream.host, stream.port, stream.tls):
        raise BackendAnswerError("the address for messages is at another origin than the stream")
    return target.path
