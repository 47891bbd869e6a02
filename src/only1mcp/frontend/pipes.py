"""Standard input and output as an event loop needs them, by a thread each: files, terminals and pipes are all alike.

Event loops take pipes only, on Windows only special ones, and would change the mode of what we share with our parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

CHUNK_BYTES: Final = 64 * 1024
# `drain` waits while more than this is not written.
WRITE_BUFFER_BYTES: Final = 64 * 1024


class PipeReader:
    """Reads a file descriptor, a chunk ahead at most."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Semaphore(0)
        self._waiter: asyncio.Future[bytes] | None = None
        self._thread: threading.Thread | None = None

    async def read(self) -> bytes:
        """Return what comes next, b"" at the end of the input."""
        if self._thread is None:
            # Nothing wakes a thread that reads: it must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="only1mcp-stdin", daemon=True)
            self._thread.start()
        self._waiter = self._loop.create_future()
        self._wanted.release()
        return await self._waiter

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            try:
                data = os.read(self._fd, CHUNK_BYTES)
            except OSError:  # as good as its end
                data = b""
            if not _tell(self._loop, self._received, data) or not data:
                return

    def _received(self, data: bytes) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(data)


class PipeWriter:
    """Writes messages to a file descriptor, one a line. `on_broken` is called when nobody reads any more."""

    def __init__(self, fd: int, on_broken: Callable[[], None]) -> None:
        self._fd = fd
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._unsent = 0
        self._broken = False
        self._closing = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._thread = threading.Thread(target=self._run, name="only1mcp-stdout", daemon=True)
        self._thread.start()

    @property
    def unsent_bytes(self) -> int:
        return self._unsent

    def send(self, message: bytes) -> None:
        """Send a message as one line: line ends between its tokens become blanks."""
        if b"\n" in message or b"\r" in message:
            message = message.replace(b"\r", b" ").replace(b"\n", b" ")
        with self._changed:
            if self._broken or self._closing:
                return
            self._lines += (message, b"\n")
            self._unsent += len(message) + 1
            self._changed.notify()

    async def drain(self) -> None:
        """Wait while much is not written."""
        await self._until(WRITE_BUFFER_BYTES)

    async def aclose(self, timeout_s: float) -> None:
        """Write what was sent, as far as that is possible in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._until(0)
        with self._changed:
            self._closing = True
            self._changed.notify()

    async def _until(self, most: int) -> None:
        while self._unsent > most and not self._broken:
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    if self._closing:
                        return
                    self._changed.wait()
                data = b"".join(self._lines)
                self._lines.clear()
            try:
                self._write(data)
            except OSError:
                with self._changed:
                    self._broken = True
                    self._lines.clear()
                    self._unsent = 0
                _tell(self._loop, self._on_broken)
                _tell(self._loop, self._wake)
                return

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._fd, rest[:CHUNK_BYTES])
            rest = rest[written:]
            with self._changed:
                self._unsent -= written
            _tell(self._loop, self._wake)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., Any], *arguments: Any) -> bool:
    """Call back from a thread; False when the loop is over."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return False
    return True
