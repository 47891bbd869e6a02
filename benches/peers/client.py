"""An MCP client of the handshake era that opens sessions, checks one answer, and prepares calls for the load.

Gateways answer on the response, as JSON or as a stream, or on the one stream of the session (HTTP+SSE of 2024-11-05).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from benches.loopback.backend import tool_names
from tests.e2e.wire_client import HANDSHAKE, WireClient

TIMEOUT_S = 30.0
(TOOL,) = tool_names(0, 1)
ARGUMENT = "what a model might ask for, in about a hundred characters, so that the call has a body worth the name"
INTRODUCTION = {"capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class WrongAnswer(Exception):
    """A call was answered, and wrongly: there is no use in waiting for better."""


@dataclass(frozen=True)
class Subject:
    """A gateway as its clients see it."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    transport: str = "http"
    octets: int = 256


@dataclass
class Session:
    """An open session: what goes with every request, and for HTTP+SSE the stream that answers come on."""

    subject: Subject
    path: str
    headers: dict[str, str]
    tool: str
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def call(self, id: int) -> bytes:
        """Return a whole request of the benchmark's tool."""
        params = {"name": self.tool, "arguments": {"text": ARGUMENT}}
        body = json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
        head = [f"POST {self.path} HTTP/1.1", f"Host: {urlsplit(self.subject.url).netloc}"]
        head += [f"{name}: {value}" for name, value in {**common(), **self.headers}.items()]
        return ("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]) + body).encode()


def common() -> dict[str, str]:
    return {"content-type": "application/json", "accept": "application/json, text/event-stream"}


async def opened(subject: Subject) -> Session:
    """Open a session, find the tool and check its answers.

    Raise `WrongAnswer` for one that is wrong, AssertionError for what may still change while a gateway starts.
    """
    async with asyncio.timeout(TIMEOUT_S):
        return await (_over_sse(subject) if subject.transport == "sse" else _over_http(subject))


def checked(response: dict[str, Any], id: int, octets: int) -> None:
    content = response.get("result", {}).get("content")
    if response.get("id") != id or content != [{"type": "text", "text": "x" * octets}]:
        raise WrongAnswer(f"to request {id}: {str(response)[:300]}")


def the_tool(response: dict[str, Any]) -> str:
    """Return the name under which the gateway offers the benchmark's tool; some put something before it."""
    names: list[str] = [tool["name"] for tool in response["result"]["tools"]]
    found = [name for name in names if name.replace("_", "-").endswith(TOOL.replace("_", "-"))]
    assert len(found) == 1, f"the tool is not offered, but {names[:5]}"
    return found[0]


async def _over_http(subject: Subject) -> Session:
    client = WireClient(subject.url, HANDSHAKE, timeout_s=TIMEOUT_S)
    path = urlsplit(subject.url).path
    headers = dict(subject.headers)

    async def ask(id: int, method: str, **params: Any) -> dict[str, Any]:
        answer = await client.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, headers)
        assert answer.status == 200, f"{method}: HTTP {answer.status} {answer.body[:200]!r}"
        if "mcp-session-id" in answer.headers:
            headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        return answer.response

    try:
        hello = await ask(1, "initialize", protocolVersion=HANDSHAKE, **INTRODUCTION)
        headers["mcp-protocol-version"] = hello["result"]["protocolVersion"]
        await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
        tool = the_tool(await ask(2, "tools/list"))
        for id in range(3, 8):
            checked(await ask(id, "tools/call", name=tool, arguments={"text": ARGUMENT}), id, subject.octets)
    finally:
        await client.aclose()
    return Session(subject, path, headers, tool)


async def _over_sse(subject: Subject) -> Session:
    parts = urlsplit(subject.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    where = urljoin(subject.url, (await _event(reader)).strip())
    client = WireClient(where, HANDSHAKE, timeout_s=TIMEOUT_S)
    target = urlsplit(where)
    path = f"{target.path}?{target.query}" if target.query else target.path

    async def tell(message: dict[str, Any]) -> None:
        answer = await client.send({"jsonrpc": "2.0", **message}, dict(subject.headers), path=path)
        assert answer.status in (200, 202), answer

    async def ask(id: int, method: str, **params: Any) -> dict[str, Any]:
        await tell({"id": id, "method": method, "params": params})
        while True:
            message: dict[str, Any] = json.loads(await _event(reader))
            if message.get("id") == id and "method" not in message:
                return message

    try:
        await ask(1, "initialize", protocolVersion="2024-11-05", **INTRODUCTION)
        await tell({"method": "notifications/initialized"})
        tool = the_tool(await ask(2, "tools/list"))
        for id in range(3, 8):
            checked(await ask(id, "tools/call", name=tool, arguments={"text": ARGUMENT}), id, subject.octets)
    finally:
        await client.aclose()
    return Session(subject, path, dict(subject.headers), tool, (reader, writer))


async def _event(reader: asyncio.StreamReader) -> str:
    """Return the data of the next event; what frames the chunks is passed over, they hold whole lines here."""
    while True:
        line = (await reader.readline()).decode()
        assert line, "the stream has ended"
        if line.startswith("data:"):
            return line[5:].strip()
