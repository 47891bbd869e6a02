"""The whole proxy inside a test as its client launches it: messages by two pipes, all that come back checked."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests import validity
from tests.mcp_caller import HANDSHAKE, META, STATELESS, request

from only1mcp.config.schema import Config
from only1mcp.frontend.stdio import StdioDoor
from only1mcp.process.worker import Worker
from only1mcp.proxy.auth import ANONYMOUS

TIMEOUT_S = 20.0
LINE_LIMIT = 64 << 20


class Launched:
    """The client's ends of the pipes. `ended` is done when the door has nothing more to serve."""

    def __init__(self, reader: asyncio.StreamReader, fd: int, worker: Worker, ended: asyncio.Task[None]) -> None:
        self.worker = worker
        self.ended = ended
        self.reader = reader
        self._fd: int | None = fd
        self._ids = itertools.count(1)
        self._asked: dict[Any, tuple[str, str]] = {}

    def write(self, data: bytes) -> None:
        assert self._fd is not None
        assert os.write(self._fd, data) == len(data)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def send(self, message: dict[str, Any], revision: str = HANDSHAKE) -> Any:
        """Send a message; return its id."""
        if "method" in message:
            self._asked[message.get("id")] = (message["method"], revision)
        self.write(json.dumps(message).encode() + b"\n")
        return message.get("id")

    def ask(self, method: str, era: str = HANDSHAKE, *, meta: dict[str, Any] | None = None, **params: Any) -> Any:
        """Send a request of the era; return its id."""
        if era == STATELESS:
            meta = {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}, **(meta or {})}
        if meta is not None:
            params["_meta"] = meta
        return self.send(request(method, id=next(self._ids), **params), era)

    def tell(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def receive(self) -> dict[str, Any]:
        """Return the next message, valid for who is told."""
        async with asyncio.timeout(TIMEOUT_S):
            line = await self.reader.readuntil(b"\n")
        message: dict[str, Any] = json.loads(line)
        method, revision = self._asked.get(message.get("id"), (None, HANDSHAKE))
        validity.check(message, revision, method)
        return message

    async def answer(self, id: Any) -> dict[str, Any]:
        """Return the next message, which answers the request."""
        message = await self.receive()
        assert message.get("id") == id, message
        return message

    async def initialize(self, revision: str = HANDSHAKE) -> dict[str, Any]:
        params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = await self.answer(self.ask("initialize", **params))
        self.tell("notifications/initialized")
        result: dict[str, Any] = answer["result"]
        return result

    async def rest(self) -> bytes:
        """Return what is still said until the other side closes."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.read()


@asynccontextmanager
async def launched(config: Config, *, max_bytes: int = 1 << 20) -> AsyncIterator[Launched]:
    """Start the proxy with `config` behind two pipes, and leave nothing behind."""
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    door = StdioDoor(their_in, their_out, ANONYMOUS, path=config.proxy.path, max_bytes=max_bytes, max_depth=64)
    worker = Worker(config, door)
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_in, "rb", 0)
    )
    client = None
    try:
        await worker.start()
        ended = asyncio.ensure_future(door.serve(worker.pipeline))
        client = Launched(reader, our_out, worker, ended)
        yield client
    finally:
        if client is not None:
            client.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.ended, TIMEOUT_S)
        await worker.stop(0)
        transport.close()
        os.close(their_out)
        os.close(their_in)
