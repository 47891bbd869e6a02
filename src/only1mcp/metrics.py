"""What the proxy counts.

    metrics = Metrics()
    metrics.request_finished("tools/call", 200, 0.0012)
    metrics.backend_answered("search", 0.0009)
    content_type, body = metrics.render(accept)

Counts are integers in shared memory (`metrics_memory`); the hot path only adds to them, and `metrics_collector` renders
them. With several workers, the supervisor makes a `Segment(workers)` before it forks them, and each of them its
`Metrics(segment, worker)`; whoever is scraped, worker or supervisor (`Collector(segment)`), shows them all. When a
worker has ended, its region's `forget_gauges` takes what it had open out of the sums.

Labels are bounded: methods we do not know are `other`, requests that ended before their method was read are `none`,
and backends beyond MAX_BACKENDS share one series named `_other`. Gauges (`connections_active(n)` and the like) are set
by whoever knows the number, at the latest just before `render`; one that nobody has set is not shown.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from only1mcp import _fast
from only1mcp.metrics_collector import Collector
from only1mcp.metrics_memory import (
    AUTH_FAILURES,
    BLOCK_DURATION,
    BLOCK_ERRORS,
    BLOCK_UP,
    BUCKETS_US,
    CACHE_BYTES,
    CACHE_ENTRIES,
    CACHE_HITS,
    CACHE_MISSES,
    CHILDREN,
    COALESCED,
    CONNECTIONS,
    DOWN,
    DURATION,
    GAUGES_SET,
    MAX_LABEL_BYTES,
    METHOD_SLOT,
    NONE_SLOT,
    OTHER_SLOT,
    PID,
    RATE_LIMITED,
    SESSIONS,
    SOURCE_SLOT,
    STREAMS,
    UNKNOWN,
    UP,
    Segment,
)

if TYPE_CHECKING:
    from only1mcp._fast.counters import Histogram


class Metrics:
    """The counts of one process, and the view of those of all."""

    def __init__(self, segment: Segment | None = None, worker: int = 0) -> None:
        segment = Segment() if segment is None else segment
        self._region = segment.regions[worker]
        self._region.forget_gauges()
        self._counters = self._region.counters
        self._counters.set(PID, os.getpid())
        self._durations = _fast.Histogram(self._counters, DURATION, BUCKETS_US)
        self._backends = {name: (block, self._times(block)) for name, block in self._region.labels()}
        self._other = (self._region.other, self._times(self._region.other))
        self._collector = Collector(segment)
        self.render = self._collector.render

    def request_finished(self, method: str | None, status: int, duration_s: float) -> None:
        """Count one client request: its method if it was read, the HTTP status it got (0: none), its duration."""
        self.finished_as(self.slot_of(method, status), duration_s)

    def slot_of(self, method: str | None, status: int) -> int:
        """Return where requests are counted that end so, for `finished_as`."""
        row = NONE_SLOT if method is None else METHOD_SLOT.get(method, OTHER_SLOT)
        return row + (status // 100 if 100 <= status < 600 else 0)

    def finished_as(self, slot: int, duration_s: float) -> None:
        """Count one client request as `request_finished` does."""
        self._durations.count(slot, duration_s)

    def error(self, source: str) -> None:
        """Count a request that ended with an error, by whose fault it was (`Only1MCPError.source`)."""
        self._counters.add(SOURCE_SLOT[source])

    def backend_answered(self, backend: str, duration_s: float) -> None:
        """Count a call that a backend answered, or that its client took back before."""
        _, durations = self._backends.get(backend) or self._backend(backend)
        durations.observe(duration_s)

    def backend_failed(self, backend: str, duration_s: float) -> None:
        """Count a call that a backend did not answer as it should have; it counts among its requests as well."""
        block, durations = self._backends.get(backend) or self._backend(backend)
        durations.count(block + BLOCK_ERRORS, duration_s)

    def backend_up(self, backend: str, up: bool) -> None:
        """Say whether a backend can be called; from the first time on it is shown as up or down."""
        found = self._backend(backend)
        if found is not self._other:
            self._counters.set(found[0] + BLOCK_UP, UP if up else DOWN)

    def backend_removed(self, backend: str) -> None:
        """Stop showing a backend as up or down; its counts stay, and go on if it comes back."""
        if backend in self._backends:
            self._counters.set(self._backends[backend][0] + BLOCK_UP, UNKNOWN)

    def cache_hit(self) -> None:
        self._counters.add(CACHE_HITS)

    def cache_miss(self) -> None:
        self._counters.add(CACHE_MISSES)

    def coalesced(self) -> None:
        self._counters.add(COALESCED)

    def cache_counts(self) -> tuple[int, int, int]:
        """Return hits, misses and coalesced requests so far."""
        get = self._counters.get
        return get(CACHE_HITS), get(CACHE_MISSES), get(COALESCED)

    def rate_limited(self) -> None:
        self._counters.add(RATE_LIMITED)

    def auth_failed(self) -> None:
        self._counters.add(AUTH_FAILURES)

    def cache_size(self, entries: int, used_bytes: int) -> None:
        self._gauge(CACHE_ENTRIES, entries)
        self._gauge(CACHE_BYTES, used_bytes)

    def connections_active(self, count: int) -> None:
        self._gauge(CONNECTIONS, count)

    def sessions_active(self, count: int) -> None:
        self._gauge(SESSIONS, count)

    def streams_active(self, count: int) -> None:
        self._gauge(STREAMS, count)

    def stdio_children(self, count: int) -> None:
        self._gauge(CHILDREN, count)

    def _gauge(self, slot: int, value: int) -> None:
        self._counters.set(GAUGES_SET, self._counters.get(GAUGES_SET) | 1 << slot)
        self._counters.set(slot, value)

    def _backend(self, backend: str) -> tuple[int, Histogram]:
        """Return the first slot of a backend's block, which it keeps for as long as we run, and its histogram."""
        found = self._backends.get(backend)
        if found is None:
            name = backend.encode()
            number = len(self._backends)
            if number >= self._region.max_backends or not 0 < len(name) <= MAX_LABEL_BYTES:
                return self._other
            self._region.label(number, name)
            block = self._region.block(number)
            found = self._backends[backend] = (block, self._times(block))
        return found

    def _times(self, block: int) -> Histogram:
        return _fast.Histogram(self._counters, block + BLOCK_DURATION, BUCKETS_US)
