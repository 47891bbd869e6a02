"""Calls from many sessions at once: `python -m benches.peers.load SUBJECT CONNECTIONS SECONDS`, SUBJECT a JSON file.

Opens a session for every connection, prints `ready`, and waits for a line before it begins, so that the caller can look
at the clocks. Then each connection sends its next call when the answer to the last one is whole and right. Prints one
line of JSON and ends when its input does.
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
from benches.peers.client import Session, Subject, opened

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
CALLS = 500


class Run:
    """What all connections share: the deadline and what was counted."""

    def __init__(self, octets: int) -> None:
        self.text = b"x" * octets
        self.ends = 0.0
        self.latencies: list[float] = []
        self.failed = 0
        self.reason = ""

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.reason = self.reason or reason


class Calls:
    """One session's calls over one connection, and their answers."""

    def __init__(self, run: Run, session: Session) -> None:
        self.run = run
        self.session = session
        self.requests = itertools.cycle([session.call(id) for id in range(100, 100 + CALLS)])
        self.finished = asyncio.get_running_loop().create_future()
        self.waiting = False
        self.sent = 0.0
        self.transport: asyncio.Transport | None = None

    async def start(self) -> None:
        await self._connect()
        self.next()

    async def _connect(self) -> None:
        host, _, port = self.session.subject.url.split("/")[2].partition(":")
        await asyncio.get_running_loop().create_connection(lambda: Post(self), host, int(port))

    def next(self) -> None:
        if time.perf_counter() >= self.run.ends:
            self.finish()
            return
        assert self.transport is not None
        self.waiting, self.sent = True, time.perf_counter()
        self.transport.write(next(self.requests))

    def answered(self, answer: bytes) -> None:
        if not self.waiting:
            return
        self.waiting = False
        if self.run.text in answer:
            self.run.latencies.append(time.perf_counter() - self.sent)
        else:
            self.run.fail(answer[:300].decode(errors="replace"))
        self.next()

    def lost(self) -> None:
        """The gateway has closed the connection: fine between two calls, if a new one can be had."""
        if self.finished.done():
            return
        if self.waiting:
            self.run.fail("the connection was closed instead of an answer")
            self.finish()
            return
        task = asyncio.ensure_future(self.start())
        task.add_done_callback(lambda done: self.finish() if done.exception() else None)

    def finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    async def listen(self) -> None:
        """Take the answers of a session of HTTP+SSE from its stream."""
        assert self.session.stream is not None
        reader, _ = self.session.stream
        while line := await reader.readline():
            if line.startswith(b"data:") and b'"id"' in line:
                self.answered(line)
        self.run.fail("the stream has ended")
        self.finish()


class Post(asyncio.Protocol):
    """The connection that calls are posted on."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.buffer = b""
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.calls.transport = self.transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            size = self._size(end)
            if size is None:
                return
            answer, self.buffer = self.buffer[:size], self.buffer[size:]
            on_stream = self.calls.session.stream is not None
            if not on_stream:
                self.calls.answered(answer)
            elif not re.match(rb"HTTP/1.1 20[02]", answer):
                self.calls.answered(answer)  # a refusal is all that comes

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.lost()

    def _size(self, end: int) -> int | None:
        """Return how long the response at the front of the buffer is, or None when it is not all there."""
        length = CONTENT_LENGTH.search(self.buffer, 0, end + 2)
        if length is not None:
            size = end + 4 + int(length.group(1))
            return size if len(self.buffer) >= size else None
        if CHUNKED.search(self.buffer, 0, end + 2):
            last = self.buffer.find(b"\r\n0\r\n\r\n", end)
            return None if last < 0 else last + 7
        return end + 4


async def main(subject: Subject, connections: int, seconds: float) -> None:
    sessions = [await opened(subject) for _ in range(connections)]
    run = Run(subject.octets)
    calls = [Calls(run, session) for session in sessions]
    listeners = [asyncio.ensure_future(each.listen()) for each in calls if each.session.stream is not None]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    run.ends = began + seconds
    await asyncio.gather(*(each.start() for each in calls))
    # An answer that takes this much longer is none.
    _, late = await asyncio.wait([each.finished for each in calls], timeout=seconds + 20)
    for _ in late:
        run.fail("no answer")
    elapsed_s = time.perf_counter() - began
    latencies = sorted(run.latencies) or [0.0]
    report = {
        "requests": len(run.latencies),
        "seconds": elapsed_s,
        "failed": run.failed,
        "reason": run.reason,
        "p50_us": round(latencies[len(latencies) // 2] * 1e6),
        "p99_us": round(latencies[len(latencies) * 99 // 100] * 1e6),
    }
    print(json.dumps(report), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    await asyncio.gather(*(ended(session) for session in sessions), return_exceptions=True)


async def ended(session: Session) -> None:
    """End a session, so that its gateway need not keep it, nor a child for it."""
    if session.stream is not None:
        session.stream[1].close()
    elif "mcp-session-id" in session.headers:
        host, _, port = session.subject.url.split("/")[2].partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        fields = "".join(f"{name}: {value}\r\n" for name, value in session.headers.items())
        writer.write(f"DELETE {session.path} HTTP/1.1\r\nHost: {host}:{port}\r\n{fields}\r\n".encode())
        await writer.drain()
        writer.close()


if __name__ == "__main__":
    uvloop.run(main(Subject(**json.loads(Path(sys.argv[1]).read_text())), int(sys.argv[2]), float(sys.argv[3])))
