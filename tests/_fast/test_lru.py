"""The cache against a plain model of what it must hold."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FOREVER = 2**63 - 1


class Model:
    """An obvious LRU: a list from the least to the most recently used."""

    def __init__(self, limit_bytes: int, overhead: int) -> None:
        self.limit_bytes = limit_bytes
        self.overhead = overhead
        self.entries: list[tuple[bytes, bytes, int]] = []
        self.evictions = 0

    @property
    def used_bytes(self) -> int:
        return sum(len(key) + len(value) + self.overhead for key, value, _ in self.entries)

    def discard(self, key: bytes) -> bool:
        before = len(self.entries)
        self.entries = [entry for entry in self.entries if entry[0] != key]
        return len(self.entries) < before

    def lookup(self, key: bytes, now_ms: int) -> bytes | None:
        for entry in self.entries:
            if entry[0] == key:
                self.entries.remove(entry)
                if entry[2] <= now_ms:
                    return None
                self.entries.append(entry)
                return entry[1]
        return None

    def store(self, key: bytes, value: bytes, ttl_ms: int, now_ms: int) -> bool:
        self.discard(key)
        if len(key) + len(value) + self.overhead > self.limit_bytes or ttl_ms <= 0:
            return False
        self.entries.append((key, value, min(now_ms + ttl_ms, FOREVER)))
        while self.used_bytes > self.limit_bytes:
            del self.entries[0]
            self.evictions += 1
        return True

    def clear(self) -> int:
        count = len(self.entries)
        self.entries = []
        return count


keys = st.sampled_from([b"", b"a", b"b", b"c", b"dd", b"e" * 50])
times = st.integers(0, 50)
operations = st.one_of(
    st.tuples(st.just("lookup"), keys, times),
    st.tuples(
        st.just("store"),
        keys,
        st.binary(max_size=3) | st.sampled_from([b"v" * 200, b"v" * 700, b"v" * 5000]),
        st.integers(-1, 40) | st.just(FOREVER),
        times,
    ),
    st.tuples(st.just("discard"), keys),
    st.tuples(st.just("clear")),
)


@given(limit=st.sampled_from([0, 319, 320, 370, 700, 1000, 1500, 4000]), steps=st.lists(operations, max_size=40))
def test_model(both: Any, limit: int, steps: list[tuple[Any, ...]]) -> None:
    for fast in both:
        cache = fast.LRU(limit)
        model = Model(limit, fast.LRU.ENTRY_OVERHEAD)
        for name, *arguments in steps:
            assert getattr(cache, name)(*arguments) == getattr(model, name)(*arguments)
            assert len(cache) == len(model.entries)
            assert cache.used_bytes == model.used_bytes <= cache.limit_bytes == limit
            assert cache.evictions == model.evictions


def test_the_least_recently_used_makes_room(fast: Any) -> None:
    cache = fast.LRU(3 * (fast.LRU.ENTRY_OVERHEAD + 2))
    for key in (b"a", b"b", b"c"):
        assert cache.store(key, b"v", 1000, 0)
    assert cache.lookup(b"a", 1) == b"v"
    assert cache.store(b"d", b"v", 1000, 2)
    assert [cache.lookup(key, 3) for key in (b"a", b"b", b"c", b"d")] == [b"v", None, b"v", b"v"]
    assert cache.evictions == 1


def test_an_entry_lives_less_than_its_ttl(fast: Any) -> None:
    cache = fast.LRU(10_000)
    assert cache.store(b"a", b"v", 10, 5)
    assert cache.lookup(b"a", 14) == b"v"
    assert cache.lookup(b"a", 15) is None
    assert len(cache) == cache.used_bytes == cache.evictions == 0


def test_what_cannot_be_kept_replaces_the_older_value_all_the_same(fast: Any) -> None:
    cache = fast.LRU(1000)
    for value, ttl in ((b"x" * 1000, 10), (b"x", 0), (b"x", -1)):
        assert cache.store(b"a", b"old", 1000, 0)
        assert not cache.store(b"a", value, ttl, 0)
        assert cache.lookup(b"a", 0) is None
        assert cache.used_bytes == 0


def test_a_cache_of_no_size_keeps_nothing(fast: Any) -> None:
    cache = fast.LRU(0)
    assert not cache.store(b"", b"", 1000, 0)
    with pytest.raises(ValueError, match="limit_bytes"):
        fast.LRU(-1)


def test_the_figures_are_read_only_in_the_compiled_twin(both: Any) -> None:
    cache = both[1].LRU(1)
    for name in ("limit_bytes", "used_bytes", "evictions"):
        with pytest.raises(AttributeError):
            setattr(cache, name, 1)


def test_memory_stays_within_the_budget(fast: Any) -> None:
    limit = 2_000_000
    gc.collect()
    tracemalloc.start()
    try:
        cache = fast.LRU(limit)
        for i in range(30_000):
            cache.store(b"key-%d" % i, b"value-%d" % i, 1000, 0)
        kept = tracemalloc.get_traced_memory()[0]
        assert len(cache) > 5_000
        assert kept < limit * 1.05  # the overhead that an entry is charged covers what it costs
        cache.clear()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < kept / 5
    finally:
        tracemalloc.stop()
