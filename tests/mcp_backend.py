"""A small MCP server over HTTP for tests, of either era: scripted tools, and a record of everything it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.validity import Conversation

HANDSHAKE, STATELESS = "handshake", "stateless"
INFO = {"name": "fake", "version": "1"}
MEMBER = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
CAPABILITY = {"tools": "tools", "resources": "resources", "resourceTemplates": "resources", "prompts": "prompts"}
SESSION = "the-session-of-the-proxy"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Outcome = dict[str, Any] | bytes | None
Script = Callable[["Call"], Awaitable[Outcome]]


class Fault(Exception):
    """A JSON-RPC error that a script answers with."""

    def __init__(self, **error: Any) -> None:
        self.error = error


@dataclass
class Call:
    """One request while its script runs."""

    backend: Backend
    message: dict[str, Any]
    headers: dict[str, str]
    writer: asyncio.StreamWriter
    streaming: bool = False

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.message.get("params", {})
        return params

    @property
    def arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = self.params.get("arguments", {})
        return arguments

    @property
    def token(self) -> Any:
        return self.params.get("_meta", {}).get("progressToken")

    async def say(self, **message: Any) -> None:
        """Send a message on the stream of this call, which begins with the first one."""
        if not self.streaming:
            self.streaming = True
            self.writer.write(STREAM)
        self.backend.asked.asks(message)
        self.writer.write(_event(message))
        await self.writer.drain()


@dataclass
class Backend:
    """Serves until the `async with` block ends. `tools` maps names to scripts, the other lists are as MCP has them.

    `received` holds every message that was posted, in order; a call whose client hung up is noted in `abandoned`.
    """

    era: str = STATELESS
    tools: dict[str, Script] = field(default_factory=dict)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Further members of listed tools.
    extras: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)
    resource_templates: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    scripts: dict[str, Script] = field(default_factory=dict)
    instructions: str | None = None
    # What is declared beside what follows from the rest.
    capabilities: dict[str, Any] = field(default_factory=dict)
    # Where it is given, nothing is answered before it is set: a backend that takes long to come up.
    awake: asyncio.Event | None = None
    # Whether it has a stream of its own, for what it says unasked (`say_unasked`); `heard` when somebody listens.
    speaks: bool = False
    listener: asyncio.StreamWriter | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    asked: Conversation = field(default_factory=Conversation)
    received: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    # For scripts: `hold` tells that it runs, then waits to be let go.
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    notified: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._connections: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What was forwarded for clients: neither handshakes, lists nor notifications."""
        own = {"initialize", "server/discover", "subscriptions/listen", *MEMBER}
        return [message for message in self.received if "id" in message and message.get("method") not in own]

    async def hold(self, call: Call) -> Outcome:
        self.holding.set()
        await self.release.wait()
        return text("released")

    async def say_unasked(self, **message: Any) -> None:
        """Send a message on the stream that belongs to no call."""
        await self.heard.wait()
        assert self.listener is not None
        self.asked.asks(message)
        self.listener.write(_event(message))
        await self.listener.drain()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.reached.set()
            if self.awake is not None:
                await self.awake.wait()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    self.heads.append(head)
                    line, *fields = head[:-4].split("\r\n")
                    headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in fields)}
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                    if not await self._answer(line.split(" ")[0], headers, body, reader, writer):
                        return
        finally:
            writer.close()

    async def _answer(
        self,
        method: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if method == "GET" and self.speaks:
            writer.write(STREAM)
            self.listener = writer
            self.heard.set()
            await reader.read(1)
            return False
        if method != "POST":
            return _respond(writer, 200 if method == "DELETE" else 405)
        message = json.loads(body)
        self.asked.overhears(message)
        self.received.append(message)
        self.bodies.append(body)
        if "id" not in message or "method" not in message:
            if message.get("method") != "notifications/initialized":
                self.notified.set()
            return _respond(writer, 202)
        name = message["method"]
        if self.era == HANDSHAKE and "mcp-session-id" not in headers and name != "initialize":
            error = {"code": -32600, "message": "initialize first"}
            return _respond(writer, 400, {"jsonrpc": "2.0", "id": None, "error": error})
        call = Call(self, message, headers, writer)
        work = asyncio.ensure_future(self._work(call))
        watch = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.abandoned.append(message.get("params", {}).get("name") or name)
                self.gone.set()
                return False
            return self._finish(call, work.result())
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    def _finish(self, call: Call, outcome: dict[str, Any] | bytes) -> bool:
        if isinstance(outcome, bytes):
            call.writer.write(outcome)
            return False
        answer = {"jsonrpc": "2.0", "id": call.message["id"], **outcome}
        if call.streaming:
            call.writer.write(_event(answer) + b"0\r\n\r\n")
            return True
        extra = {"Mcp-Session-Id": SESSION} if call.message["method"] == "initialize" else {}
        status = 200 if "result" in answer or self.era == HANDSHAKE else 400
        return _respond(call.writer, status, answer, extra)

    async def _work(self, call: Call) -> dict[str, Any] | bytes:
        try:
            result = await self._result(call)
        except Fault as fault:
            return {"error": fault.error}
        return result if isinstance(result, bytes) else {"result": result}

    async def _result(self, call: Call) -> Outcome:
        method = call.message["method"]
        if method == "initialize" and self.era == HANDSHAKE:
            return {"protocolVersion": "2025-11-25", "serverInfo": INFO, **self._introduction()}
        if method == "server/discover" and self.era == STATELESS:
            hints = {"supportedVersions": ["2026-07-28"], "resultType": "complete", "ttlMs": 0, "cacheScope": "public"}
            return {**hints, **self._introduction()}
        if method in MEMBER:
            return self._complete({MEMBER[method]: self._list(method)}, ttlMs=60_000, cacheScope="public")
        if method == "tools/call" and call.params["name"] in self.tools:
            result = await self.tools[call.params["name"]](call)
        elif method in self.scripts:
            result = await self.scripts[method](call)
        else:
            raise Fault(code=-32601, message="not here")
        return self._complete(result) if isinstance(result, dict) else result

    def _complete(self, result: dict[str, Any], **hints: Any) -> dict[str, Any]:
        return result if self.era == HANDSHAKE else {"resultType": "complete", **hints, **result}

    def _introduction(self) -> dict[str, Any]:
        capabilities: dict[str, Any] = {CAPABILITY[MEMBER[method]]: {} for method in MEMBER if self._list(method)}
        if "completion/complete" in self.scripts:
            capabilities["completions"] = {}
        if {"resources/subscribe", "subscriptions/listen"} & self.scripts.keys():
            capabilities["resources"] = {"subscribe": True}
        if "logging/setLevel" in self.scripts:
            capabilities["logging"] = {}
        said = {"capabilities": {**capabilities, **self.capabilities}}
        return {**said, "instructions": self.instructions} if self.instructions else said

    def _list(self, method: str) -> list[dict[str, Any]]:
        if method == "tools/list":
            schema = {"type": "object"}
            return [
                {"name": name, "inputSchema": self.schemas.get(name, schema)}
                | ({"annotations": self.annotations[name]} if name in self.annotations else {})
                | self.extras.get(name, {})
                for name in self.tools
            ]
        if method == "prompts/list":
            return self.prompts
        return self.resources if method == "resources/list" else self.resource_templates


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


async def echo(call: Call) -> Outcome:
    return text(call.arguments.get("text", ""))


def _event(message: dict[str, Any]) -> bytes:
    event = b"data: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _respond(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> bool:
    data = b"" if body is None else json.dumps(body).encode()
    fields = {"Content-Length": str(len(data)), **(headers or {})}
    if data:
        fields["Content-Type"] = "application/json"
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + data)
    return True
