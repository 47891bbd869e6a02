"""The figures as lines for a terminal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadgen.runs import made_up

from only1mcp.loadgen.failure import RPC_ERROR, Failure
from only1mcp.loadgen.figures import Gates, figures
from only1mcp.loadgen.histogram import Histogram
from only1mcp.loadgen.mix import Operation
from only1mcp.loadgen.text import BAR_CELLS, grouped, histogram, render

TWO = {"operations": (Operation("tools/list"), Operation("prompts/list"))}


def test_what_is_shown() -> None:
    failures = [Failure(RPC_ERROR, "-32602", "unknown tool")]
    run = made_up([0.001, 0.002, 0.4], failures, plan={"rate": 5.0, **TWO}, unsent=2)
    lines = render(figures(run, Gates(expect_p99_ms=1)))
    text = "\n".join(lines)
    assert lines[0] == "measured 10.00 s: 3 good answers, 1 failed"
    for words in (
        "  rate      0.3 good answers a second",
        "  bytes     2 MB received, 1 kB sent",
        "  client    10% of a core",
        "  backlog   at most 0, 2 unsent",
        "latency of good answers (from when it was due)",
        "  p50   2 ms",
        "rpc_error -32602: unknown tool",
        "  tools/list       3       1  2 ms",
        "  prompts/list     0       0     -",
        "warning: 2 requests were due",
        "missed: --max-errors 0: got 1",
        "missed: --expect-p99-ms 1: got 400",
    ):
        assert words in text
    assert max(len(line) for line in lines if not line.startswith("warning")) <= 100


def test_a_run_without_good_answers_shows_no_latency() -> None:
    text = "\n".join(render(figures(made_up(interrupted=True), Gates(expect_p99_ms=1))))
    assert text.startswith("interrupted after")
    assert "latency" not in text
    assert "missed: --expect-p99-ms 1: got nothing" in text


def test_terminals_without_block_characters() -> None:
    assert "\n".join(render(figures(made_up([0.001, 0.01]), Gates()), unicode=False)).isascii()


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=50), st.integers(1, 20))
def test_grouping_loses_nothing(values: list[float], rows: int) -> None:
    latencies = Histogram()
    for value in values:
        latencies.record(value)
    buckets = [{"from_ms": low * 1e3, "to_ms": high * 1e3, "count": n} for low, high, n in latencies.buckets()]
    ranges = grouped(buckets, rows)
    assert 1 <= len(ranges) <= rows
    assert sum(count for _, _, count in ranges) == len(values)
    assert all(one[1] == pytest.approx(other[0]) for one, other in itertools.pairwise(ranges))
    lines = histogram(buckets)
    assert all(line.count("█") <= BAR_CELLS for line in lines)
    # Whatever occurred is seen, were it one among millions.
    assert all(("0.00 %" in line) or any(mark in line for mark in "▏▎▍▌▋▊▉█") for line in lines)


def test_no_buckets() -> None:
    assert histogram([]) == []
