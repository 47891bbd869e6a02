"""A cache that is full: hits, misses, and stores that evict."""

from __future__ import annotations

from typing import Any

KEYS = [b"%040d" % i for i in range(2000)]
VALUE = b"v" * 2000


def full(fast: Any) -> Any:
    cache = fast.LRU(1000 * (len(VALUE) + 40 + fast.LRU.ENTRY_OVERHEAD))
    for key in KEYS:
        cache.store(key, VALUE, 10**6, 0)
    assert len(cache) == 1000
    return cache


def test_hits(benchmark: Any, fast: Any) -> None:
    cache = full(fast)
    lookup = cache.lookup

    @benchmark
    def hits() -> None:
        for key in KEYS[1000:]:
            lookup(key, 1)


def test_misses(benchmark: Any, fast: Any) -> None:
    lookup = full(fast).lookup

    @benchmark
    def misses() -> None:
        for key in KEYS[:1000]:
            lookup(key, 1)


def test_stores(benchmark: Any, fast: Any) -> None:
    store = full(fast).store

    @benchmark
    def stores() -> None:
        for key in KEYS:
            store(key, VALUE, 10**6, 1)
