"""Where log lines end: a bounded buffer, a thread that empties it, and the file or stream that it writes to."""

from __future__ import annotations

import io
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO

# What a stalled output may hold of memory; beyond it lines are dropped.
PENDING_LIMIT_BYTES = 4 << 20
# Lines of this span are written together: one system call for many, and no thread switch for each.
BATCH_S = 0.02
# How long the end of the process waits for an output that takes nothing.
FLUSH_LIMIT_S = 2.0
# Between attempts on a stream that is full for now.
RETRY_S = 0.02


class Target(ABC):
    """Something that takes bytes; `write` may block, only the sink's thread calls it."""

    name: str

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write all of it or raise OSError."""

    @abstractmethod
    def close(self) -> None:
        """Give up what was opened here; never raises, may be repeated."""


class StreamTarget(Target):
    """Standard output, or what stands for it. Writes to the descriptor: Python's own buffer plays no part."""

    def __init__(self, stream: IO[str]) -> None:
        self.name = getattr(stream, "name", None) or "the console"
        self._stream = stream
        try:
            stream.flush()
            self._fd: int | None = stream.fileno()
        except (io.UnsupportedOperation, AttributeError, OSError, ValueError):
            self._fd = None

    def write(self, data: bytes) -> None:
        if self._fd is None:
            try:
                self._stream.write(data.decode("utf-8", "replace"))
                self._stream.flush()
            except ValueError as error:
                raise BrokenPipeError("the stream is closed") from error
            return
        _write_all(self._fd, data)

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


class FileTarget(Target):
    """A file that is rotated by size (name.1 is the youngest) and followed when somebody else moves it away."""

    def __init__(self, path: Path, limit_bytes: int, backups: int) -> None:
        self.name = str(path)
        self._path = path
        self._limit_bytes = limit_bytes
        self._backups = backups
        self._fd = -1
        self._size = 0
        self._torn = False
        self._open()

    def write(self, data: bytes) -> None:
        self._follow()
        if self._size and self._size + len(data) > self._limit_bytes:
            self._rotate()
        if self._torn:
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        finally:
            self._size += written
            # After an error half a line may stand at the end; the next one begins on a line of its own.
            self._torn = self._torn if not written else data[written - 1 : written] != b"\n"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        # Not readable by everybody: lines name clients and backends. Without O_NONBLOCK a FIFO would stop the start.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        fd = os.open(self._path, flags, 0o640)
        self.close()
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._torn = False

    def _follow(self) -> None:
        try:
            named, ours = os.stat(self._path), os.fstat(self._fd)
            moved = (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino)
            self._size = ours.st_size
        except OSError:
            moved = True
        if moved:
            self._open()

    def _rotate(self) -> None:
        try:
            if self._backups == 0:
                os.ftruncate(self._fd, 0)
                self._size = 0
                return
            for number in range(self._backups - 1, 0, -1):
                older = Path(f"{self._path}.{number}")
                if older.exists():
                    older.replace(f"{self._path}.{number + 1}")
            self._path.replace(f"{self._path}.1")
        except OSError:
            # A file that grows beyond its size is better than lines that are lost.
            return
        self._open()


class Sink:
    """Takes lines from any thread and never blocks or raises; its thread starts with the first line.

    `dropped` counts the lines that were lost; `notice` makes the line that says so once lines can be written again.
    """

    def __init__(
        self, target: Target, *, notice: Callable[[int], bytes], limit_bytes: int = PENDING_LIMIT_BYTES
    ) -> None:
        self._target = target
        self._notice = notice
        self._limit_bytes = limit_bytes

        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._pending_bytes = 0
        self._busy = False
        self._urgent = False
        self._stuck = False
        self._closed = False
        self._thread: threading.Thread | None = None

        self.dropped = 0
        self._told = 0
        self._warned = False
        self._broken = False

    def put(self, line: bytes) -> None:
        """Take one line, its line feed included, or drop it."""
        self._lock.acquire()
        try:
            full = self._pending_bytes + len(line) > self._limit_bytes
            if full or self._closed or self._broken:
                self.dropped += 1
                if full and not self._warned:
                    # From a thread of its own: standard error may be the same stalled pipe.
                    self._start(self._warn_stalled)
                return
            first = not self._lines
            self._lines.append(line)
            self._pending_bytes += len(line)
            if self._thread is None:
                self._thread = self._start(self._run)
            elif first:
                self._changed.notify_all()
        finally:
            self._lock.release()

    def drop(self) -> None:
        """Count a line that could not even be made."""
        with self._lock:
            self.dropped += 1

    def flush(self, limit_s: float = FLUSH_LIMIT_S) -> None:
        """Wait until every line taken so far is written or dropped, but no longer than `limit_s`."""
        if threading.current_thread() is self._thread:
            return
        if self._thread is None:
            if (lines := self._take(wait=False)) is not None:
                self._write(lines)
            return
        with self._lock:
            self._urgent = True
            self._changed.notify_all()
            # Waiting twice for an output that took nothing the first time would double the time that a stop takes.
            limit_s = 0.0 if self._stuck else limit_s
            self._stuck = not self._changed.wait_for(lambda: not self._lines and not self._busy, limit_s)
            self._urgent = False

    def close(self) -> None:
        """Write what is pending, as `flush` does, and end the thread; an output that takes nothing is left behind."""
        self.flush()
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        if self._thread is None:
            self._target.close()
        elif self._thread is not threading.current_thread():
            self._thread.join(0.0 if self._stuck else FLUSH_LIMIT_S)

    def _start(self, work: Callable[[], None]) -> threading.Thread | None:
        thread = threading.Thread(target=work, name="only1mcp-log", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is ending, or the machine has no thread to give: `flush` writes what is pending.
            return None
        return thread

    def _run(self) -> None:
        while (lines := self._take()) is not None:
            self._write(lines)
            with self._lock:
                self._busy = self._stuck = False
                self._changed.notify_all()
        self._target.close()

    def _take(self, *, wait: bool = True) -> list[bytes] | None:
        with self._lock:
            if wait:
                self._changed.wait_for(lambda: self._lines or self._closed)
            if not self._lines:
                return None
            if wait:
                self._changed.wait_for(lambda: self._urgent or self._closed, BATCH_S)
            lines, self._lines = self._lines, []
            self._pending_bytes = 0
            self._busy = wait
            return lines

    def _write(self, lines: list[bytes]) -> None:
        lost = self.dropped - self._told
        try:
            self._target.write((self._notice(lost) if lost else b"") + b"".join(lines))
            self._told += lost
        except OSError as error:
            with self._lock:
                self.dropped += len(lines)
                # Nobody will ever read this pipe again.
                self._broken = self._broken or isinstance(error, BrokenPipeError)
            self._warn(error.strerror or str(error))

    def _warn_stalled(self) -> None:
        self._warn("it is stalled")

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        text = f"only1mcp: {self._target.name} takes no log lines ({reason.lower()}); they are dropped\n"
        try:
            os.write(2, text.encode())
        except OSError:
            pass


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Whoever shares the terminal or pipe made it non-blocking; it is full for now.
            threading.Event().wait(RETRY_S)
