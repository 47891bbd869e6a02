"""A plain MCP client over HTTP/1.1 that shows everything: status, headers and body as they came."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import h11
from tests.mcp_caller import HANDSHAKE, META, NAMED_BY, STATELESS
from tests.validity import Conversation


class RpcError(Exception):
    """The answer was a JSON-RPC error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"HTTP {status}: {error}")
        self.status = status
        self.error = error
        self.code = error.get("code")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def response(self) -> dict[str, Any]:
        """The one response among the messages."""
        (response,) = [each for each in self.messages if "method" not in each]
        return response


class WireClient:
    """One keep-alive connection, one request at a time; `era` decides what `request` puts around a call."""

    def __init__(self, url: str, era: str = STATELESS, *, timeout_s: float = 20.0) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname or "", parts.port or 80, parts.path
        self.era = era
        self.timeout_s = timeout_s
        self.session: str | None = None
        self._conversation = Conversation(era)
        self._ids = itertools.count(1)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connection = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        if self.era == HANDSHAKE:
            params = {
                "protocolVersion": HANDSHAKE,
                "capabilities": {},
                "clientInfo": {"name": "wire", "version": "1"},
            }
            answer = await self.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, {})
            assert answer.status == 200, answer
            self.session = answer.headers.get("mcp-session-id")
            await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result; raise `RpcError` for a JSON-RPC error."""
        id = next(self._ids)
        headers = None
        if self.era == STATELESS:
            meta = {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}, **params.get("_meta", {})}
            params["_meta"] = meta
            headers = {"mcp-protocol-version": STATELESS, "mcp-method": method}
            if method in NAMED_BY:
                headers["mcp-name"] = str(params[NAMED_BY[method]])
        answer = await self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, headers)
        assert answer.messages, answer
        response = answer.response
        assert response["id"] == id, (id, response)
        if "error" in response:
            raise RpcError(answer.status, response["error"])
        assert answer.status == 200, answer
        result: dict[str, Any] = response["result"]
        return result

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.request("tools/call", name=tool, arguments=arguments)

    async def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool and return the text of its first content block."""
        result = await self.call(tool, **arguments)
        text: str = result["content"][0]["text"]
        return text

    async def all(self, method: str) -> list[dict[str, Any]]:
        """Follow `nextCursor` to the end and return every item."""
        member = {"resources/templates/list": "resourceTemplates"}.get(method, method.split("/", maxsplit=1)[0])
        items: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        for _ in range(1000):
            page = await self.request(method, **cursor)
            items += page[member]
            if page.get("nextCursor") is None:
                return items
            cursor = {"cursor": page["nextCursor"]}
        raise AssertionError(f"{method} never ended")

    async def send(
        self, message: Any, headers: dict[str, str] | None = None, *, method: str = "POST", path: str | None = None
    ) -> Answer:
        """Send one message (bytes go as they are) and read the whole answer, opening the connection if need be."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        if headers is None:
            headers = {"mcp-protocol-version": HANDSHAKE}
        if self.session is not None:
            headers = {"mcp-session-id": self.session, **headers}
        fields = {
            "host": f"{self.host}:{self.port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(len(body)),
            **headers,
        }
        self._conversation.asks(message)
        async with asyncio.timeout(self.timeout_s):
            answer = await self._exchange(method, path or self.path, fields, body)
        if path is None:
            for each in answer.messages:
                self._conversation.hears(each)
        return answer

    async def aclose(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
            self._connection = h11.Connection(h11.CLIENT)
        assert self._reader is not None
        connection = self._connection
        request = h11.Request(method=method, target=path, headers=list(headers.items()))
        parts = [request, h11.Data(data=body), h11.EndOfMessage()]
        self._writer.write(b"".join(connection.send(part) or b"" for part in parts))
        status, fields, received = 0, {}, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await self._reader.read(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                fields = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                received += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError(f"closed after status {status} and {len(received)} octets")
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        else:
            await self.aclose()
        return Answer(status, fields, received, _messages(fields, received))


def _messages(headers: dict[str, str], body: bytes) -> list[dict[str, Any]]:
    kind = headers.get("content-type", "")
    if kind.startswith("application/json") and body:
        return [json.loads(body)]
    if kind.startswith("text/event-stream"):
        events = body.decode().replace("\r\n", "\n").split("\n\n")
        data = ["".join(line[5:].strip() for line in event.split("\n") if line.startswith("data:")) for event in events]
        return [json.loads(each) for each in data if each]
    return []
