"""Latencies in buckets whose width grows with the value, so that every percentile is within 0.4 % or 1 µs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

# Buckets are 1 µs wide up to 512 µs, then 256 of them for each doubling.
_BITS: Final = 8
_LARGEST_US: Final = 24 * 3600 * 1_000_000


def bucket_of(microseconds: int) -> int:
    """Return the number of the bucket that holds the value; below 0 counts as 0, above a day as a day."""
    if microseconds < 512:
        return max(0, microseconds)
    if microseconds > _LARGEST_US:
        microseconds = _LARGEST_US
    shift = microseconds.bit_length() - _BITS - 1
    return (shift << _BITS) + (microseconds >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """Return the first value in the bucket and the first above it, in microseconds."""
    if bucket < 512:
        return bucket, bucket + 1
    shift = (bucket >> _BITS) - 1
    low = (bucket - (shift << _BITS)) << shift
    return low, low + (1 << shift)


class Histogram:
    """How often each latency occurred. Memory depends on the spread of the values, not on their number."""

    __slots__ = ("_counts", "count", "max_s", "min_s", "sum_s", "sum_squares")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.sum_s = 0.0
        self.sum_squares = 0.0
        self.min_s = math.inf
        self.max_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one latency."""
        bucket = bucket_of(int(seconds * 1e6))
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self.count += 1
        self.sum_s += seconds
        self.sum_squares += seconds * seconds
        if seconds > self.max_s:
            self.max_s = seconds
        if seconds < self.min_s:
            self.min_s = seconds

    def add(self, other: Histogram) -> None:
        """Count all that `other` has counted."""
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.count += other.count
        self.sum_s += other.sum_s
        self.sum_squares += other.sum_squares
        self.min_s = min(self.min_s, other.min_s)
        self.max_s = max(self.max_s, other.max_s)

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.count if self.count else math.nan

    @property
    def deviation_s(self) -> float:
        """The standard deviation."""
        if not self.count:
            return math.nan
        return math.sqrt(max(0.0, self.sum_squares / self.count - self.mean_s**2))

    def percentile(self, percent: float) -> float:
        """Return the latency, in seconds, that `percent` of all do not exceed; NaN when there are none."""
        return self.percentiles(percent)[0]

    def percentiles(self, *percents: float) -> list[float]:
        """Return the latencies of ascending percentages."""
        if not self.count:
            return [math.nan] * len(percents)
        found: list[float] = []
        seen = 0
        buckets = iter(sorted(self._counts.items()))
        high_us = 0
        for percent in percents:
            # The nearest-rank method, without the error of 99.9 / 100 * 1000 being above 999.
            rank = max(1, math.ceil(round(percent * self.count / 100, 6)))
            while seen < rank:
                bucket, count = next(buckets)
                seen += count
                high_us = bounds_of(bucket)[1]
            found.append(max(self.min_s, min(high_us / 1e6, self.max_s)))
        return found

    def buckets(self) -> Iterator[tuple[float, float, int]]:
        """Yield lower bound, upper bound (seconds) and count of every bucket that is not empty, in order."""
        for bucket, count in sorted(self._counts.items()):
            low, high = bounds_of(bucket)
            yield low / 1e6, high / 1e6, count
