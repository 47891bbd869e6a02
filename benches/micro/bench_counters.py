"""What counting one request costs."""

from __future__ import annotations

from typing import Any

BOUNDS_US = (100, 250, 500, 1000, 5000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 30_000_000)


def test_add(benchmark: Any, fast: Any) -> None:
    add = fast.Counters(100).add

    @benchmark
    def thousand() -> None:
        for _ in range(1000):
            add(7)


def test_observe(benchmark: Any, fast: Any) -> None:
    observe = fast.Counters(100).observe

    @benchmark
    def thousand() -> None:
        for _ in range(1000):
            observe(10, BOUNDS_US, 700)


def test_histogram(benchmark: Any, fast: Any) -> None:
    observe = fast.Histogram(fast.Counters(100), 10, BOUNDS_US).observe

    @benchmark
    def thousand() -> None:
        for _ in range(1000):
            observe(0.0007)


def test_histogram_and_slot(benchmark: Any, fast: Any) -> None:
    count = fast.Histogram(fast.Counters(100), 10, BOUNDS_US).count

    @benchmark
    def thousand() -> None:
        for _ in range(1000):
            count(7, 0.0007)
