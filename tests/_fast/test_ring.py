"""Consistent hashing: every key has a node, shares follow weights, and only the keys that must move do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

KEYS = [f"key-{i}".encode() for i in range(20_000)]


def owners(ring: Any) -> list[str]:
    return [ring.lookup(key) for key in KEYS]


def equal(count: int) -> list[tuple[str, int]]:
    return [(f"backend-{i}", 100) for i in range(count)]


@pytest.mark.parametrize("nodes", [[], [("a", 0)], [("a", 0), ("b", 0)]])
def test_no_node_has_any_weight(fast: Any, nodes: list[tuple[str, int]]) -> None:
    ring = fast.Ring(nodes)
    assert ring.lookup(b"key") is None
    assert list(ring.successors(b"key")) == []


def test_one_node_has_every_key(fast: Any) -> None:
    assert set(owners(fast.Ring([("a", 1), ("b", 0)]))) == {"a"}


def test_order_of_nodes_does_not_matter(fast: Any) -> None:
    nodes = [("a", 100), ("b", 50), ("c", 7), ("d", 100)]
    assert owners(fast.Ring(nodes)) == owners(fast.Ring(nodes[::-1]))


@pytest.mark.parametrize("count", [2, 3, 5, 10, 25])
def test_only_the_keys_of_a_leaving_node_move(fast: Any, count: int) -> None:
    nodes = equal(count)
    before = owners(fast.Ring(nodes))
    moved = 0
    for node in nodes:
        after = owners(fast.Ring([other for other in nodes if other != node]))
        changed = [old for old, new in zip(before, after, strict=True) if old != new]
        assert set(changed) == {node[0]}
        # With 200 points a share varies by about 1/sqrt(200) = 7 %: none strays by more than four times that.
        assert len(changed) / len(KEYS) <= 1.3 / count
        moved += len(changed)
    assert moved / count / len(KEYS) <= 1.1 / count


@pytest.mark.parametrize("count", [2, 3, 5, 10, 25])
def test_a_joining_node_takes_its_share_and_nothing_else_moves(fast: Any, count: int) -> None:
    before = owners(fast.Ring(equal(count - 1)))
    shares = []
    for name in ("new-1", "new-2", "new-3", "new-4"):
        after = owners(fast.Ring([*equal(count - 1), (name, 100)]))
        changed = [new for old, new in zip(before, after, strict=True) if old != new]
        assert set(changed) == {name}
        shares.append(len(changed) / len(KEYS))
    assert sum(shares) / len(shares) <= 1.2 / count


def test_a_node_out_of_use_passes_its_keys_to_their_next_node(fast: Any) -> None:
    nodes = equal(5)
    ring = fast.Ring(nodes)
    without = fast.Ring(nodes[1:])
    for key in KEYS[:2000]:
        assert without.lookup(key) == next(id for id in ring.successors(key) if id != "backend-0")


def test_shares_follow_weights(fast: Any) -> None:
    shares = Counter(owners(fast.Ring([("a", 100), ("b", 50), ("c", 100), ("off", 0)], 500)))
    assert "off" not in shares
    assert 0.33 < shares["a"] / len(KEYS) < 0.47
    assert 0.15 < shares["b"] / len(KEYS) < 0.25


def test_a_lower_weight_takes_nothing_from_others(fast: Any) -> None:
    before = owners(fast.Ring([("a", 100), ("b", 100)]))
    after = owners(fast.Ring([("a", 100), ("b", 30)]))
    assert {(old, new) for old, new in zip(before, after, strict=True) if old != new} == {("b", "a")}


def test_the_least_weight_has_one_point(fast: Any) -> None:
    assert "b" in fast.Ring([("a", 100), ("b", 1)], 10).successors(b"key")


def test_successors_are_distinct_and_complete(fast: Any) -> None:
    ids = {id for id, _ in equal(8)}
    ring = fast.Ring([*equal(8), ("off", 0)])
    for key in KEYS[:500]:
        order = list(ring.successors(key))
        assert order[0] == ring.lookup(key)
        assert len(order) == 8
        assert set(order) == ids


@pytest.mark.parametrize(
    ("nodes", "virtual_nodes"), [([("a", 101)], 200), ([("a", -1)], 200), ([("a", 1), ("a", 2)], 200), ([("a", 1)], 0)]
)
def test_refused(fast: Any, nodes: list[tuple[str, int]], virtual_nodes: int) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        fast.Ring(nodes, virtual_nodes)


@given(
    st.dictionaries(st.text(max_size=8), st.integers(0, 100), max_size=6),
    st.integers(1, 30),
    st.lists(st.binary(max_size=20), max_size=20),
)
def test_twins_agree(both: Any, nodes: dict[str, int], virtual_nodes: int, keys: list[bytes]) -> None:
    oracle, compiled = (fast.Ring(list(nodes.items()), virtual_nodes) for fast in both)
    for key in keys:
        assert compiled.lookup(key) == oracle.lookup(key)
        assert list(compiled.successors(key)) == list(oracle.successors(key))
