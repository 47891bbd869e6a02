"""An MCP client for tests that sends what it is told, right or wrong, and shows the whole answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
from dataclasses import dataclass
from typing import Any, Self

from tests.validity import Conversation

STATELESS = "2026-07-28"
HANDSHAKE = "2025-11-25"
META = "io.modelcontextprotocol/"
NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
TIMEOUT_S = 20.0

Fields = dict[str, str | list[str] | None]


@dataclass
class Reply:
    """One response; `messages` are the JSON-RPC messages of its body, of either media type."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    @property
    def messages(self) -> list[dict[str, Any]]:
        if not self.streamed:
            return [json.loads(self.body)] if self.body else []
        events = [event.split("\n") for event in self.body.decode().split("\n\n")]
        texts = ["\n".join(line[6:] for line in event if line.startswith("data: ")) for event in events]
        return [json.loads(text) for text in texts if text]

    @property
    def response(self) -> dict[str, Any]:
        (response,) = [message for message in self.messages if "method" not in message]
        return response

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.response["result"]
        return result

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.response["error"]
        return error

    @property
    def code(self) -> int | None:
        """The JSON-RPC error code, None without a body."""
        return self.error["code"] if self.body else None

    @property
    def text(self) -> str:
        text: str = self.result["content"][0]["text"]
        return text


class Caller:
    """One connection. `fields` go with every request; in those of `send`, None removes a field, a list doubles it."""

    def __init__(self, port: int, *, context: ssl.SSLContext | None = None, **fields: str) -> None:
        self.port = port
        self._context = context
        self._fields: Fields = {name.replace("_", "-"): value for name, value in fields.items()}
        self._ids = itertools.count(1)
        # What goes to the endpoint of MCP and comes back from there; elsewhere other things are said.
        self._conversation = Conversation()
        self._in_conversation = True
        self.session: str | None = None
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        options: dict[str, Any] = (
            {} if self._context is None else {"ssl": self._context, "server_hostname": "localhost"}
        )
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    # What a client of either era does.

    async def call(self, tool: str, *, meta: dict[str, Any] | None = None, **arguments: Any) -> Reply:
        """Call a tool as the client this is: in its session if it has one, else in the stateless era."""
        return await self.ask("tools/call", meta=meta, name=tool, arguments=arguments)

    async def ask(self, method: str, *, meta: dict[str, Any] | None = None, **params: Any) -> Reply:
        if self.session is not None:
            if meta is not None:
                params["_meta"] = meta
            return await self.in_session(request(method, id=next(self._ids), **params))
        return await self.send(*stateless(method, id=next(self._ids), meta=meta, **params))

    async def initialize(self, revision: str = HANDSHAKE) -> Reply:
        """Open a session; later calls of `ask` and `call` go there."""
        params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        reply = await self.send(request("initialize", **params))
        self.session = reply.headers.get("mcp-session-id")
        return reply

    async def in_session(self, message: Any, fields: Fields | None = None, **how: Any) -> Reply:
        headers: Fields = {"mcp-session-id": self.session, "mcp-protocol-version": HANDSHAKE, **(fields or {})}
        return await self.send(message, headers, **how)

    # Bytes.

    async def send(
        self, message: Any = b"", fields: Fields | None = None, *, method: str = "POST", path: str = "/mcp"
    ) -> Reply:
        """Send one HTTP request and read the answer; a message that is not bytes is sent as JSON."""
        self.write(message, fields, method=method, path=path)
        return await self.reply(method)

    def write(
        self, message: Any = b"", fields: Fields | None = None, *, method: str = "POST", path: str = "/mcp"
    ) -> None:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._in_conversation = path.partition("?")[0] == "/mcp"
        if self._in_conversation:
            self._conversation.asks(message, in_session="mcp-session-id" in (fields or {}))
        self.writer.write(self.http(body, fields, method=method, path=path))

    def http(self, body: bytes, fields: Fields | None = None, *, method: str = "POST", path: str = "/mcp") -> bytes:
        """Return the bytes of a request that is in order, but for what `fields` changes."""
        headers: Fields = {
            "host": f"localhost:{self.port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(len(body)),
            **self._fields,
            **(fields or {}),
        }
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in headers.items():
            values = [] if value is None else [value] if isinstance(value, str) else value
            lines += [f"{name}: {each}" for each in values]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def reply(self, method: str = "POST") -> Reply:
        async with asyncio.timeout(TIMEOUT_S):
            status, headers = await self.head()
            body = b""
            if headers.get("transfer-encoding") == "chunked":
                while chunk := await self.chunk():
                    body += chunk
            elif method != "HEAD":
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            reply = Reply(status, headers, body)
            if self._in_conversation and headers.get("content-type") in ("application/json", "text/event-stream"):
                for each in reply.messages:
                    self._conversation.hears(each)
            return reply

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of a response; interim ones are passed over."""
        while True:
            raw = await self.reader.readuntil(b"\r\n\r\n")
            line, *fields = raw[:-4].decode("latin-1").split("\r\n")
            headers = dict(each.split(": ", 1) for each in fields)
            assert len(headers) == len(fields), raw
            status = int(line.split(" ")[1])
            if status >= 200:
                return status, headers

    async def chunk(self) -> bytes:
        data = await self.reader.readexactly(int(await self.reader.readline(), 16))
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def is_closed(self) -> bool:
        """Whether the proxy closes the connection without another byte."""
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read() == b""
            return True

    def vanish(self) -> None:
        self.writer.transport.abort()


def request(method: str, *, id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def stateless(
    method: str, *, id: Any = 1, meta: dict[str, Any] | None = None, **params: Any
) -> tuple[dict[str, Any], Fields]:
    """Return a request of the stateless era and its mirrored headers."""
    params["_meta"] = {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}, **(meta or {})}
    fields: Fields = {"mcp-protocol-version": STATELESS, "mcp-method": method}
    if method in NAMED_BY and NAMED_BY[method] in params:
        fields["mcp-name"] = str(params[NAMED_BY[method]])
    return request(method, id=id, **params), fields
