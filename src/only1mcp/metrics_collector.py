"""Turns the counts of all workers into what Prometheus reads.

prometheus-client is used nowhere else, and imported only when somebody scrapes: it is slow to load, and takes 2.6 MB.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from only1mcp import __version__
from only1mcp._fast import COMPILED, Counters
from only1mcp.metrics_memory import (
    BLOCK_DURATION,
    BLOCK_ERRORS,
    BLOCK_UP,
    BUCKETS_S,
    BUCKETS_US,
    DURATION,
    GAUGES_SET,
    METHOD_SLOT,
    OTHER_BACKEND,
    PID,
    SINGLE,
    SOURCE_SLOT,
    STATUSES,
    UNKNOWN,
    UP,
    Segment,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric


class Collector:
    """Renders a segment; the interface of `prometheus_client.registry.Collector`.

    Counts are sums over the workers, those that died included; gauges are sums over those that run. A backend is up
    when any worker can call it.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._registry: CollectorRegistry | None = None

    def _prepare(self) -> CollectorRegistry:
        """Load what `render` needs; the first time takes tenths of a second."""
        if self._registry is None:
            from prometheus_client import CollectorRegistry, exposition  # noqa: F401, PLC0415 (see the module's docstring)

            registry = CollectorRegistry(auto_describe=False)
            registry.register(self)
            self._registry = registry
        return self._registry

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and body: OpenMetrics when the Accept field asks for it, else text format 0.0.4.

        Takes about 15 µs a series and may run in a thread beside everything else, so that calls need not wait for it.
        """
        registry = self._prepare()
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        encode, content_type = choose_encoder(accept)
        return content_type, encode(registry)

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

        get = self._total
        requests = CounterMetricFamily("only1mcp_requests", "Requests of clients", labels=("method", "status"))
        for method, row in METHOD_SLOT.items():
            for i, status in enumerate(STATUSES):
                if count := get(row + i):
                    requests.add_metric((method, status), count)
        yield requests

        errors = CounterMetricFamily(
            "only1mcp_errors", "Requests that ended with an error, by fault", labels=("source",)
        )
        for source, slot in SOURCE_SLOT.items():
            errors.add_metric((source,), get(slot))
        yield errors

        duration = HistogramMetricFamily("only1mcp_request_duration_seconds", "From a request's head to its last byte")
        duration.add_metric((), *self._histogram([(region.counters, DURATION) for region in self._segment.regions]))
        yield duration

        label = ("backend",)
        calls = CounterMetricFamily("only1mcp_backend_requests", "Calls to a backend", labels=label)
        failures = CounterMetricFamily("only1mcp_backend_errors", "Calls that a backend failed", labels=label)
        times = HistogramMetricFamily("only1mcp_backend_duration_seconds", "Time a call took", labels=label)
        up = GaugeMetricFamily("only1mcp_backend_up", "1 when the backend can be called", labels=label)
        for backend, places in self._blocks().items():
            buckets, total_s = self._histogram([(counters, at + BLOCK_DURATION) for counters, at in places])
            calls.add_metric((backend,), buckets[-1][1])
            failures.add_metric((backend,), sum(counters.get(at + BLOCK_ERRORS) for counters, at in places))
            times.add_metric((backend,), buckets, total_s)
            state = max(counters.get(at + BLOCK_UP) for counters, at in places)
            if state != UNKNOWN:
                up.add_metric((backend,), state == UP)
        yield from (calls, failures, times, up)

        gauges = 0
        for region in self._segment.regions:
            gauges |= region.counters.get(GAUGES_SET)
        for slot, (name, kind, help) in enumerate(SINGLE):
            if kind == "counter":
                yield CounterMetricFamily(f"only1mcp_{name}", help, value=get(slot))
            elif gauges >> slot & 1:
                yield GaugeMetricFamily(f"only1mcp_{name}", help, value=get(slot))
        if (memory := self._memory_bytes()) is not None:
            yield GaugeMetricFamily("only1mcp_memory_bytes", "Resident memory of the proxy", value=memory)
        build = {
            "version": __version__,
            "python": platform.python_version(),
            "extensions": "compiled" if COMPILED else "python",
        }
        yield InfoMetricFamily("only1mcp_build", "What is running", value=build)

    def _blocks(self) -> dict[str, list[tuple[Counters, int]]]:
        """Return where the blocks of each backend are, in every worker that knows it."""
        blocks: dict[str, list[tuple[Counters, int]]] = {}
        others = []
        for region in self._segment.regions:
            for name, block in region.labels():
                blocks.setdefault(name, []).append((region.counters, block))
            others.append((region.counters, region.other))
        if self._histogram([(counters, at + BLOCK_DURATION) for counters, at in others])[0][-1][1]:
            blocks.setdefault(OTHER_BACKEND, []).extend(others)
        return blocks

    def _total(self, slot: int) -> int:
        return sum(region.counters.get(slot) for region in self._segment.regions)

    def _histogram(self, places: list[tuple[Counters, int]]) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets as prometheus-client wants them, and the sum in seconds, of histograms added up."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for i, bound in enumerate((*map(repr, map(float, BUCKETS_S)), "+Inf")):
            total += sum(counters.get(base + i) for counters, base in places)
            buckets.append((bound, total))
        return buckets, sum(counters.get(base + len(BUCKETS_US) + 1) for counters, base in places) / 1_000_000

    def _memory_bytes(self) -> int | None:
        """Return the resident memory of all workers; where only one's own can be had, that."""
        own = resident_bytes()
        others = [region.counters.get(PID) for region in self._segment.regions]
        found = [_statm_bytes(Path(f"/proc/{pid}/statm")) for pid in others if pid not in (0, os.getpid())]
        return own if own is None else own + sum(size for size in found if size is not None)


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int | None:
    """Return the resident memory of this process; on systems that do not tell, its peak, or None."""
    if (size := _statm_bytes(statm)) is not None:
        return size
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return None
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def _statm_bytes(statm: Path) -> int | None:
    try:
        return int(statm.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
