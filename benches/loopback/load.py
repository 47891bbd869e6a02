"""The load generator for machines without wrk: the same calls and the same line of JSON, from one asyncio process.

`python -m benches.loopback.load HOST PORT CONNECTIONS SECONDS FILE STATUS EVERY FRAGMENT`; the last four are those of
load.lua.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass
class Load:
    """What all connections share: what to send, what to expect, what was counted."""

    requests: Iterator[bytes]
    status_line: bytes
    every: int
    fragment: bytes
    deadline: float
    latencies: list[float] = field(default_factory=list)
    octets: int = 0
    failed: int = 0


class Caller(asyncio.Protocol):
    """One connection that sends the next call when the answer to the last one is whole."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = bytearray()
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self._is_whole():
            return
        load = self.load
        load.latencies.append(time.perf_counter() - self.sent)
        load.octets += len(self.buffer)
        is_sampled = load.every > 0 and len(load.latencies) % load.every == 0
        is_right = self.buffer.startswith(load.status_line) and (not is_sampled or load.fragment in self.buffer)
        load.failed += not is_right
        self.buffer.clear()
        if time.perf_counter() >= load.deadline:
            self.transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.failed += time.perf_counter() < self.load.deadline
        if not self.finished.done():
            self.finished.set_result(None)

    def _is_whole(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = CONTENT_LENGTH.search(self.buffer, 0, end + 2)
        if length is not None:
            return len(self.buffer) >= end + 4 + int(length.group(1))
        return CHUNKED.search(self.buffer, 0, end + 2) is not None and self.buffer.endswith(LAST_CHUNK)

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(next(self.load.requests))


def read_requests(file: Path) -> list[bytes]:
    """Return the requests of a file that `calls.prepare` has written."""
    data = file.read_bytes()
    requests, start = [], 0
    while start < len(data):
        end = data.index(b"\n", start)
        stop = end + 1 + int(data[start:end])
        requests.append(data[end + 1 : stop])
        start = stop
    return requests


async def main(
    host: str, port: str, connections: str, seconds: str, file: str, status: str, every: str, fragment: str
) -> None:
    began = time.perf_counter()
    load = Load(
        itertools.cycle(read_requests(Path(file))),
        f"HTTP/1.1 {status} ".encode(),
        int(every),
        fragment.encode(),
        began + float(seconds),
    )
    loop = asyncio.get_running_loop()
    callers = []
    for _ in range(int(connections)):
        made = await loop.create_connection(lambda: Caller(load), host, int(port))
        callers.append(made[1])
    await asyncio.wait_for(asyncio.gather(*(caller.finished for caller in callers)), float(seconds) + 30)
    latencies = sorted(load.latencies)
    report = {
        "requests": len(latencies),
        "seconds": time.perf_counter() - began,
        "failed": load.failed,
        "octets": load.octets,
        **{
            f"p{name}_us": round(latencies[len(latencies) * permille // 1000] * 1e6)
            for name, permille in (("50", 500), ("99", 990), ("999", 999))
        },
    }
    print(json.dumps(report))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
