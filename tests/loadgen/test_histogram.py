"""The histogram against a sorted list of all values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.loadgen.histogram import Histogram, bounds_of, bucket_of

LATENCIES = st.lists(st.floats(0, 90_000, allow_nan=False), min_size=1, max_size=200)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.integers(0, 24 * 3600 * 1_000_000))
def test_a_bucket_holds_its_values_and_is_narrow(value: int) -> None:
    low, high = bounds_of(bucket_of(value))
    assert low <= value < high
    assert high - low <= max(1, value / 256)


def test_buckets_follow_each_other_without_gap() -> None:
    ends = 0
    for bucket in range(8000):
        low, high = bounds_of(bucket)
        assert low == ends
        ends = high
        assert bucket_of(low) == bucket_of(high - 1) == min(bucket, bucket_of(24 * 3600 * 1_000_000))
        if ends > 24 * 3600 * 1_000_000:
            return
    pytest.fail("a day was not reached")


def test_what_is_out_of_range_is_counted_at_its_end() -> None:
    assert bucket_of(-5) == 0
    assert bucket_of(10**15) == bucket_of(24 * 3600 * 1_000_000)


@given(LATENCIES, st.floats(0.1, 100))
def test_percentiles_are_those_of_the_sorted_values(values: list[float], percent: float) -> None:
    rank = max(1, math.ceil(round(percent * len(values) / 100, 6)))
    exact = sorted(values)[rank - 1]
    found = filled(values).percentile(percent)
    if exact <= 86_400:
        assert exact - 1e-9 <= found <= exact * (1 + 1 / 256) + 1.001e-6
    assert found <= max(values)


@given(LATENCIES, LATENCIES)
def test_adding_is_counting_both(one: list[float], other: list[float]) -> None:
    both, together = filled(one), filled(one + other)
    both.add(filled(other))
    assert list(both.buckets()) == list(together.buckets())
    assert (both.count, both.min_s, both.max_s) == (together.count, together.min_s, together.max_s)
    assert both.mean_s == pytest.approx(together.mean_s)
    assert both.deviation_s == pytest.approx(together.deviation_s, abs=1e-3)


def test_mean_and_deviation() -> None:
    histogram = filled([0.002, 0.004, 0.006])
    assert histogram.mean_s == pytest.approx(0.004)
    assert histogram.deviation_s == pytest.approx(math.sqrt(8e-6 / 3))


def test_an_empty_one_knows_nothing() -> None:
    histogram = Histogram()
    assert all(math.isnan(value) for value in (*histogram.percentiles(50, 99), histogram.mean_s, histogram.deviation_s))
    assert list(histogram.buckets()) == []


def test_thousandths_are_not_rounded_up_to_the_next_value() -> None:
    assert filled([1.0] * 999 + [1000.0]).percentile(99.9) < 1.01
