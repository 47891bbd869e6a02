"""A tiny MCP server over HTTP, as cheap as an asyncio protocol can be, that both proxies forward to.

It answers every call of its one tool with the same text and keeps connections open. Run as
`python -m benches.loopback.backend OCTETS stateless|handshake` it prints `listening URL` and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import orjson
import uvloop

TOOL = "work"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
STATELESS_MARK = b'"io.modelcontextprotocol/protocolVersion"'
LISTS = {
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
INFO = {"name": "loopback", "version": "1"}


class Backend(asyncio.Protocol):
    """One connection; requests are answered as soon as they are whole."""

    def __init__(self, result: bytes, era: str) -> None:
        self.result = result
        self.unserved = "initialize" if era == "stateless" else "server/discover"
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = CONTENT_LENGTH.search(buffer, 0, end + 2)
            stop = end + 4 + (int(length.group(1)) if length else 0)
            if len(buffer) < stop:
                break
            self.transport.write(self._answer(buffer[: buffer.index(b" ")], buffer[end + 4 : stop]))
            buffer = buffer[stop:]
        self.buffer = buffer

    def _answer(self, verb: bytes, body: bytes) -> bytes:
        if verb != b"POST":
            return b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"
        message = orjson.loads(body)
        if "id" not in message:
            return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        is_stateless = STATELESS_MARK in body
        if message["method"] == "tools/call":
            payload = self.result
        else:
            method = message["method"]
            result = None if method == self.unserved else describe(method, message.get("params") or {})
            payload = (
                b'"error":{"code":-32601,"message":"method not found"}}'
                if result is None
                else b'"result":' + orjson.dumps(result) + b"}"
            )
        if is_stateless:
            payload = payload.replace(b'"result":{', b'"result":{"resultType":"complete",', 1)
        answer = b'{"jsonrpc":"2.0","id":' + orjson.dumps(message["id"]) + b"," + payload
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
        ) + answer


def describe(method: str, params: dict[str, object]) -> dict[str, object] | None:
    """Return the result of everything that is not a call; None for what this server does not have."""
    cached = {"ttlMs": 3_600_000, "cacheScope": "public"}
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion"),
            "capabilities": {"tools": {}},
            "serverInfo": INFO,
        }
    if method == "server/discover":
        meta = {"io.modelcontextprotocol/serverInfo": INFO}
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": meta, **cached}
    if method == "tools/list":
        return {"tools": [{"name": TOOL, "description": "Answers at once", "inputSchema": SCHEMA}], **cached}
    if method in LISTS:
        return {LISTS[method]: [], **cached}
    return {} if method == "ping" else None


async def serve(octets: int, era: str) -> None:
    result = b'"result":' + orjson.dumps({"content": [{"type": "text", "text": "x" * octets}]}) + b"}"
    server = await asyncio.get_running_loop().create_server(lambda: Backend(result, era), "127.0.0.1", 0)
    print(f"listening http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
