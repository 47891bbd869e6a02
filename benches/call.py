"""What one `tools/call` costs in our own code: the sockets are taken away, client and backend are two objects.

`python -m benches.call [--era handshake] [--full] [--stdio | --list] [--calls N]` prints the CPU time of a call, the
least and the median over many batches: it moves far less with the weather on a machine than a benchmark over sockets
does. `--full` switches on what the row of that name does: a JWT, the rate limit, a renamed tool, the access log.
`--stdio` calls a child process, `--list` asks for `tools/list`, which is answered from memory. It is also what to put
under a profiler (`valgrind --tool=callgrind`, py-spy).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import orjson
import uvloop
from benches.loopback.backend import tool_names
from benches.loopback.scenarios import RENAMED, TOKEN_LIFE_S, UNREFUSING
from benches.loopback.stage import http_server, stdio_server
from tests.e2e.processes import Process
from tests.e2e.wire_client import HANDSHAKE, META, STATELESS

from only1mcp.backend.connection import HttpConnection
from only1mcp.config.load import load
from only1mcp.frontend.repeating import RepeatingConnection
from only1mcp.process import logs
from only1mcp.process.worker import Worker

BATCHES = 100
WARM_UP_CALLS = 2000
ARGUMENT = "what a model might ask for, in about a hundred characters, so that the call has a body worth the name"
CONTENT = {"content": [{"type": "text", "text": "x" * 256}]}
RESULTS = {
    "handshake": b'"result":' + orjson.dumps(CONTENT),
    "stateless": b'"result":' + orjson.dumps({"resultType": "complete", **CONTENT}),
}


class Transport:
    """A transport that remembers what was written last, around a socket on which nothing happens."""

    def __init__(self, sock: socket.socket, protocol: Any) -> None:
        self.written = b""
        self._extra: dict[str, Any] = {"peername": ("127.0.0.1", 5), "socket": sock}
        self._protocol = protocol
        protocol.connection_made(self)

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, name: str) -> Any:
        return self._extra.get(name)

    def set_write_buffer_limits(self, *limits: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._extra["socket"].close()
            asyncio.get_running_loop().call_soon(protocol.connection_lost, None)

    abort = close


class Server:
    """The backend behind a connection on which nothing happens."""

    def __init__(self, endpoint: Any, sock: socket.socket, result: bytes) -> None:
        self._result = result
        self._protocol = HttpConnection()
        self._transport = Transport(sock, self._protocol)
        idle = endpoint.transport._pool._idle
        for connection in idle:
            connection.abort()
        idle[:] = [self._protocol]

    def answer(self) -> None:
        sent = self._transport.written
        body = _answer(sent, sent.index(b"\r\n\r\n"), self._result)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._protocol.data_received(head + body)


class Child:
    """The backend behind pipes that are none: what would be written to them is kept."""

    def __init__(self, endpoint: Any, result: bytes) -> None:
        self._result = result
        self._lane = endpoint.transport._lane
        self._lane.child = self
        self._written = b""

    def write(self, parts: list[bytes]) -> int:
        self._written = b"".join(parts)
        return len(self._written)

    def answer(self) -> None:
        self._lane.flush()  # as the event loop does at the end of its turn
        self._lane.received(_answer(self._written, 0, self._result) + b"\n")


def _answer(sent: bytes, body: int, result: bytes) -> bytes:
    start = sent.index(b'"id":', body) + 5
    return b'{"jsonrpc":"2.0","id":' + sent[start : sent.index(b",", start)] + b"," + result + b"}"


class Pair:
    """A worker between a client and a backend that are both in this process."""

    def __init__(self, worker: Worker, era: str, token: str | None = None) -> None:
        self._worker = worker
        self._token = token
        self._revision = {"handshake": HANDSHAKE, "stateless": STATELESS}[era]
        self._ends = socket.socketpair()
        self._client = RepeatingConnection(worker.listener, asyncio.get_running_loop())  # type: ignore[arg-type]
        self._to_client = Transport(self._ends[0], self._client)
        (endpoint,) = worker.registry.endpoints.values()
        self._result = RESULTS[era]
        self._backend: Server | Child
        if endpoint.config.transport == "stdio":
            self._backend = Child(endpoint, self._result)
            self._ends[1].close()
        else:
            self._backend = Server(endpoint, self._ends[1], self._result)
        (self._tool,) = [item.key for item in worker.pipeline.snapshot.catalog.lists["tools/list"].items]
        self._session = b""
        if era == "handshake":
            params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
            self._client.data_received(self._request("initialize", params))
            found = re.search(rb"mcp-session-id: (\S+)", self._to_client.written)
            assert found is not None, self._to_client.written
            self._session = found.group(1)
        self._list = self._request("tools/list", {})
        self._call = self._request("tools/call", {"name": self._tool, "arguments": {"text": ARGUMENT}})

    def list(self) -> None:
        """Send one request for the list of tools, and check what comes back."""
        self._to_client.written = b""
        self._client.data_received(self._list)
        assert b'"id":7,"result":{"tools":[{' in self._to_client.written, self._to_client.written

    def call(self) -> None:
        """Send one call to the proxy, answer the one it makes, and check what comes back."""
        self._to_client.written = b""
        self._client.data_received(self._call)
        self._backend.answer()
        assert self._to_client.written.endswith(b'"id":7,' + self._result + b"}"), self._to_client.written

    def _request(self, method: str, params: dict[str, Any]) -> bytes:
        port = 0 if self._worker.listener is None else self._worker.listener.port
        fields = [
            b"POST /mcp HTTP/1.1",
            b"host: 127.0.0.1:%d" % port,
            b"content-type: application/json",
            b"accept: application/json, text/event-stream",
        ]
        if self._token is not None:
            fields.append(b"authorization: Bearer " + self._token.encode())
        if method != "initialize":
            fields.append(b"mcp-protocol-version: " + self._revision.encode())
        if self._session:
            fields.append(b"mcp-session-id: " + self._session)
        elif method != "initialize":
            params = params | {"_meta": {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}}}
            fields.append(b"mcp-method: " + method.encode())
            if "name" in params:
                fields.append(b"mcp-name: " + self._tool.encode())
        body = orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        return b"\r\n".join([*fields, b"content-length: %d" % len(body), b"", body])


async def measure(era: str, calls: int, full: bool = False, *, stdio: bool = False, lists: bool = False) -> list[float]:
    """Return the CPU time of a call in microseconds, for each batch."""
    with tempfile.TemporaryDirectory(prefix="only1mcp-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        if stdio:
            server = stdio_server(era)
        else:
            command = [sys.executable, "-m", "benches.loopback.backend", "--era", era]
            backend = stack.enter_context(Process(command, directory / "backend.log"))
            server = http_server(backend.wait_for_line(r"^listening (\S+)$").group(1))
        sections, token = _plain(), None
        if full:
            token = _guard(sections, directory)
            server["tools"] = {"rename": {tool_names(0, 1)[0]: RENAMED}}
        sections["servers"] = [server]
        # JSON is YAML.
        (directory / "only1mcp.yaml").write_bytes(orjson.dumps(sections))
        config = load(directory / "only1mcp.yaml", {}, {}).config
        logs.configure(config.logging)
        worker = Worker(config)
        await worker.start()
        try:
            for endpoint in worker.registry.endpoints.values():
                await endpoint.settled()
            pair = Pair(worker, era, token)
            return _batches(pair.list if lists else pair.call, calls)
        finally:
            gc.unfreeze()
            await worker.stop(0)
            logs.shutdown()


def _plain() -> dict[str, Any]:
    return {
        "version": "1.0",
        "proxy": {"port": 0},
        "auth": {"allow_anonymous": True},
        "metrics": {"enabled": False},
        "logging": {"level": "warning"},
    }


def _guard(sections: dict[str, Any], directory: Path) -> str:
    """Switch on all that operators switch on, and return a token that is taken."""
    secret = secrets.token_hex(32)
    file = directory / "secret"
    file.touch(0o600)
    file.write_text(secret)
    claims = {"sub": "bench", "iat": int(time.time()), "exp": int(time.time()) + TOKEN_LIFE_S}
    sections["auth"] = {"jwt": {"secret_file": str(file)}, "rate_limit": UNREFUSING}
    sections["logging"]["outputs"] = [
        {"type": "stdout"},
        {"type": "access", "path": str(directory / "access.log")},
    ]
    return jwt.encode(claims, secret, algorithm="HS256")


def _batches(call: Callable[[], None], calls: int) -> list[float]:
    for _ in range(WARM_UP_CALLS):
        call()
    gc.collect()
    gc.freeze()
    size = max(1, calls // BATCHES)
    taken = []
    for _ in range(BATCHES):
        began = time.process_time()
        for _ in range(size):
            call()
        taken.append((time.process_time() - began) / size * 1e6)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.call", description=__doc__)
    parser.add_argument("--era", choices=("stateless", "handshake"), default="stateless")
    parser.add_argument("--full", action="store_true", help="with JWT, rate limit, renaming and access log")
    parser.add_argument("--calls", type=int, default=30_000)
    parser.add_argument("--stdio", action="store_true", help="to a child process instead of an HTTP server")
    parser.add_argument("--list", action="store_true", help="the list of tools, from memory, instead of a call")
    options = parser.parse_args()
    taken = uvloop.run(measure(options.era, options.calls, options.full, stdio=options.stdio, lists=options.list))
    kind = ", ".join([options.era, *(name for name in ("full", "stdio", "list") if getattr(options, name))])
    print(f"{kind}: least {min(taken):.1f} µs, median {statistics.median(taken):.1f} µs of CPU a call")


if __name__ == "__main__":
    main()
