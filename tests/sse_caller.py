"""A client of the transport of 2024-11-05: a connection for its stream, another for what it posts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from tests import validity
from tests.mcp_caller import TIMEOUT_S, Caller, Fields, Reply, request

from only1mcp.process.worker import Worker

OLDEST = "2024-11-05"


async def emptied(worker: Worker) -> None:
    """Wait until the proxy has no stream of such a client any more."""
    async with asyncio.timeout(TIMEOUT_S):
        while len(worker.pipeline.sse):  # noqa: ASYNC110 (nothing tells when a session goes)
            await asyncio.sleep(0)


class SseClient:
    """What comes on the stream is checked; `path` is where the first event has said that messages go."""

    def __init__(self, stream: Caller, post: Caller, revision: str) -> None:
        self.stream = stream
        self.poster = post
        self.revision = revision
        self.path = ""
        self.headers: dict[str, str] = {}
        # Comments that have been read on the way.
        self.comments = 0
        self._ids = itertools.count(1)
        self._asked: dict[Any, str] = {}
        self._unread = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, port: int, revision: str = OLDEST, **fields: str) -> AsyncIterator[Self]:
        """Open the stream, and no session of MCP in it."""
        async with Caller(port, **fields) as stream, Caller(port, **fields) as post:
            client = cls(stream, post, revision)
            stream.write(fields={"content-length": None, "content-type": None}, method="GET", path="/sse")
            async with asyncio.timeout(TIMEOUT_S):
                status, client.headers = await stream.head()
            assert (status, client.headers["content-type"]) == (200, "text/event-stream")
            name, client.path = await client.event()
            assert name == "endpoint"
            yield client

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, port: int, revision: str = OLDEST, capabilities: dict[str, Any] | None = None, **fields: str
    ) -> AsyncIterator[Self]:
        async with cls.connected(port, revision, **fields) as client:
            await client.initialize(capabilities)
            yield client

    async def initialize(self, capabilities: dict[str, Any] | None = None) -> dict[str, Any]:
        info = {"name": "t", "version": "1"}
        result = await self.result(
            "initialize", protocolVersion=self.revision, capabilities=capabilities or {}, clientInfo=info
        )
        await self.tell("notifications/initialized")
        return result

    # What is posted.

    async def post(self, message: Any, fields: Fields | None = None) -> Reply:
        return await self.poster.send(message, fields, path=self.path)

    async def say(self, message: Any) -> None:
        reply = await self.post(message)
        assert (reply.status, reply.body) == (202, b""), reply

    async def ask(self, method: str, *, meta: dict[str, Any] | None = None, **params: Any) -> int:
        """Post a request; return its id."""
        id = next(self._ids)
        self._asked[id] = method
        if meta is not None:
            params["_meta"] = meta
        await self.say(request(method, id=id, **params))
        return id

    async def tell(self, method: str, **params: Any) -> None:
        await self.say({"jsonrpc": "2.0", "method": method, "params": params})

    async def reply(self, asked: dict[str, Any], result: dict[str, Any]) -> None:
        """Answer what the proxy has asked."""
        await self.say({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    # What is heard.

    async def event(self) -> tuple[str, str]:
        """Return name and data of the next event."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                text, found, rest = self._unread.partition(b"\n\n")
                if not found:
                    try:
                        piece = await self.stream.chunk()
                    except (ValueError, asyncio.IncompleteReadError):
                        raise ConnectionError("the stream was cut off") from None
                    if not piece:
                        raise EOFError
                    self._unread += piece
                    continue
                self._unread = rest
                lines = [line.partition(": ") for line in text.decode().split("\n")]
                fields = {name: value for name, _, value in lines if name}
                if fields:
                    assert fields.keys() == {"event", "data"}, fields
                    data = "\n".join(value for name, _, value in lines if name == "data")
                    return fields["event"], data
                self.comments += 1

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        name, data = await self.event()
        assert name == "message"
        message: dict[str, Any] = json.loads(data)
        validity.check(message, self.revision, self._asked.get(message.get("id")))
        return message

    async def answer(self, id: Any) -> dict[str, Any]:
        """Return the next message, which answers the request."""
        message = await self.hear()
        assert message.get("id") == id, message
        return message

    async def result(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask, and return the result that comes next."""
        answer = await self.answer(await self.ask(method, **params))
        result: dict[str, Any] = answer["result"]
        return result

    async def code(self, method: str, **params: Any) -> int:
        """Ask, and return the code of the error that comes next."""
        answer = await self.answer(await self.ask(method, **params))
        code: int = answer["error"]["code"]
        return code

    async def call(self, tool: str, **arguments: Any) -> int:
        return await self.ask("tools/call", name=tool, arguments=arguments)

    async def text(self, tool: str, **arguments: Any) -> str:
        text: str = (await self.result("tools/call", name=tool, arguments=arguments))["content"][0]["text"]
        return text

    async def ended(self) -> bool:
        """Whether the stream ends in order, without another message."""
        try:
            await self.hear()
        except EOFError:
            return True
        return False
