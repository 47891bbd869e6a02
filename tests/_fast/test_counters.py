"""Counters in memory of their own and in memory that is shared."""

from __future__ import annotations

import mmap
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

LEAST, GREATEST = -(2**63), 2**63 - 1


def row(counters: Any) -> list[int]:
    return [counters.get(i) for i in range(len(counters))]


def test_start_at_zero_and_add(fast: Any) -> None:
    counters = fast.Counters(3)
    counters.add(0)
    counters.add(1, 5)
    counters.add(1, -7)
    counters.set(2, LEAST)
    assert row(counters) == [1, -2, LEAST]


def test_a_sum_wraps_around(fast: Any) -> None:
    counters = fast.Counters(1)
    counters.set(0, GREATEST)
    counters.add(0)
    assert counters.get(0) == LEAST
    counters.add(0, LEAST)
    assert counters.get(0) == 0


@pytest.mark.parametrize("index", [-1, 3, 10**6, LEAST // 2, GREATEST // 2])
def test_no_slot_but_its_own(fast: Any, index: int) -> None:
    counters = fast.Counters(3)
    for call in (
        lambda: counters.get(index),
        lambda: counters.add(index),
        lambda: counters.set(index, 1),
        lambda: counters.observe(index, (), 1),
    ):
        with pytest.raises(IndexError):
            call()
    assert row(counters) == [0, 0, 0]


@pytest.mark.parametrize("value", [LEAST - 1, GREATEST + 1, 10**30])
def test_what_does_not_fit_a_slot(fast: Any, value: int) -> None:
    counters = fast.Counters(1)
    for method in (counters.add, counters.set):
        with pytest.raises(OverflowError):
            method(0, value)
    assert counters.get(0) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, [9, 1, 0, 0, 0, 9]),
        (10, [9, 1, 0, 0, 10, 9]),
        (11, [9, 0, 1, 0, 11, 9]),
        (100, [9, 0, 1, 0, 100, 9]),
        (101, [9, 0, 0, 1, 101, 9]),
    ],
)
def test_observe(fast: Any, value: int, expected: list[int]) -> None:
    counters = fast.Counters(6)
    counters.set(0, 9)
    counters.set(5, 9)
    counters.observe(1, (10, 100), value)
    assert row(counters) == expected


def test_observe_needs_room_for_the_whole_histogram(fast: Any) -> None:
    counters = fast.Counters(3)
    counters.observe(0, (10,), 5)
    with pytest.raises(IndexError):
        counters.observe(1, (10,), 5)
    assert row(counters) == [1, 0, 5]


def test_shared_memory_is_seen_from_both_sides(both: Any) -> None:
    with mmap.mmap(-1, 4096) as shared:
        first, second = (fast.Counters(4, shared) for fast in both)
        first.add(1, 3)
        second.add(1, 4)
        second.set(3, -1)
        assert row(first) == row(second) == [0, 7, 0, -1]
        assert shared[8:16] == (7).to_bytes(8, sys.byteorder)
        del first, second  # a map that is still in use cannot be closed


def test_parts_of_a_buffer(fast: Any) -> None:
    buffer = bytearray(41)
    counters = fast.Counters(2, memoryview(buffer)[16:32])
    counters.set(0, -1)
    counters.set(1, -1)
    assert buffer == bytes(16) + b"\xff" * 16 + bytes(9)
    assert row(fast.Counters(2, memoryview(buffer)[17:33])) != [-1, -1]  # unaligned is allowed


def test_the_buffer_is_held(fast: Any) -> None:
    buffer = bytearray(8)
    counters = fast.Counters(1, buffer)
    with pytest.raises(BufferError):
        buffer.clear()
    counters.add(0)
    del counters
    buffer.clear()


def test_refused_buffers(fast: Any) -> None:
    with pytest.raises(ValueError, match="writable"):
        fast.Counters(1, b"12345678")
    with pytest.raises(ValueError, match="8 bytes"):
        fast.Counters(1, bytearray(7))
    with pytest.raises(ValueError, match="size"):
        fast.Counters(-1)
    with pytest.raises(TypeError):
        fast.Counters(1, 7)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, [1, 0, 0, 0]),
        (0.00001, [1, 0, 0, 10]),
        (0.0000109, [1, 0, 0, 10]),
        (0.000011, [0, 1, 0, 11]),
        (0.0001, [0, 1, 0, 100]),
        (1, [0, 0, 1, 1_000_000]),
        (-1.0, [1, 0, 0, 0]),
        (float("nan"), [1, 0, 0, 0]),
        (float("-inf"), [1, 0, 0, 0]),
        (float("inf"), [0, 0, 1, GREATEST]),
        (1e300, [0, 0, 1, GREATEST]),
        (9e12, [0, 0, 1, 9 * 10**18]),
    ],
)
def test_histogram(fast: Any, seconds: float, expected: list[int]) -> None:
    counters = fast.Counters(6)
    histogram = fast.Histogram(counters, 1, (10, 100))
    histogram.observe(seconds)
    assert row(counters) == [0, *expected, 0]
    histogram.count(5, seconds)
    histogram.count(0, seconds)
    assert row(counters)[:4] == [1, *(3 * n for n in expected[:3])]
    assert counters.get(5) == 1


def test_a_histogram_needs_room_and_bounds_of_64_bits(fast: Any) -> None:
    counters = fast.Counters(40)
    fast.Histogram(counters, 38, ())
    fast.Histogram(counters, 8, tuple(range(30)))
    for base in (-1, 38, 40, LEAST // 2, GREATEST // 2):
        with pytest.raises(IndexError):
            fast.Histogram(counters, base, (10,))
    with pytest.raises(ValueError, match="30"):
        fast.Histogram(counters, 0, tuple(range(31)))
    for slot in (-1, 40):
        histogram = fast.Histogram(counters, 0, (10,))
        with pytest.raises(IndexError):
            histogram.count(slot, 1.0)
    assert row(counters) == [0] * 40
    with pytest.raises((TypeError, AttributeError)):
        fast.Histogram(None, 0, (10,))


@given(st.lists(st.floats() | st.floats(0, 0.001), max_size=20))
def test_histograms_of_both_twins_agree(both: Any, durations: list[float]) -> None:
    rows = []
    for fast in both:
        counters = fast.Counters(5)
        histogram = fast.Histogram(counters, 1, (10, 100))
        for duration in durations:
            histogram.count(0, duration)
        rows.append(row(counters))
    assert rows[0] == rows[1]


int64 = st.integers(LEAST, GREATEST)


@given(
    st.lists(st.tuples(st.sampled_from(["add", "set"]), st.integers(0, 4), int64), max_size=20),
    st.lists(st.integers(0, 1000), unique=True, max_size=3).map(sorted).map(tuple),
    st.lists(st.integers(0, 2000) | int64, max_size=5),
)
def test_twins_agree(both: Any, steps: list[tuple[str, int, int]], bounds: tuple[int, ...], values: list[int]) -> None:
    rows = []
    for fast in both:
        counters = fast.Counters(5)
        for name, index, value in steps:
            getattr(counters, name)(index, value)
        for value in values:
            counters.observe(0, bounds, value)
        rows.append(row(counters))
    assert rows[0] == rows[1]
