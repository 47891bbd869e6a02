"""What waits to be written to a child: whole lines, bounded, without copies; sans-I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

# Lines that wait behind the one being written. A child that reads nothing stops here, not at our memory.
WAITING_LIMIT_BYTES: Final = 1 << 20
# Enough for one write: an empty Linux pipe takes this much.
WRITE_BYTES: Final = 64 * 1024
# Two parts a line; systems take 1024 (IOV_MAX).
MAX_PARTS: Final = 512


class Line:
    """One message on its way out; the newline that ends it is not part of `message`. `sent` counts both."""

    __slots__ = ("message", "sent", "size")

    def __init__(self, message: bytes, sent: int = 0) -> None:
        self.message = message
        self.sent = sent
        self.size = len(message) + 1


class Outbox:
    """A queue of lines. The first may have any length, the others share `limit_bytes`."""

    def __init__(self, limit_bytes: int = WAITING_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._lines: deque[Line] = deque()
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the lines behind the first."""
        return self._waiting

    def maybe_add(self, line: Line) -> bool:
        """Queue the line; False when it would pass the limit."""
        if self._lines:
            if self._waiting + line.size > self._limit:
                return False
            self._waiting += line.size
        self._lines.append(line)
        return True

    def withdraw(self, line: Line) -> bool:
        """Take the line back; False when a part of it has left already, or all of it."""
        if line.sent or line not in self._lines:
            return False
        if line is not self._lines[0]:
            self._waiting -= line.size
            self._lines.remove(line)
        else:
            self._pop()
        return True

    def fills_a_write(self) -> bool:
        """Return whether as much waits as one write may take."""
        return self._waiting >= WRITE_BYTES or (bool(self._lines) and self._lines[0].size >= WRITE_BYTES)

    def data_to_send(self) -> Sequence[bytes | memoryview]:
        """Return the parts of one write, the rest of the first line ahead; empty when nothing waits."""
        parts: list[bytes | memoryview] = []
        size = 0
        for line in self._lines:
            if not line.sent:
                parts.append(line.message)
            elif line.sent < line.size - 1:
                parts.append(memoryview(line.message)[line.sent :])
            parts.append(b"\n")
            size += line.size - line.sent
            if size >= WRITE_BYTES or len(parts) >= MAX_PARTS:
                break
        return parts

    def wrote(self, count: int) -> None:
        """Note that `count` bytes of `data_to_send` are written."""
        while count:
            line = self._lines[0]
            left = line.size - line.sent
            if count < left:
                line.sent += count
                return
            line.sent = line.size
            count -= left
            self._pop()

    def clear(self) -> None:
        """Forget everything that waits."""
        self._lines.clear()
        self._waiting = 0

    def _pop(self) -> None:
        self._lines.popleft()
        if self._lines:
            self._waiting -= self._lines[0].size


def on_one_line(message: bytes) -> bytes:
    """Return the message without line breaks: JSON has them between its tokens alone, where a space means the same."""
    if b"\n" in message or b"\r" in message:
        return message.replace(b"\r", b" ").replace(b"\n", b" ")
    return message
