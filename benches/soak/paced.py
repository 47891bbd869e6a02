"""Load at a fixed rate: `python -m benches.soak.paced URL RATE CONNECTIONS SECONDS INTERVAL`; rate 0 is all that goes.

A request is due at its time whether or not the ones before it are answered, and its latency counts from then on, so
that a proxy that stands still is not spared the requests that it holds up. The mix is what clients send: calls in both
eras, lists, answers with progress on a stream, mistakes; connections come and go. Prints one line of JSON every
INTERVAL seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop
from tests.e2e.wire_client import HANDSHAKE, WireClient
from tests.mcp_caller import Caller as Writer
from tests.mcp_caller import request, stateless

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"
TICK_S = 0.001
# A connection is closed and opened anew after so many requests.
REQUESTS_PER_CONNECTION = 2000
# Of a hundred requests. What is refused keeps its connection.
MIX = {"call": 60, "handshake call": 20, "list": 5, "stream": 10, "mistake": 5}
TEXT = "what a model might ask for, in about a hundred characters, so that the call has a body worth the name"
QUANTILES = {"p50_us": 50, "p99_us": 99}

Request = tuple[bytes, int]


def mixed(port: int, session: str, tool: str) -> list[Request]:
    """Return a hundred requests, evenly mixed, with the status that each must get."""
    writer = Writer(port)
    arguments = {"text": TEXT}
    streamed = {"octets": 1000, "sse": True}
    in_session = {"mcp-session-id": session, "mcp-protocol-version": HANDSHAKE}

    def encoded(message: dict[str, Any], fields: Any) -> bytes:
        return writer.http(json.dumps(message).encode(), fields)

    call = encoded(*stateless("tools/call", name=tool, arguments=arguments))
    kinds: dict[str, Request] = {
        "call": (call, 200),
        "handshake call": (encoded(request("tools/call", name=tool, arguments=arguments), in_session), 200),
        "list": (encoded(*stateless("tools/list")), 200),
        "stream": (
            encoded(*stateless("tools/call", name=tool, arguments=streamed, meta={"progressToken": "p"})),
            200,
        ),
        "mistake": (call[:-1] + b"]", 400),
    }
    places = [((turn + 0.5) / share, kind) for kind, share in MIX.items() for turn in range(share)]
    return [kinds[kind] for _, kind in sorted(places)]


class Load:
    """Everything that is due, the connections that are free, and what was counted since the last report."""

    def __init__(self, host: str, port: int, rate: float, requests: Iterator[Request]) -> None:
        self.host, self.port, self.rate = host, port, rate
        self.requests = requests
        self.due: deque[float] = deque()
        self.free: deque[Caller] = deque()
        self.latencies: list[float] = []
        self.failed = 0
        self.unsent = 0
        self.ended = False
        self.connecting: set[asyncio.Task[None]] = set()

    def connect(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Caller(self), self.host, self.port)

    def dispatch(self) -> None:
        """Send what is due on the connections that are free; without a rate something always is."""
        now = time.perf_counter()
        while self.free and (self.due or not self.rate) and not self.ended:
            self.free.popleft().send(self.due.popleft() if self.rate else now, next(self.requests))

    async def run(self, seconds: float, interval_s: float) -> None:
        began = reported = time.perf_counter()
        sent = 0
        while (now := time.perf_counter()) < began + seconds:
            due = int((now - began) * self.rate)
            self.due.extend(began + number / self.rate for number in range(sent, due))
            sent = max(sent, due)
            self.dispatch()
            if now - reported >= interval_s:
                self._report(now - began, now - reported)
                reported = now
            await asyncio.sleep(TICK_S if self.rate else 0.02)
        self.ended = True
        # What could not be sent in time was not served either, be it the proxy that is slow or this machine.
        self.unsent = len(self.due)
        self._report(time.perf_counter() - began, time.perf_counter() - reported)

    def _report(self, at_s: float, over_s: float) -> None:
        latencies, self.latencies = sorted(self.latencies), []
        failed, self.failed = self.failed, 0
        count = len(latencies)
        quantiles = {name: latencies[count * part // 100] * 1e6 if count else 0.0 for name, part in QUANTILES.items()}
        counts = {"at_s": at_s, "seconds": over_s, "requests": count, "failed": failed, "unsent": self.unsent}
        print(json.dumps(counts | quantiles), flush=True)


class Caller(asyncio.Protocol):
    """One connection, with one request on it at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.left = REQUESTS_PER_CONNECTION
        self.status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.load.free.append(self)

    def send(self, due: float, request: Request) -> None:
        self.due, self.status = due, request[1]
        self.transport.write(request[0])

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or not self._is_whole(end):
            return
        load = self.load
        load.latencies.append(time.perf_counter() - self.due)
        load.failed += not self.buffer.startswith(b"HTTP/1.1 %d" % self.status)
        self.buffer, self.status = b"", 0
        self.left -= 1
        if not self.left:
            self.transport.close()
            return
        load.free.append(self)
        if load.due or not load.rate:
            load.dispatch()

    def connection_lost(self, exc: Exception | None) -> None:
        # One that ends in the middle has failed, or has lost its place among the free ones.
        self.load.failed += bool(self.status and not self.load.ended)
        if self in self.load.free:
            self.load.free.remove(self)
        if not self.load.ended:
            self.load.connect()

    def _is_whole(self, end: int) -> bool:
        length = CONTENT_LENGTH.search(self.buffer, 0, end + 2)
        if length is None:
            return self.buffer.endswith(LAST_CHUNK)
        return len(self.buffer) >= end + 4 + int(length.group(1))


async def main(url: str, rate: str, connections: str, seconds: str, interval_s: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with WireClient(url) as client:
        tool = str((await client.all("tools/list"))[0]["name"])
    client = WireClient(url, HANDSHAKE)
    await client.__aenter__()  # and never closed: the session is the load's
    assert client.session is not None
    load = Load(parts.hostname, parts.port, float(rate), itertools.cycle(mixed(parts.port, client.session, tool)))
    for _ in range(int(connections)):
        load.connect()
    await load.run(float(seconds), float(interval_s))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
