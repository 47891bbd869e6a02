"""A raw HTTP backend on loopback whose every byte the test decides, and the well-behaved one it is made from."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from only1mcp.backend.base import BackendCall
from only1mcp.backend.http import HttpTransport
from only1mcp.config.schema import BackendConfig
from only1mcp.wire import jsonrpc

Behaviour = Callable[["Incoming"], Awaitable[None]]


class Incoming:
    """One request that has arrived, and the connection to misbehave on."""

    def __init__(
        self,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: int,
    ) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.verb, self.target, _ = lines[0].split(" ", 2)
        self.headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        self.head = head
        self.body = body
        self.message: dict[str, Any] = json.loads(body) if body else {}
        self.reader = reader
        self.writer = writer
        self.connection = connection  # the number of the connection, from 1

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, found
        return found[0] if found else None

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def until_closed(self) -> bytes:
        """Return what the client sends before it closes the connection, as soon as it does."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()

    def result(self, value: bytes = b'{"ok":true}') -> bytes:
        return b'{"jsonrpc":"2.0","id":' + json.dumps(self.message.get("id")).encode() + b',"result":' + value + b"}"


def response(body: bytes, status: str = "200 OK", media: str = "application/json", *extra: str) -> bytes:
    """Return a whole response with a length."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {media}", f"content-length: {len(body)}", *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes) -> bytes:
    """Return one chunk that holds one event."""
    return chunk(b"event: message\ndata: " + data + b"\n\n")


async def answer_well(incoming: Incoming) -> None:
    """Do what a correct server does."""
    if incoming.verb == "POST" and "id" in incoming.message:
        await incoming.send(response(incoming.result()))
    elif incoming.verb == "POST":
        await incoming.send(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
    else:
        await incoming.send(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")


async def stay_silent(incoming: Incoming) -> None:
    """Answer nothing for as long as the client waits."""
    await incoming.until_closed()


class HostileServer:
    """Answers each request with `script(method)` if there is one, else with `answer_well`. Use as a context manager.

    Leaving it waits until every connection to it is closed: a client that leaks one makes the test time out.
    """

    def __init__(self, ssl: Any = None) -> None:
        self.received: list[Incoming] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.behaviours: dict[str, Behaviour] = {}
        self._ssl = ssl
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def script(self, method: str, behaviour: Behaviour) -> None:
        """Behave so for this JSON-RPC method (or HTTP verb, for requests without a body)."""
        self.behaviours[method] = behaviour

    def of(self, method: str) -> list[Incoming]:
        return [incoming for incoming in self.received if (incoming.method or incoming.verb) == method]

    async def arrival(self, method: str, count: int = 1) -> Incoming:
        """Return the `count`-th request with this method as soon as it is here."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.of(method)) >= count)
        return self.of(method)[count - 1]

    async def connections_left(self, count: int) -> None:
        """Return when no more than `count` connections are open."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.open <= count)

    async def __aenter__(self) -> Self:
        # Beyond the backlog the system drops connections, and a client tries again only after a second, or three.
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl, limit=2**26, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        if kind is None:
            async with asyncio.timeout(5):
                await self.connections_left(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                length = [
                    line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                ]
                body = await reader.readexactly(int(length[0]) if length else 0)
                incoming = Incoming(head, body, reader, writer, number)
                async with self._arrived:
                    self.received.append(incoming)
                    self._arrived.notify_all()
                await self.behaviours.get(incoming.method or incoming.verb, answer_well)(incoming)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            self.open -= 1
            async with self._arrived:
                self._arrived.notify_all()


@contextlib.asynccontextmanager
async def hosted(
    revision: str | None = "2025-11-25", **options: Any
) -> AsyncIterator[tuple[HostileServer, HttpTransport]]:
    """Yield a server and a transport to it, and check that nothing of either is left at the end."""
    async with HostileServer() as server:
        config = BackendConfig(id="b", transport="http", url=f"http://127.0.0.1:{server.port}/mcp", **options)
        transport = HttpTransport(config, name="b")
        transport.revision = revision
        try:
            yield server, transport
        finally:
            await transport.aclose()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("http ")]
        assert "closed, 0 idle, 0 leased, 0 opening, 0 waiting" in repr(transport)


def make_call(id: int, method: str = "tools/call", timeout_s: float | None = 10, **options: Any) -> BackendCall:
    token = b"%d" % id
    name = "add" if method == "tools/call" else None
    message = jsonrpc.request(token, method, b'{"name":"add"}' if name else None)
    return BackendCall(method, message, token, timeout_s, name, **options)
