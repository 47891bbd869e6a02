"""The cache against a plain model of what it must hold."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOREVER = 2**63 - 1


class Model:
    """An obvious LRU: a list from the least to the most recently used, and one in the order of the sweeping hand."""

    def __init__(self, limit_bytes: int, overhead: int) -> None:
        self.limit_bytes = limit_bytes
        self.overhead = overhead
        self.entries: list[tuple[bytes, bytes, int]] = []
        self.places: list[bytes] = []
        self.hand = 0
        self.evictions = 0

    @property
    def used_bytes(self) -> int:
        return sum(len(key) + len(value) + self.overhead for key, value, _ in self.entries)

    def discard(self, key: bytes) -> bool:
        if key not in self.places:
            return False
        self.entries = [entry for entry in self.entries if entry[0] != key]
        last = self.places.pop()
        if last != key:
            self.places[self.places.index(key)] = last
        return True

    def lookup(self, key: bytes, now_ms: int) -> bytes | None:
        for entry in self.entries:
            if entry[0] == key:
                if entry[2] <= now_ms:
                    self.discard(key)
                    return None
                self.entries.remove(entry)
                self.entries.append(entry)
                return entry[1]
        return None

    def store(self, key: bytes, value: bytes, ttl_ms: int, now_ms: int) -> bool:
        self.discard(key)
        self.sweep(now_ms, 2)
        if len(key) + len(value) + self.overhead > self.limit_bytes or ttl_ms <= 0:
            return False
        while self.used_bytes + len(key) + len(value) + self.overhead > self.limit_bytes:
            self.discard(self.entries[0][0])
            self.evictions += 1
        self.entries.append((key, value, min(now_ms + ttl_ms, FOREVER)))
        self.places.append(key)
        return True

    def sweep(self, now_ms: int, steps: int) -> int:
        before = len(self.places)
        for _ in range(steps if self.places else 0):
            self.hand = self.hand if self.hand < len(self.places) else 0
            key = self.places[self.hand] if self.places else None
            if any(key == entry[0] and entry[2] <= now_ms for entry in self.entries):
                assert key is not None
                self.discard(key)
            elif self.places:
                self.hand += 1
        return before - len(self.places)

    def clear(self) -> int:
        count = len(self.entries)
        self.entries = []
        self.places = []
        self.hand = 0
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
    st.tuples(st.just("sweep"), times, st.integers(-1, 8)),
    st.tuples(st.just("clear")),
)
limits = st.tuples(st.integers(0, 6), st.sampled_from([-1, 0, 1, 5, 60, 200, 1000]))


@given(room=limits, steps=st.lists(operations, max_size=40))
def test_model(both: Any, room: tuple[int, int], steps: list[tuple[Any, ...]]) -> None:
    for fast in both:
        limit = max(0, room[0] * fast.LRU.ENTRY_OVERHEAD + room[1])
        cache = fast.LRU(limit)
        model = Model(limit, fast.LRU.ENTRY_OVERHEAD)
        for name, *arguments in steps:
            assert getattr(cache, name)(*arguments) == getattr(model, name)(*arguments)
            assert len(cache) == len(model.entries)
            assert cache.used_bytes == model.used_bytes <= cache.limit_bytes == limit
            assert cache.evictions == model.evictions


# (what, first key, how many, time): enough of them to have blocks of entries and buckets come and go.
bulk = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "lookup", "discard", "sweep"]),
        st.integers(0, 6000),
        st.integers(1, 5000),
        st.integers(0, 20),
    ),
    max_size=6,
)


@settings(max_examples=40)
@given(steps=bulk, entries=st.sampled_from([100, 3000, 20_000]))
def test_twins_agree_on_thousands_of_entries(both: Any, steps: list[tuple[str, int, int, int]], entries: int) -> None:
    caches = [fast.LRU(entries * (fast.LRU.ENTRY_OVERHEAD + 8)) for fast in both]
    outcomes: list[list[Any]] = []
    for cache in caches:
        outcomes.append([])
        for what, first, count, now_ms in steps:
            numbers = [b"%04x" % (i * 7919 % 10_007) for i in range(first, first + count)]
            if what == "store":
                done = [cache.store(key, key, 1 + i % 15, now_ms) for i, key in enumerate(numbers)]
            elif what == "lookup":
                done = [cache.lookup(key, now_ms) for key in numbers]
            elif what == "discard":
                done = [cache.discard(key) for key in numbers]
            else:
                done = [cache.sweep(now_ms, count)]
            outcomes[-1] += [*done, len(cache), cache.evictions]
        outcomes[-1].append([cache.lookup(b"%04x" % i, 0) for i in range(10_007)])
        assert cache.clear() + cache.clear() == sum(value is not None for value in outcomes[-1][-1])
    assert outcomes[0] == outcomes[1]


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


def test_stores_sweep_away_what_nobody_asks_for_any_more(fast: Any) -> None:
    cache = fast.LRU(10**9)
    for i in range(1000):
        assert cache.store(b"brief %d" % i, b"v", 10, 0)
    for i in range(1000):
        assert cache.store(b"lasting %d" % i, b"v", 1000, 10)
    assert len(cache) == 1000
    assert cache.evictions == 0
    assert cache.sweep(1009, 5000) == 0
    assert cache.sweep(1010, 400) == 400
    assert cache.sweep(1010, 5000) == 600
    assert len(cache) == cache.used_bytes == 0


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
        assert limit * 0.4 < kept < limit * 1.05  # the overhead that an entry is charged covers what it costs
        cache.clear()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < kept / 5
    finally:
        tracemalloc.stop()


def test_many_small_entries_leave_no_memory_behind_when_large_ones_come(both: Any) -> None:
    limit = 10_000_000
    tracemalloc.start()
    try:
        cache = both[1].LRU(limit)
        for i in range(60_000):
            cache.store(b"%d" % i, b"", 1000, 0)
        assert len(cache) > 50_000
        for i in range(100):
            cache.store(b"large %d" % i, bytes(200_000), 1000, 0)
        assert tracemalloc.get_traced_memory()[0] < limit * 1.02
    finally:
        tracemalloc.stop()


def test_grows_and_shrinks_with_its_entries(both: Any) -> None:
    keys = [b"%d" % (i * 7919 % 20_011) for i in range(20_000)]
    tracemalloc.start()
    try:
        cache = both[1].LRU(10**9)
        for _ in range(2):
            for key in keys:
                cache.store(key, key, 1000, 0)
            full = tracemalloc.get_traced_memory()[0]
            for i, key in enumerate(keys):
                if i % 2000 == 0:
                    assert [cache.lookup(key, 0) for key in keys] == [None] * i + keys[i:]
                assert cache.discard(key)
            assert len(cache) == 0
            assert tracemalloc.get_traced_memory()[0] < full / 15
    finally:
        tracemalloc.stop()


def test_the_garbage_collector_sees_no_entry(both: Any) -> None:
    cache = both[1].LRU(10**9)
    gc.collect()
    before = len(gc.get_objects())
    for i in range(100_000):
        cache.store(b"key-%d" % i, b"value-%d" % i, 1000, 0)
    assert not gc.is_tracked(cache)
    assert len(gc.get_objects()) - before < 100
    assert len(cache) == 100_000


class Tracked(bytes):
    """Bytes that the collector would have to visit."""


def test_only_plain_bytes_are_kept_in_the_compiled_twin(both: Any) -> None:
    cache = both[1].LRU(10_000)
    for key, value in (
        (Tracked(b"a"), b"v"),
        (b"a", Tracked(b"v")),
        (bytearray(b"a"), b"v"),
        (None, b"v"),
        (b"a", None),
    ):
        with pytest.raises(TypeError):
            cache.store(key, value, 1, 0)
    assert len(cache) == 0


def test_references_are_given_back(both: Any) -> None:
    lru = both[1].LRU
    cache = lru(lru.ENTRY_OVERHEAD + 100)
    key, value, other = (b"%d" % i * 20 for i in (11, 12, 13))

    def references() -> list[int]:
        return [sys.getrefcount(thing) for thing in (key, value)]

    without = references()
    kept = [count + 1 for count in without]

    def store(cache: Any) -> None:
        assert cache.store(key, value, 10, 0)
        assert references() == kept

    store(cache)
    store(cache)
    assert cache.lookup(key, 1) is value
    assert references() == kept
    losses: list[Callable[[Any], object]] = [
        lambda cache: cache.discard(key),
        lambda cache: cache.lookup(key, 10),
        lambda cache: cache.sweep(10, 1),
        lambda cache: cache.store(key, value, 0, 0),
        lambda cache: cache.store(other, other, 10, 0),
        lambda cache: cache.clear(),
    ]
    for lose in losses:
        lose(cache)
        assert references() == without
        store(cache)
    del cache
    assert references() == without
