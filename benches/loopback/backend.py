"""A tiny MCP server over HTTP, as cheap as an asyncio protocol can be, that all proxies forward to.

It answers every call of a tool with the same text and keeps connections open. Run as `python -m
benches.loopback.backend --era stateless|handshake` it prints `listening URL` for each listener and serves until it is
killed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import Any, cast

import orjson
import uvloop

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
STATELESS_MARK = b'"io.modelcontextprotocol/protocolVersion"'
LISTS = {
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
INFO = {"name": "loopback", "version": "1"}


def tool_names(listener: int, count: int) -> list[str]:
    """Return what the tools of one listener are called; no other listener has the same."""
    return [f"work_{listener}_{number}" for number in range(count)]


class Answers:
    """What one server answers, whichever way it is spoken to."""

    def __init__(self, era: str, octets: int, tools: list[str]) -> None:
        self.unserved = "initialize" if era == "stateless" else "server/discover"
        self.tools = [{"name": name, "description": "Answers at once", "inputSchema": SCHEMA} for name in tools]
        self.called = b'"result":' + orjson.dumps({"content": [{"type": "text", "text": "x" * octets}]}) + b"}"

    def maybe_answer(self, body: bytes, message: dict[str, Any]) -> bytes | None:
        """Return the response to a request, None for what wants none."""
        if "id" not in message:
            return None
        method = message["method"]
        if method == "tools/call":
            payload = self.called
        else:
            result = None if method == self.unserved else self._describe(method, message.get("params") or {})
            payload = (
                b'"error":{"code":-32601,"message":"method not found"}}'
                if result is None
                else b'"result":' + orjson.dumps(result) + b"}"
            )
        if STATELESS_MARK in body:
            payload = payload.replace(b'"result":{', b'"result":{"resultType":"complete",', 1)
        return b'{"jsonrpc":"2.0","id":' + orjson.dumps(message["id"]) + b"," + payload

    def _describe(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Return the result of everything that is not a call; None for what this server does not have."""
        cached = {"ttlMs": 300_000, "cacheScope": "public"}
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
            return {"tools": self.tools, **cached}
        if method in LISTS:
            return {LISTS[method]: [], **cached}
        return {} if method == "ping" else None


class Backend(asyncio.Protocol):
    """One connection; requests are answered as soon as they are whole."""

    def __init__(self, answers: Answers, events: int) -> None:
        self.answers = answers
        self.events = events
        self.loop = asyncio.get_running_loop()
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
            self._serve(buffer[: buffer.index(b" ")], buffer[end + 4 : stop])
            buffer = buffer[stop:]
        self.buffer = buffer

    def _serve(self, verb: bytes, body: bytes) -> None:
        if verb != b"POST":
            self.transport.write(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n")
            return
        message = orjson.loads(body)
        answer = self.answers.maybe_answer(body, message)
        if answer is None:
            self.transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        elif self.events and message["method"] == "tools/call":
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            self._stream(orjson.dumps(message["params"]["_meta"]["progressToken"]), 0, answer)
        else:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
                + answer
            )

    def _stream(self, token: bytes, number: int, answer: bytes) -> None:
        """Send one event, and the next one in the next turn of the loop: each leaves by itself."""
        if self.transport.is_closing():
            return
        if number == self.events - 1:
            self.transport.write(_chunk(b"data: " + answer + b"\n\n") + b"0\r\n\r\n")
            return
        params = b'{"progressToken":%b,"progress":%d,"message":"%b"}' % (token, number, b"x" * 64)
        event = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":' + params + b"}\n\n"
        self.transport.write(_chunk(event))
        self.loop.call_soon(self._stream, token, number + 1, answer)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for listener in range(options.listeners):
        answers = Answers(options.era, options.octets, tool_names(listener, options.tools))
        make = lambda answers=answers: Backend(answers, options.events)  # noqa: E731
        servers.append(await loop.create_server(make, "127.0.0.1", 0, backlog=4096))
    urls = [f"listening http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp\n" for server in servers]
    print("".join(urls) + "all listening", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--era", choices=("stateless", "handshake"), required=True)
    parser.add_argument("--octets", type=int, default=256, help="of text in the result of a call")
    parser.add_argument("--tools", type=int, default=1, help="of each listener")
    parser.add_argument("--events", type=int, default=0, help="answer calls with a stream of so many events")
    parser.add_argument("--listeners", type=int, default=1, help="how many servers to be")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(serve(parse()))
