"""The plain-Python twin of counters.pyx: integers in memory that processes may share."""

from __future__ import annotations

from bisect import bisect_left
from mmap import mmap
from typing import Final

_MAX_BOUNDS: Final = 30


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


class Histogram:
    """A histogram in the slots of `counters` from `base` on, laid out as by `Counters.observe`; durations in seconds.

    At most 30 bounds. What is below zero, or no number, counts as zero.
    """

    def __init__(self, counters: Counters, base: int, bounds_us: tuple[int, ...]) -> None:
        if len(bounds_us) > _MAX_BOUNDS:
            raise ValueError(f"expected at most {_MAX_BOUNDS} bounds, got {len(bounds_us)}")
        for slot in (base, base + len(bounds_us) + 1):
            counters.get(slot)
        self._counters = counters
        self._base = base
        self._bounds_us = bounds_us

    def observe(self, duration_s: float) -> None:
        """Count one duration."""
        duration_us = duration_s * 1e6
        value_us = (int(duration_us) if duration_us < 2.0**63 else 2**63 - 1) if duration_us > 0 else 0
        self._counters.observe(self._base, self._bounds_us, value_us)

    def count(self, slot: int, duration_s: float) -> None:
        """Add one to a slot of the same counters, and count a duration."""
        self._counters.add(slot)
        self.observe(duration_s)


def _int64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"{value} does not fit a slot of 64 bits")
    return value
