"""Both ends of a call in the middle of which a backend asks its client; every message is held against its schema."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

from tests import validity
from tests.mcp_backend import HANDSHAKE, Backend, Call
from tests.mcp_caller import TIMEOUT_S, Caller, Fields, Reply, request

from only1mcp.wire.mcp import LATEST_HANDSHAKE, LATEST_STATELESS

EVERYTHING: dict[str, Any] = {
    "sampling": {"tools": {}},
    "elicitation": {"form": {}, "url": {}},
    "roots": {"listChanged": True},
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string", "default": "Ann"}}}
FORM: dict[str, Any] = {"mode": "form", "message": "Who?", "requestedSchema": SCHEMA}
SAMPLE: dict[str, Any] = {
    "messages": [{"role": "user", "content": {"type": "text", "text": "Why?"}}],
    "maxTokens": 7,
}
ACCEPTED: dict[str, Any] = {"action": "accept", "content": {"name": "Bo"}}
SAMPLED: dict[str, Any] = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "So."}}
ROOTS: dict[str, Any] = {"roots": [{"uri": "file:///home", "name": "home"}]}


@dataclass
class Curious(Backend):
    """A handshake backend whose tools ask; `asked` holds what came for each of its own ids.

    One that `pushes` has a stream of its own (GET) on which to say what belongs to no call.
    """

    era: str = HANDSHAKE
    pushes: bool = False
    listener: asyncio.Queue[asyncio.StreamWriter] = field(default_factory=asyncio.Queue)
    methods: dict[Any, str] = field(default_factory=dict)
    answers: dict[Any, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def _answer(
        self,
        method: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if method == "GET" and self.pushes:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            self.listener.put_nowait(writer)
            await reader.read()
            return False
        if method == "POST":
            message = json.loads(body)
            if message.get("method") != "server/discover":
                revision = LATEST_HANDSHAKE if self.era == HANDSHAKE else LATEST_STATELESS
                validity.check(message, revision, self.methods.get(message.get("id")))
            if "method" not in message:
                future = self.answers[message["id"]]
                assert not future.done(), f"a second answer: {message}"
                future.set_result(message)
        return await super()._answer(method, headers, body, reader, writer)

    async def push(self, **message: Any) -> None:
        """Say something on the stream that belongs to no call, once there is one."""
        writer = await self.listener.get()
        self.listener.put_nowait(writer)
        writer.write(b"data: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n")
        await writer.drain()

    async def ask(self, call: Call, id: Any, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the client of the call, and return its whole response."""
        self.methods[id] = method
        self.answers[id] = asyncio.get_running_loop().create_future()
        more = {} if params is None else {"params": params}
        if self.speaks:
            await self.say_unasked(id=id, method=method, **more)
        else:
            await call.say(id=id, method=method, **more)
        return await asyncio.shield(self.answers[id])


class Client:
    """A handshake client: a connection for the stream of its call, and one for what it posts meanwhile."""

    def __init__(self, stream: Caller, post: Caller, revision: str) -> None:
        self.stream = stream
        self.post = post
        self.revision = revision
        self._ids = itertools.count(100)
        self._messages: list[dict[str, Any]] = []
        self._rest = b""
        self._begun = False

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, port: int, capabilities: dict[str, Any] | None = None, revision: str = LATEST_HANDSHAKE, **fields: str
    ) -> AsyncIterator[Self]:
        """Open a session that declares `capabilities`, by default all there are."""
        async with Caller(port, **fields) as stream, Caller(port, **fields) as post:
            declared = EVERYTHING if capabilities is None else capabilities
            info = {"name": "t", "version": "1"}
            params = {"protocolVersion": revision, "capabilities": declared, "clientInfo": info}
            reply = await post.send(request("initialize", **params))
            stream.session = post.session = reply.headers["mcp-session-id"]
            yield cls(stream, post, revision)

    @property
    def session(self) -> str:
        assert self.post.session is not None
        return self.post.session

    async def end_session(self) -> None:
        assert (await self.post.send(b"", self._fields, method="DELETE")).status == 204

    @property
    def _fields(self) -> Fields:
        return {"mcp-session-id": self.post.session, "mcp-protocol-version": self.revision}

    def begin(self, method: str, *, meta: dict[str, Any] | None = None, **params: Any) -> int:
        """Send a request and return its id; what comes of it is heard message by message."""
        id = next(self._ids)
        if meta is not None:
            params["_meta"] = meta
        self.stream.write(request(method, id=id, **params), self._fields)
        self._begun, self._rest = False, b""
        return id

    def call(self, tool: str, *, meta: dict[str, Any] | None = None, **arguments: Any) -> int:
        return self.begin("tools/call", meta=meta, name=tool, arguments=arguments)

    async def hear(self, asked: str = "tools/call") -> dict[str, Any]:
        """Return the next message of the stream, or the answer where there is none; `asked` is what it may answer."""
        async with asyncio.timeout(TIMEOUT_S):
            if not self._begun:
                self._begun = True
                _, headers = await self.stream.head()
                if headers.get("content-type") != "text/event-stream":
                    body = await self.stream.reader.readexactly(int(headers["content-length"]))
                    return self._checked(json.loads(body), asked)
            while not self._messages:
                piece = await self.stream.chunk()
                assert piece, "the stream has ended"
                *events, self._rest = (self._rest + piece).split(b"\n\n")
                for event in events:
                    data = b"".join(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
                    if data:
                        self._messages.append(json.loads(data))
            return self._checked(self._messages.pop(0), asked)

    async def end(self) -> None:
        """Read the end of the stream."""
        async with asyncio.timeout(TIMEOUT_S):
            assert await self.stream.chunk() == b""

    def _checked(self, message: dict[str, Any], asked: str) -> dict[str, Any]:
        validity.check(message, self.revision, asked)
        return message

    async def say(self, message: Any) -> Reply:
        """Post a response or a notification."""
        reply = await self.post.send(message, self._fields)
        assert (reply.status, reply.body) == (202, b"")
        return reply

    async def answer(self, asked: dict[str, Any], result: dict[str, Any]) -> None:
        await self.say({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    async def fail(self, asked: dict[str, Any], code: int = -1, message: str = "the user said no") -> None:
        await self.say({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": message}})

    async def notify(self, method: str, **params: Any) -> None:
        await self.say({"jsonrpc": "2.0", "method": method, "params": params})
