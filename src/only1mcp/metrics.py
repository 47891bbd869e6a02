"""What the proxy counts, and how Prometheus gets to see it.

Counts are integers in anonymous shared memory; the hot path only adds to them. A custom collector turns them into
families of prometheus-client when somebody scrapes: nothing else here uses that library, and it is imported only then.

    metrics = Metrics()
    metrics.request_finished("tools/call", 200, 0.0012)
    metrics.backend_answered("search", 0.0009)
    content_type, body = metrics.render(accept)

Labels are bounded: methods we do not know are `other`, requests that ended before their method was read are `none`,
and backends beyond MAX_BACKENDS share one series named `_other`. Gauges (`connections_active(n)` and the like) are set
by whoever knows the number, at the latest just before `render`; one that nobody has set is not shown.
"""

from __future__ import annotations

import mmap
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from only1mcp import __version__
from only1mcp._fast import COMPILED, Counters
from only1mcp.wire.mcp import CAPABILITY_OF, HANDSHAKE_ONLY

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

# Backends can be added while we run; each new name takes memory here and a dozen series in Prometheus, for ever.
MAX_BACKENDS: Final = 1000

_METHODS: Final = (
    "none",
    "other",
    *sorted(
        {*CAPABILITY_OF, *HANDSHAKE_ONLY, "server/discover", "subscriptions/listen"}
        | {"tasks/get", "tasks/update", "tasks/cancel"}
        | {"notifications/initialized", "notifications/cancelled", "notifications/progress"}
        | {"notifications/roots/list_changed"}
    ),
)
# By the hundreds digit of the HTTP status; a client that vanished before its answer has none.
_STATUSES: Final = ("aborted", "1xx", "2xx", "3xx", "4xx", "5xx")
_SOURCES: Final = ("client", "backend", "proxy")
_BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)
_BUCKETS_US: Final = tuple(round(bound * 1_000_000) for bound in _BUCKETS_S)

# (suffix of the name, kind, help): one slot each, in this order.
_SINGLE: Final = (
    ("cache_hits", "counter", "Requests answered from the cache"),
    ("cache_misses", "counter", "Cacheable requests that the cache could not answer"),
    ("coalesced", "counter", "Requests answered by a backend call that another request made"),
    ("rate_limited", "counter", "Requests refused by the rate limit"),
    ("auth_failures", "counter", "Requests refused for missing or bad credentials"),
    ("cache_entries", "gauge", "Entries in the cache"),
    ("cache_bytes", "gauge", "Bytes the cache's entries take"),
    ("connections_active", "gauge", "Open client connections"),
    ("sessions_active", "gauge", "Sessions of the handshake era in use"),
    ("streams_active", "gauge", "Responses being streamed to clients"),
    ("stdio_children", "gauge", "Running child processes of stdio backends"),
)
(
    _CACHE_HITS,
    _CACHE_MISSES,
    _COALESCED,
    _RATE_LIMITED,
    _AUTH_FAILURES,
    _CACHE_ENTRIES,
    _CACHE_BYTES,
    _CONNECTIONS,
    _SESSIONS,
    _STREAMS,
    _CHILDREN,
) = range(len(_SINGLE))

# The slots: single values, errors by source, requests by method and status, their histogram, a block for each backend.
_ERRORS: Final = len(_SINGLE)
_REQUESTS: Final = _ERRORS + len(_SOURCES)
_DURATION: Final = _REQUESTS + len(_METHODS) * len(_STATUSES)
_HISTOGRAM_SLOTS: Final = len(_BUCKETS_US) + 2
_BACKENDS: Final = _DURATION + _HISTOGRAM_SLOTS
# Within a backend's block: errors, up, histogram (whose total is the number of requests).
_BLOCK_ERRORS, _BLOCK_UP, _BLOCK_DURATION = 0, 1, 2
_BLOCK_SLOTS: Final = 2 + _HISTOGRAM_SLOTS
_SLOTS: Final = _BACKENDS + (MAX_BACKENDS + 1) * _BLOCK_SLOTS

_METHOD_SLOT: Final = {method: _REQUESTS + i * len(_STATUSES) for i, method in enumerate(_METHODS)}
_NONE_SLOT: Final = _METHOD_SLOT["none"]
_OTHER_SLOT: Final = _METHOD_SLOT["other"]
_SOURCE_SLOT: Final = {source: _ERRORS + i for i, source in enumerate(_SOURCES)}
_OTHER_BACKEND: Final = "_other"


class Metrics:
    """The counts of one process."""

    def __init__(self) -> None:
        # Anonymous and shared: processes forked from this one count into the same memory.
        self._counters = Counters(_SLOTS, mmap.mmap(-1, _SLOTS * 8))
        self._blocks: dict[str, int] = {}
        self._shown: set[str] = set()
        self._gauges: set[int] = set()
        self._registry: CollectorRegistry | None = None

    def request_finished(self, method: str | None, status: int, duration_s: float) -> None:
        """Count one client request: its method if it was read, the HTTP status it got (0: none), its duration."""
        counters = self._counters
        row = _NONE_SLOT if method is None else _METHOD_SLOT.get(method, _OTHER_SLOT)
        counters.add(row + (status // 100 if 100 <= status < 600 else 0))
        counters.observe(_DURATION, _BUCKETS_US, _microseconds(duration_s))

    def error(self, source: str) -> None:
        """Count a request that ended with an error, by whose fault it was (`Only1MCPError.source`)."""
        self._counters.add(_SOURCE_SLOT[source])

    def backend_answered(self, backend: str, duration_s: float) -> None:
        """Count a call that a backend answered, or that its client took back before."""
        self._counters.observe(self._block(backend) + _BLOCK_DURATION, _BUCKETS_US, _microseconds(duration_s))

    def backend_failed(self, backend: str, duration_s: float) -> None:
        """Count a call that a backend did not answer as it should have; it counts among its requests as well."""
        block = self._block(backend)
        self._counters.add(block + _BLOCK_ERRORS)
        self._counters.observe(block + _BLOCK_DURATION, _BUCKETS_US, _microseconds(duration_s))

    def backend_up(self, backend: str, up: bool) -> None:
        """Say whether a backend can be called; from the first time on it is shown as up or down."""
        block = self._block(backend)
        if block != _BACKENDS + MAX_BACKENDS * _BLOCK_SLOTS:
            self._shown.add(backend)
            self._counters.set(block + _BLOCK_UP, int(up))

    def backend_removed(self, backend: str) -> None:
        """Stop showing a backend as up or down; its counts stay, and go on if it comes back."""
        self._shown.discard(backend)

    def cache_hit(self) -> None:
        self._counters.add(_CACHE_HITS)

    def cache_miss(self) -> None:
        self._counters.add(_CACHE_MISSES)

    def coalesced(self) -> None:
        self._counters.add(_COALESCED)

    def cache_counts(self) -> tuple[int, int, int]:
        """Return hits, misses and coalesced requests so far."""
        get = self._counters.get
        return get(_CACHE_HITS), get(_CACHE_MISSES), get(_COALESCED)

    def rate_limited(self) -> None:
        self._counters.add(_RATE_LIMITED)

    def auth_failed(self) -> None:
        self._counters.add(_AUTH_FAILURES)

    def cache_size(self, entries: int, used_bytes: int) -> None:
        self._gauge(_CACHE_ENTRIES, entries)
        self._gauge(_CACHE_BYTES, used_bytes)

    def connections_active(self, count: int) -> None:
        self._gauge(_CONNECTIONS, count)

    def sessions_active(self, count: int) -> None:
        self._gauge(_SESSIONS, count)

    def streams_active(self, count: int) -> None:
        self._gauge(_STREAMS, count)

    def stdio_children(self, count: int) -> None:
        self._gauge(_CHILDREN, count)

    def prepare(self) -> None:
        """Load what `render` needs; the first time takes tenths of a second, so do it in a thread before serving."""
        if self._registry is None:
            from prometheus_client import CollectorRegistry, exposition  # noqa: F401, PLC0415 (see the module's docstring)

            registry = CollectorRegistry(auto_describe=False)
            registry.register(self)
            self._registry = registry

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and body: OpenMetrics when the Accept field asks for it, else text format 0.0.4.

        Takes about 15 µs a series and may run in a thread beside everything else, so that calls need not wait for it.
        """
        self.prepare()
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        assert self._registry is not None
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)

    def describe(self) -> list[Metric]:
        """Part of the collector's interface: names are not checked against other collectors, there are none."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family as it stands (the interface of `prometheus_client.registry.Collector`)."""
        from prometheus_client.metrics_core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        get = self._counters.get
        requests = CounterMetricFamily("only1mcp_requests", "Requests of clients", labels=("method", "status"))
        for method, row in _METHOD_SLOT.items():
            for i, status in enumerate(_STATUSES):
                if count := get(row + i):
                    requests.add_metric((method, status), count)
        yield requests

        errors = CounterMetricFamily(
            "only1mcp_errors", "Requests that ended with an error, by fault", labels=("source",)
        )
        for source, slot in _SOURCE_SLOT.items():
            errors.add_metric((source,), get(slot))
        yield errors

        duration = HistogramMetricFamily("only1mcp_request_duration_seconds", "From a request's head to its last byte")
        duration.add_metric((), *self._histogram(_DURATION))
        yield duration

        label = ("backend",)
        calls = CounterMetricFamily("only1mcp_backend_requests", "Calls to a backend", labels=label)
        failures = CounterMetricFamily("only1mcp_backend_errors", "Calls that a backend failed", labels=label)
        times = HistogramMetricFamily("only1mcp_backend_duration_seconds", "Time a call took", labels=label)
        up = GaugeMetricFamily("only1mcp_backend_up", "1 when the backend can be called", labels=label)
        for backend, block in list(self._blocks.items()):
            buckets, total_s = self._histogram(block + _BLOCK_DURATION)
            calls.add_metric((backend,), buckets[-1][1])
            failures.add_metric((backend,), get(block + _BLOCK_ERRORS))
            times.add_metric((backend,), buckets, total_s)
            if backend in self._shown:
                up.add_metric((backend,), get(block + _BLOCK_UP))
        yield from (calls, failures, times, up)

        for slot, (name, kind, help) in enumerate(_SINGLE):
            if kind == "counter":
                yield CounterMetricFamily(f"only1mcp_{name}", help, value=get(slot))
            elif slot in self._gauges:
                yield GaugeMetricFamily(f"only1mcp_{name}", help, value=get(slot))
        if (memory := resident_bytes()) is not None:
            yield GaugeMetricFamily("only1mcp_memory_bytes", "Resident memory of the proxy process", value=memory)
        build = {
            "version": __version__,
            "python": platform.python_version(),
            "extensions": "compiled" if COMPILED else "python",
        }
        yield InfoMetricFamily("only1mcp_build", "What is running", value=build)

    def _gauge(self, slot: int, value: int) -> None:
        self._gauges.add(slot)
        self._counters.set(slot, value)

    def _block(self, backend: str) -> int:
        """Return the first slot of a backend's block, which it keeps for as long as we run."""
        block = self._blocks.get(backend)
        if block is None:
            if len(self._blocks) >= MAX_BACKENDS:
                backend = _OTHER_BACKEND
            block = _BACKENDS + min(len(self._blocks), MAX_BACKENDS) * _BLOCK_SLOTS
            block = self._blocks.setdefault(backend, block)
        return block

    def _histogram(self, base: int) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets as prometheus-client wants them, and the sum in seconds."""
        get = self._counters.get
        buckets: list[tuple[str, float]] = []
        total = 0
        for i, bound in enumerate((*map(repr, map(float, _BUCKETS_S)), "+Inf")):
            total += get(base + i)
            buckets.append((bound, total))
        return buckets, get(base + len(_BUCKETS_US) + 1) / 1_000_000


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int | None:
    """Return the resident memory of this process; on systems that do not tell, its peak, or None."""
    try:
        pages = int(statm.read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        pass
    else:
        return pages * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return None
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def _microseconds(duration_s: float) -> int:
    return max(0, int(duration_s * 1_000_000))
