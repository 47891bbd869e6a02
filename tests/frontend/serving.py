"""A small application behind a real listener, and a client that speaks bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

from only1mcp.errors import RateLimited
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.listener import Limits, Listener, Timeouts

LIMITS = Limits(max_header_bytes=8 * 1024, max_body_bytes=1024 * 1024, max_connections=100)
TIMEOUTS = Timeouts(header_s=30, request_s=30, idle_s=30)
PIECE = b"x" * 32 * 1024


class App:
    """Does what the path says; `finished` receives every exchange that has ended."""

    def __init__(self) -> None:
        self.finished: asyncio.Queue[HttpExchange] = asyncio.Queue()
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.blocked = asyncio.Event()
        self.cancelled = 0

    def on_head(self, exchange: HttpExchange) -> None:
        exchange.on_finish = self.finished.put_nowait
        match exchange.head.target:
            case b"/early":
                exchange.respond(401, [], b"who?")
            case b"/early-boom":
                raise LookupError("secret of the head")
            case b"/early-stream":
                exchange.start_stream(200, [])
                exchange.write(b"begun")

    def on_request(self, exchange: HttpExchange) -> Coroutine[Any, Any, None] | None:
        match exchange.head.target:
            case b"/echo":
                exchange.respond(200, [(b"content-type", b"text/plain")], exchange.body)
            case b"/boom":
                raise LookupError("secret of the body")
            case b"/silent":
                pass
            case b"/limited":
                raise RateLimited("slow down", retry_after_s=1.5)
            case b"/bad-field":
                exchange.respond(200, [(b"x", b"a\r\nb: c")])
            case b"/twice":
                exchange.respond(200, [])
                exchange.respond(200, [])
            case target:
                return getattr(self, target[1:].decode().replace("-", "_"))(exchange)
        return None

    async def task_echo(self, exchange: HttpExchange) -> None:
        await asyncio.sleep(0)
        exchange.respond(200, [], exchange.body)

    async def task_boom(self, exchange: HttpExchange) -> None:
        await asyncio.sleep(0)
        raise LookupError("secret of the task")

    async def task_silent(self, exchange: HttpExchange) -> None:
        await asyncio.sleep(0)

    async def hang(self, exchange: HttpExchange) -> None:
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        exchange.respond(200, [], b"released")

    async def stream(self, exchange: HttpExchange) -> None:
        exchange.start_stream(200, [])
        for piece in (b"one", b"two", b""):
            exchange.write(piece)
            await exchange.drain()
        exchange.end_stream()

    async def hanging_stream(self, exchange: HttpExchange) -> None:
        exchange.start_stream(200, [])
        exchange.write(b"begun")
        await self.hang(exchange)

    async def stream_boom(self, exchange: HttpExchange) -> None:
        exchange.start_stream(200, [])
        exchange.write(b"begun")
        raise LookupError("secret of the stream")

    async def flood(self, exchange: HttpExchange) -> None:
        """Stream 1024 pieces; `blocked` is set while the client does not take them."""
        exchange.start_stream(200, [])
        for _ in range(1024):
            exchange.write(PIECE)
            waiting = asyncio.ensure_future(exchange.drain())
            await asyncio.sleep(0)
            if not waiting.done():
                self.blocked.set()
            await waiting
        exchange.end_stream()


@asynccontextmanager
async def serving(
    app: App, *, limits: Limits = LIMITS, timeouts: Timeouts = TIMEOUTS, **options: Any
) -> AsyncIterator[Listener]:
    listener = Listener(app, "127.0.0.1", 0, limits=limits, timeouts=timeouts, **options)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.aclose()
        assert listener.connections == 0


class Client:
    """One connection; `answer` reads one whole response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext | None = None) -> Client:
        options = {} if context is None else {"ssl": context, "server_hostname": "localhost"}
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = raw[:-4].split(b"\r\n")
        headers = dict(field.split(b": ", 1) for field in fields)
        assert len(headers) == len(fields), raw
        return int(line.split(b" ")[1]), headers

    async def answer(self, *, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
        status, headers = await self.head()
        if headers.get(b"transfer-encoding") == b"chunked":
            pieces = []
            while size := int(await self.reader.readline(), 16):
                pieces.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n"
            body = b"".join(pieces)
            assert await self.reader.readexactly(2) == b"\r\n"
        elif method == "HEAD":
            body = b""
        else:
            body = await self.reader.readexactly(int(headers.get(b"content-length", b"0")))
        return status, headers, body

    async def ask(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        self.send(request(path, body))
        status, _, answer = await self.answer()
        return status, answer

    async def rest(self) -> bytes:
        """Return what comes until the connection ends; nothing when it is reset."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def reset(self) -> None:
        """Vanish with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


def request(path: str, body: bytes = b"", *fields: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body
