"""The plain-Python twin of counters.pyx: integers in memory that processes may share."""

from __future__ import annotations

from bisect import bisect_left
from mmap import mmap


class Counters:
    """A row of signed 64-bit slots, in memory of its own or in a writable buffer such as a shared mmap.

    One writer a slot: additions are plain, not atomic between processes. Sums wrap around at 64 bits.
    """

    def __init__(self, size: int, buffer: bytearray | memoryview | mmap | None = None) -> None:
        if size < 0:
            raise ValueError(f"size must not be negative, got {size!r}")
        view = memoryview(bytearray(size * 8) if buffer is None else buffer).cast("B")
        if view.readonly:
            raise ValueError("the buffer must be writable")
        if len(view) < size * 8:
            raise ValueError(f"{size} slots need {size * 8} bytes, the buffer has {len(view)}")
        self._slots = view[: size * 8].cast("q")

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, index: int, n: int = 1) -> None:
        """Add `n` to a slot."""
        self.set(index, (self.get(index) + _int64(n) + 2**63) % 2**64 - 2**63)

    def set(self, index: int, value: int) -> None:
        """Set a slot."""
        self._check(index)
        self._slots[index] = _int64(value)

    def get(self, index: int) -> int:
        """Return the value of a slot."""
        self._check(index)
        return self._slots[index]

    def observe(self, base: int, bounds: tuple[int, ...], value_us: int) -> None:
        """Count `value_us` in a histogram laid out from slot `base` on.

        One slot for each upper bound (inclusive, ascending), one for what lies above them all, one for the sum in µs.
        """
        self._check(base)
        self._check(base + len(bounds) + 1)
        self.add(base + len(bounds) + 1, value_us)
        self.add(base + bisect_left(bounds, value_us))

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self._slots):
            raise IndexError(f"slot {index} of {len(self._slots)}")


def _int64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"{value} does not fit a slot of 64 bits")
    return value
