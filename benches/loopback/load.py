"""The load generator for machines without wrk: the same calls and the same line of JSON, from one asyncio process.

`python -m benches.loopback.load FILE HOST PORT PATH CONNECTIONS SECONDS`; the file is the one that load.lua reads.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """One connection that sends the next call when the answer to the last one is whole."""

    def __init__(self, requests: itertools.cycle[bytes], latencies: list[float], deadline: float) -> None:
        self.requests, self.latencies, self.deadline = requests, latencies, deadline
        self.buffer = b""
        self.failed = 0
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = CONTENT_LENGTH.search(self.buffer, 0, end + 2)
        if length is None or len(self.buffer) < end + 4 + int(length.group(1)):
            return
        self.failed += not self.buffer.startswith(b"HTTP/1.1 200")
        self.latencies.append(time.perf_counter() - self.sent)
        self.buffer = b""
        if time.perf_counter() >= self.deadline:
            self.transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += time.perf_counter() < self.deadline
        if not self.finished.done():
            self.finished.set_result(None)

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(next(self.requests))


async def main(text: str, host: str, port: str, path: str, connections: str, seconds: str) -> None:
    head, _, bodies = text.partition("\n\n")
    start = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n" + head.replace("\n", "\r\n")
    calls = [f"{start}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies.splitlines()]
    requests, latencies = itertools.cycle(calls), []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    callers = []
    for _ in range(int(connections)):
        made = await loop.create_connection(
            lambda: Caller(requests, latencies, began + float(seconds)), host, int(port)
        )
        callers.append(made[1])
    await asyncio.wait_for(asyncio.gather(*(caller.finished for caller in callers)), float(seconds) + 30)
    elapsed = time.perf_counter() - began
    latencies.sort()
    report = {
        "requests": len(latencies),
        "seconds": elapsed,
        "failed": sum(caller.failed for caller in callers),
        "p50_us": round(latencies[len(latencies) // 2] * 1e6),
        "p99_us": round(latencies[len(latencies) * 99 // 100] * 1e6),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]).read_text(), *sys.argv[2:]))
