"""Many MCP servers of the stateless era in one cheap process: `python -m tests.scale.server BACKENDS TOOLS`.

Prints `listening ORIGIN` and serves until it is killed. Backend N is at `/N/mcp`. A tool answers with who it is; its
arguments may ask for more: `octets` of text, `sse` to have them on a stream, `hold` for a stream with progress that
goes on only when `/control` says so. What `/control` knows is in `Site.control`.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import random
import re
import sys
from collections.abc import Callable
from typing import Any, cast

import orjson
import uvloop

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HINTS = {"resultType": "complete", "ttlMs": 3_600_000, "cacheScope": "public"}
SCHEMA = {"type": "object", "properties": {"text": {"type": "string", "description": "What to say"}}}
# Every backend offers one of this name, so that all but the first one's have to be told apart.
COMMON = "search"


def tool_names(backend: int, tools: int) -> list[str]:
    return [COMMON, *(f"b{backend}_tool_{number}" for number in range(1, tools))]


@functools.lru_cache(maxsize=8)
def long_text(octets: int) -> bytes:
    """Return so many octets of JSON string content, the same ones every time, some of them escapes."""
    text = base64.b64encode(random.Random(octets).randbytes(octets * 3 // 4 + 3))
    return text.replace(b"/", rb"\/")[: octets - 1].rstrip(b"\\") + b"."


def long_result(octets: int) -> bytes:
    """Return the result of a call that asks for `octets`, byte for byte as the backend spells it."""
    return b'{"resultType":"complete","content":[{"type":"text","text":"%b"}],"x-num":1.10e+2}' % long_text(octets)


def event(message: bytes) -> bytes:
    return b"%x\r\ndata: %b\n\n\r\n" % (len(message) + 8, message)


class Site:
    """Everything that the process serves."""

    def __init__(self, backends: int, tools: int) -> None:
        self.tools = [tool_names(backend, tools) for backend in range(backends)]
        self.listening: dict[int, set[asyncio.Transport]] = {backend: set() for backend in range(backends)}
        self.held: list[tuple[asyncio.Transport, bytes, Any, str]] = []
        self.steps = 0
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def hold(self, transport: asyncio.Transport, id: bytes, token: Any, text: str) -> None:
        """Keep the stream of a call open; `text` will be its answer."""
        self.held.append((transport, id, token, text))
        self._progress(transport, token, 0)
        for number, tell in self.waiting:
            if len(self.held) == number:
                tell()

    def control(self, words: list[str], tell: Callable[[], None]) -> None:
        """Do what the path says, and call `tell` when it is done.

        `held/N`: wait until N streams are open. `step`: one more progress on each. `finish`: answer them all.
        `change/BACKEND`: its last tool is replaced by another one, and those who listen are told.
        """
        match words:
            case ["held", number]:
                if len(self.held) >= int(number):
                    tell()
                else:
                    self.waiting.append((int(number), tell))
                return
            case ["step"]:
                self.steps += 1
                for transport, _, token, _ in self.held:
                    self._progress(transport, token, self.steps)
            case ["finish"]:
                for transport, id, _, text in self.held:
                    transport.write(event(answer(id, saying(text))) + b"0\r\n\r\n")
                self.held.clear()
            case ["change", number]:
                backend = int(number)
                self.tools[backend][-1] = f"b{backend}_new"
                for transport in self.listening[backend]:
                    transport.write(event(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'))
        tell()

    @staticmethod
    def _progress(transport: asyncio.Transport, token: Any, number: int) -> None:
        params = {"progressToken": token, "progress": number, "message": "x" * 60}
        message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        transport.write(event(orjson.dumps(message)))


class Connection(asyncio.Protocol):
    """One connection; requests are answered as soon as they are whole."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.buffer = b""
        self.listens: set[asyncio.Transport] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.listens is not None:
            self.listens.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = CONTENT_LENGTH.search(buffer, 0, end + 2)
            stop = end + 4 + (int(length.group(1)) if length else 0)
            if len(buffer) < stop:
                break
            verb, target, _ = buffer[: buffer.index(b"\r\n")].split(b" ")
            self._serve(verb, target.decode().strip("/").split("/"), buffer[end + 4 : stop])
            buffer = buffer[stop:]
        self.buffer = buffer

    def _serve(self, verb: bytes, path: list[str], body: bytes) -> None:
        if path[0] == "control":
            self.site.control(path[1:], lambda: self.transport.write(JSON_HEAD % 2 + b"{}"))
        elif verb != b"POST":
            self.transport.write(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n")
        else:
            message = orjson.loads(body)
            if "id" not in message:
                self.transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            elif message["method"] == "tools/call":
                self._call(int(path[0]), orjson.dumps(message["id"]), message["params"])
            else:
                self._describe(int(path[0]), orjson.dumps(message["id"]), message["method"])

    def _call(self, backend: int, id: bytes, params: dict[str, Any]) -> None:
        arguments, name = params.get("arguments", {}), params["name"]
        if name not in self.site.tools[backend]:
            error = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32602,"message":"no such tool"}}'
            self._json(error % id)
        elif "hold" in arguments:
            self.transport.write(SSE_HEAD)
            self.site.hold(self.transport, id, params["_meta"].get("progressToken"), arguments["hold"])
        elif "octets" not in arguments:
            self._json(answer(id, saying(f"{backend}/{name}/{arguments.get('text', '')}")))
        elif arguments.get("sse"):
            said = answer(id, long_result(arguments["octets"]))
            hello = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":1}}'
            hello %= orjson.dumps(params["_meta"].get("progressToken"))
            self.transport.write(SSE_HEAD + event(hello) + event(said) + b"0\r\n\r\n")
        else:
            self._json(answer(id, long_result(arguments["octets"])))

    def _describe(self, backend: int, id: bytes, method: str) -> None:
        if method == "subscriptions/listen":
            self.listens = self.site.listening[backend]
            self.listens.add(self.transport)
            self.transport.write(SSE_HEAD)
        elif method == "server/discover":
            info = {"io.modelcontextprotocol/serverInfo": {"name": f"scale {backend}", "version": "1"}}
            capabilities = {"tools": {"listChanged": True}}
            known = {"supportedVersions": ["2026-07-28"], "capabilities": capabilities, "_meta": info, **HINTS}
            self._json(answer(id, orjson.dumps(known)))
        elif method == "tools/list":
            tools = [
                {
                    "name": name,
                    "description": f"{name} of backend {backend}, says who it is",
                    "inputSchema": SCHEMA,
                }
                for name in self.site.tools[backend]
            ]
            self._json(answer(id, orjson.dumps({"tools": tools, **HINTS})))
        else:
            self._json(b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32601,"message":"method not found"}}' % id)

    def _json(self, body: bytes) -> None:
        self.transport.write(JSON_HEAD % len(body) + body)


def saying(text: str) -> bytes:
    return orjson.dumps({"resultType": "complete", "content": [{"type": "text", "text": text}]})


def answer(id: bytes, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, result)


async def serve(backends: int, tools: int) -> None:
    site = Site(backends, tools)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(site), "127.0.0.1", 0, backlog=2048)
    print(f"listening http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
