"""What happened: latencies, failures and sizes of a run, as a whole, for each operation and over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from only1mcp.loadgen.failure import Failure
from only1mcp.loadgen.histogram import Histogram

# The run over time is kept in this many pieces at most; when there are more, each two become one.
MAX_INTERVALS: Final = 120
FIRST_INTERVAL_S: Final = 0.1
# Distinct failures that are told apart; a hostile target could invent one for every request.
MAX_FAILURES: Final = 50
OTHER: Final = "other"


@dataclass(slots=True)
class Interval:
    """A piece of the run: the answers that came in it, and the longest backlog."""

    latencies: Histogram = field(default_factory=Histogram)
    failed: int = 0
    backlog: int = 0

    def add(self, other: Interval) -> None:
        self.latencies.add(other.latencies)
        self.failed += other.failed
        self.backlog = max(self.backlog, other.backlog)


@dataclass(slots=True)
class Operated:
    """What became of one operation."""

    latencies: Histogram = field(default_factory=Histogram)
    failed: int = 0


@dataclass(slots=True)
class Sample:
    """Failures of one kind: how many, and one of them in words."""

    count: int
    example: str


class Recorder:
    """Counts what the schedule says is measured; what belongs to the warm-up must not be brought here."""

    def __init__(self, operations: int) -> None:
        self.operations = [Operated() for _ in range(operations)]
        self.failures: dict[tuple[str, str], Sample] = {}
        self.failed_latencies = Histogram()
        # How late requests of the open loop left although a connection was free: our own fault, not the target's.
        self.lateness = Histogram()
        self.backlog_max = 0
        self.intervals: list[Interval] = []
        self.interval_s = FIRST_INTERVAL_S
        self.measured_from = 0.0
        # Good answers that came before the end of sending; those that came later count, but not towards the rate.
        self.good_in_time = 0

        self._interval = Interval()
        self._interval_ends = 0.0

    def begin(self, measured_from: float) -> None:
        self.measured_from = measured_from
        self._interval_ends = measured_from + self.interval_s

    @property
    def good(self) -> int:
        return sum(each.latencies.count for each in self.operations)

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self.operations)

    @property
    def latencies(self) -> Histogram:
        """All good answers together."""
        whole = Histogram()
        for each in self.operations:
            whole.add(each.latencies)
        return whole

    def succeed(self, operation: int, latency_s: float, now: float) -> None:
        """Count a good answer."""
        if now >= self._interval_ends:
            self._next_interval(now)
        self.operations[operation].latencies.record(latency_s)
        self._interval.latencies.record(latency_s)

    def fail(self, operation: int, failure: Failure, latency_s: float, now: float) -> None:
        """Count a failure; its latency is kept apart."""
        if now >= self._interval_ends:
            self._next_interval(now)
        self.operations[operation].failed += 1
        self._interval.failed += 1
        self.failed_latencies.record(latency_s)
        key = (failure.kind, failure.what)
        if key not in self.failures and len(self.failures) >= MAX_FAILURES:
            key = (failure.kind, OTHER)
        sample = self.failures.get(key)
        if sample is None:
            self.failures[key] = Sample(1, failure.message)
        else:
            sample.count += 1

    def note_backlog(self, waiting: int, now: float) -> None:
        """Note how many requests are due and wait for a connection."""
        if now >= self._interval_ends:
            self._next_interval(now)
        self._interval.backlog = max(self._interval.backlog, waiting)
        self.backlog_max = max(self.backlog_max, waiting)

    def finish(self) -> None:
        """Close the last interval."""
        if self._interval.latencies.count or self._interval.failed or self._interval.backlog:
            self.intervals.append(self._interval)
            self._interval = Interval()

    def _next_interval(self, now: float) -> None:
        # A pause longer than all intervals together must not make a list of empty ones.
        while now >= self._interval_ends:
            self.intervals.append(self._interval)
            self._interval = Interval()
            if len(self.intervals) >= MAX_INTERVALS:
                self._halve()
            self._interval_ends = self.measured_from + (len(self.intervals) + 1) * self.interval_s

    def _halve(self) -> None:
        merged = []
        for first, second in zip(self.intervals[::2], self.intervals[1::2], strict=True):
            first.add(second)
            merged.append(first)
        self.intervals = merged
        self.interval_s *= 2
