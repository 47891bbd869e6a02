"""Several processes count into one segment: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import os
import zlib

import pytest
from tests.test_metrics import run_python

from only1mcp.metrics_memory import MAX_LABEL_BYTES, Segment

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# What the scripts below have in common. They run in processes of their own: this one has threads.
WORKERS = """
import os, signal
from prometheus_client.parser import text_string_to_metric_families as parse
from only1mcp.metrics import Metrics
from only1mcp.metrics_collector import Collector, resident_bytes
from only1mcp.metrics_memory import Segment

def shown(collector):
    families = parse(collector.render()[1].decode())
    return {(s.name.removeprefix("only1mcp_"), *s.labels.values()): s.value for f in families for s in f.samples}

def start(segment, worker, work):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(Metrics(segment, worker))
            os.write(told, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    return child

def kill(child):
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@needs_fork
def test_workers_that_count_at_the_same_time_are_shown_as_one() -> None:
    run_python(
        WORKERS
        + """
def work(order):
    def count(metrics):
        for i in range(20_000):
            metrics.request_finished("tools/call", 200, 0.002)
            metrics.backend_answered(order[i % 2], 0.002)
            metrics.cache_hit()
        metrics.backend_failed(order[0], 2.0)
        metrics.backend_up(order[0], False)
        metrics.backend_up("all", True)
        metrics.connections_active(5)
        os._exit(0)
    return count

segment = Segment(3)
children = []
for worker, order in enumerate(["ab", "ba", "bc"]):
    child = os.fork()
    if child == 0:
        work(order)(Metrics(segment, worker))
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
seen = shown(Collector(segment))
assert seen["requests_total", "tools/call", "2xx"] == seen["request_duration_seconds_count",] == 60_000
assert round(seen["request_duration_seconds_sum",], 6) == 120
assert seen["cache_hits_total",] == 60_000
assert [seen["backend_requests_total", name] for name in "abc"] == [20_001, 30_002, 10_000]
assert [seen["backend_errors_total", name] for name in "abc"] == [1, 2, 0]
assert [seen["backend_duration_seconds_bucket", name, "1.0"] for name in "abc"] == [20_000, 30_000, 10_000]
assert [seen.get(("backend_up", name)) for name in ("a", "b", "c", "all")] == [0, 0, None, 1]
assert seen["connections_active",] == 15
"""
    )


@needs_fork
def test_a_worker_that_dies_keeps_its_counts_and_its_successor_goes_on() -> None:
    run_python(
        WORKERS
        + """
def work(metrics):
    for name in ("a", "b"):
        metrics.backend_answered(name, 0.1)
        metrics.backend_up(name, True)
    metrics.connections_active(3)
    metrics.cache_miss()

def again(metrics):
    metrics.backend_answered("b", 0.1)
    metrics.backend_answered("c", 0.1)

segment = Segment(2)
collector = Collector(segment)
children = [start(segment, worker, work) for worker in (0, 1)]
seen = shown(collector)
assert seen["memory_bytes",] > 2 * resident_bytes() * 0.5
before = seen["memory_bytes",]
assert (seen["connections_active",], seen["cache_misses_total",], seen["backend_up", "a"]) == (6, 2, 1)
kill(children[0])
segment.regions[0].forget_gauges()
seen = shown(collector)
assert seen["memory_bytes",] < before - 1e6
assert (seen["connections_active",], seen["cache_misses_total",]) == (3, 2)
assert [seen["backend_requests_total", name] for name in "ab"] == [2, 2]
kill(children[1])
for _ in range(2):
    segment.regions[1].forget_gauges()
seen = shown(collector)
assert ("connections_active",) not in seen and ("backend_up", "a") not in seen
assert seen["cache_misses_total",] == 2
successor = start(segment, 0, again)
seen = shown(collector)
assert [seen["backend_requests_total", name] for name in "abc"] == [2, 3, 1]
assert seen["cache_misses_total",] == 2
kill(successor)
"""
    )


def test_regions_do_not_touch_one_another() -> None:
    segment = Segment(3, max_backends=5)
    for number, region in enumerate(segment.regions):
        for slot in range(len(region.counters)):
            region.counters.set(slot, number - 1)
        for i in range(5):
            region.label(i, b"%d" % number * MAX_LABEL_BYTES)
    for number, region in enumerate(segment.regions):
        assert {region.counters.get(slot) for slot in range(len(region.counters))} == {number - 1}
        assert [name for name, _ in region.labels()] == [str(number) * MAX_LABEL_BYTES] * 5
        blocks = [block for _, block in region.labels()]
        assert len({*blocks, region.other}) == 6
    with pytest.raises(ValueError, match="at least one"):
        Segment(0)


def test_a_name_that_was_not_written_to_its_end_is_none() -> None:
    (region,) = Segment().regions
    region.label(0, b"whole")
    region.label(1, b"half")
    region._labels[128 + 5 : 128 + 7] = b"xx"
    assert [name for name, _ in region.labels()] == ["whole"]
    region.label(1, "né".encode())
    assert [name for name, _ in region.labels()] == ["whole", "né"]
    assert zlib.crc32(b"") == 0  # so that memory never written has no name: of no octets
