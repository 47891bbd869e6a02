"""A cache that is full: hits, misses, and stores that evict; with a thousand entries and with a million."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest

VALUE = b"v" * 2000
SIZES = [1000, pytest.param(1_000_000, marks=pytest.mark.slow)]
ROUND = 1000


class Full:
    """A cache of `size` entries that is full, and keys that are in it or not, in no order."""

    def __init__(self, fast: Any, size: int) -> None:
        self.cache = fast.LRU(size * (len(VALUE) + 40 + fast.LRU.ENTRY_OVERHEAD))
        for i in range(size):
            self.cache.store(b"%040d" % i, VALUE, 10**6, 0)
        assert len(self.cache) == size
        some = random.Random(1)
        self.present = [b"%040d" % some.randrange(size) for _ in range(ROUND)]
        self.absent = [b"%040d" % (size + i) for i in range(ROUND)]
        gc.collect()


@pytest.mark.parametrize("size", SIZES)
def test_hits(benchmark: Any, fast: Any, size: int) -> None:
    full = Full(fast, size)
    keys, lookup = full.present, full.cache.lookup

    @benchmark
    def hits() -> None:
        for key in keys:
            lookup(key, 1)


@pytest.mark.parametrize("size", SIZES)
def test_misses(benchmark: Any, fast: Any, size: int) -> None:
    full = Full(fast, size)
    keys, lookup = full.absent, full.cache.lookup

    @benchmark
    def misses() -> None:
        for key in keys:
            lookup(key, 1)


@pytest.mark.parametrize("size", SIZES)
def test_stores_that_evict(benchmark: Any, fast: Any, size: int) -> None:
    store = Full(fast, size).cache.store
    number = size

    @benchmark
    def stores() -> None:
        nonlocal number
        for i in range(number, number + ROUND):
            store(b"%040d" % i, VALUE, 10**6, 1)
        number += ROUND


@pytest.mark.slow
def test_collecting_garbage_beside_a_million_entries(benchmark: Any, fast: Any) -> None:
    full = Full(fast, 1_000_000)
    benchmark.pedantic(gc.collect, rounds=5)
    assert len(full.cache) == 1_000_000
