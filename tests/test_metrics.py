"""Metrics: what was counted is what a Prometheus parser reads, under the names the dashboards use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from only1mcp import __version__
from only1mcp.metrics import Metrics
from only1mcp.metrics_memory import Segment

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(metrics: Metrics, accept: str = "") -> Samples:
    content_type, body = metrics.render(accept)
    parse = parse_openmetrics if content_type.startswith("application/openmetrics") else parse_text
    found: Samples = {}
    for family in parse(body.decode()):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"only1mcp_{name}", frozenset(labels.items())))


COUNTERS = ["cache_hits_total", "cache_misses_total", "coalesced_total", "rate_limited_total", "auth_failures_total"]
GAUGES = ["cache_entries", "cache_bytes", "connections_active", "sessions_active", "streams_active", "stdio_children"]


def test_a_new_proxy_shows_its_counters_and_no_gauge_that_nobody_has_set() -> None:
    names = {name for name, _ in read(Metrics())}
    assert names == {
        *(f"only1mcp_{name}" for name in COUNTERS),
        "only1mcp_errors_total",
        "only1mcp_request_duration_seconds_bucket",
        "only1mcp_request_duration_seconds_sum",
        "only1mcp_request_duration_seconds_count",
        "only1mcp_memory_bytes",
        "only1mcp_build_info",
    }


def test_requests_are_counted_by_known_methods_and_status_classes() -> None:
    metrics = Metrics()
    for method, status in [
        ("tools/call", 200),
        ("tools/call", 204),
        ("tools/call", 504),
        ("secret/tool-name", 404),
        ("x" * 10_000, 404),
        (None, 401),
        ("tools/list", 0),
        ("tools/list", 999),
        ("tools/list", -7),
    ]:
        metrics.request_finished(method, status, 0.002)
    samples = read(metrics)
    assert value(samples, "requests_total", method="tools/call", status="2xx") == 2
    assert value(samples, "requests_total", method="tools/call", status="5xx") == 1
    assert value(samples, "requests_total", method="other", status="4xx") == 2
    assert value(samples, "requests_total", method="none", status="4xx") == 1
    assert value(samples, "requests_total", method="tools/list", status="aborted") == 3
    assert value(samples, "request_duration_seconds_count") == 9
    assert sum(v for (name, _), v in samples.items() if name == "only1mcp_requests_total") == 9


@given(st.lists(st.floats(0, 100), max_size=30))
def test_durations_fall_into_their_buckets(durations: list[float]) -> None:
    metrics = Metrics()
    for duration in durations:
        metrics.request_finished("tools/call", 200, duration)
    samples = read(metrics)
    bounds = [
        float(dict(labels)["le"]) for name, labels in samples if name == "only1mcp_request_duration_seconds_bucket"
    ]
    assert sorted(bounds) == [0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, float("inf")]
    for (name, labels), count in samples.items():
        if name == "only1mcp_request_duration_seconds_bucket":
            bound = float(dict(labels)["le"])
            assert count == sum(int(duration * 1e6) / 1e6 <= bound + 1e-9 for duration in durations)
    assert value(samples, "request_duration_seconds_sum") == pytest.approx(sum(durations), abs=1e-4)


def test_a_clock_that_went_back_breaks_nothing() -> None:
    metrics = Metrics()
    metrics.request_finished("ping", 200, -5.0)
    assert value(read(metrics), "request_duration_seconds_sum") == 0


def test_backends_have_their_own_series() -> None:
    metrics = Metrics()
    metrics.backend_up("a", True)
    metrics.backend_up("b", False)
    metrics.backend_answered("a", 0.2)
    metrics.backend_answered("a", 0.3)
    metrics.backend_failed("b", 1.5)
    samples = read(metrics)
    assert value(samples, "backend_requests_total", backend="a") == 2
    assert value(samples, "backend_errors_total", backend="a") == 0
    assert value(samples, "backend_requests_total", backend="b") == 1
    assert value(samples, "backend_errors_total", backend="b") == 1
    assert value(samples, "backend_up", backend="a") == 1
    assert value(samples, "backend_up", backend="b") == 0
    assert value(samples, "backend_duration_seconds_sum", backend="a") == pytest.approx(0.5)
    assert value(samples, "backend_duration_seconds_bucket", backend="a", le="0.5") == 2
    assert value(samples, "backend_duration_seconds_bucket", backend="a", le="0.1") == 0


def test_a_backend_that_comes_back_goes_on_counting() -> None:
    metrics = Metrics()
    metrics.backend_up("a", True)
    metrics.backend_answered("a", 0.1)
    metrics.backend_removed("a")
    samples = read(metrics)
    assert value(samples, "backend_up", backend="a") is None
    assert value(samples, "backend_requests_total", backend="a") == 1
    metrics.backend_up("a", True)
    metrics.backend_answered("a", 0.1)
    samples = read(metrics)
    assert value(samples, "backend_up", backend="a") == 1
    assert value(samples, "backend_requests_total", backend="a") == 2


def test_the_number_of_backends_is_bounded() -> None:
    metrics = Metrics(Segment(max_backends=3))
    for i in range(10):
        metrics.backend_up(f"b{i}", True)
        metrics.backend_answered(f"b{i}", 0.1)
    metrics.backend_answered("b1", 0.1)
    samples = read(metrics)
    counts = {dict(labels)["backend"]: v for (name, labels), v in samples.items() if name.endswith("requests_total")}
    assert counts == {"b0": 1, "b1": 2, "b2": 1, "_other": 7}
    assert value(samples, "backend_up", backend="b2") == 1
    assert value(samples, "backend_up", backend="_other") is None


@pytest.mark.parametrize("name", ["", "x" * 124, "é" * 62])
def test_a_backend_without_a_usable_name_counts_among_the_others(name: str) -> None:
    metrics = Metrics()
    metrics.backend_up(name, True)
    metrics.backend_answered(name, 0.1)
    metrics.backend_removed(name)
    samples = read(metrics)
    assert value(samples, "backend_requests_total", backend="_other") == 1
    metrics.backend_answered("_other", 0.1)
    metrics.backend_failed("x" * 123, 0.1)
    samples = read(metrics)
    assert value(samples, "backend_requests_total", backend="_other") == 2
    assert value(samples, "backend_requests_total", backend="x" * 123) == 1


def test_single_values() -> None:
    metrics = Metrics()
    metrics.cache_hit()
    metrics.cache_hit()
    metrics.cache_miss()
    for _ in range(3):
        metrics.rate_limited()
    metrics.coalesced()
    metrics.auth_failed()
    metrics.cache_size(4, 5000)
    metrics.connections_active(6)
    metrics.sessions_active(7)
    metrics.streams_active(8)
    metrics.stdio_children(9)
    for source in ("client", "backend", "proxy", "proxy"):
        metrics.error(source)
    samples = read(metrics)
    assert metrics.cache_counts() == (2, 1, 1)
    expected: dict[str, float] = {
        "cache_hits_total": 2,
        "cache_misses_total": 1,
        "coalesced_total": 1,
        "rate_limited_total": 3,
        "auth_failures_total": 1,
        "cache_entries": 4,
        "cache_bytes": 5000,
        "connections_active": 6,
        "sessions_active": 7,
        "streams_active": 8,
        "stdio_children": 9,
    }
    assert sorted(expected) == sorted(COUNTERS + GAUGES)
    assert {name: value(samples, name) for name in expected} == expected
    assert value(samples, "errors_total", source="proxy") == 2
    assert value(samples, "errors_total", source="client") == 1


def test_says_what_is_running() -> None:
    samples = read(Metrics())
    (labels,) = (dict(labels) for name, labels in samples if name == "only1mcp_build_info")
    assert labels["version"] == __version__
    assert labels["extensions"] in ("compiled", "python")
    assert labels["python"] == sys.version.split()[0]


def test_rendering_in_a_thread_bears_backends_that_come_meanwhile() -> None:
    metrics = Metrics()
    with ThreadPoolExecutor(1) as pool:
        for i in range(20):
            rendering = pool.submit(metrics.render)
            for j in range(30):
                metrics.backend_answered(f"b{i}-{j}", 0.1)
            assert b"only1mcp_build_info" in rendering.result(30)[1]
    assert sum(v for (name, _), v in read(metrics).items() if name == "only1mcp_backend_requests_total") == 600


def test_the_format_is_what_the_scraper_accepts() -> None:
    metrics = Metrics()
    metrics.backend_answered("a", 0.1)
    assert metrics.render()[0] == metrics.render("*/*")[0] == "text/plain; version=0.0.4; charset=utf-8"
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    content_type, body = metrics.render(prometheus)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    plain, open_metrics = read(metrics), read(metrics, prometheus)
    # Memory is measured anew at each scrape.
    changing = ("only1mcp_memory_bytes", frozenset[tuple[str, str]]())
    assert plain.pop(changing) > 0
    assert open_metrics.pop(changing) > 0
    assert plain == open_metrics


@pytest.mark.parametrize("accept", ["", "\x00", "text/plain;version=9", ";;;,,,", "application/openmetrics-text;q=x"])
def test_any_accept_field_gets_an_answer(accept: str) -> None:
    content_type, body = Metrics().render(accept)
    assert "\n" not in content_type
    assert b"only1mcp_build_info" in body


def test_the_library_is_loaded_only_to_render() -> None:
    run_python(
        "import sys\n"
        "from only1mcp.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "metrics.request_finished('tools/call', 200, 0.1)\n"
        "metrics.backend_up('a', True)\n"
        "assert not any(name.startswith('prometheus_client') for name in sys.modules)\n"
        "metrics.render()\n"
        "assert 'prometheus_client' in sys.modules\n"
    )


def run_python(code: str, flags: Iterable[str] = ("-W", "ignore")) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
