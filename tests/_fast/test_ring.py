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


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 10, 16, 25, 50, 75, 100])
def test_a_node_that_leaves_or_joins_moves_its_share_and_nothing_else(both: Any, count: int) -> None:
    """Ten thousand keys a node: a share is known to 1 %. Joining is leaving, read backwards."""
    ring = both[1].Ring
    keys = [b"key-%d" % i for i in range(10_000 * count)]
    before = list(map(ring(equal(count)).lookup, keys))
    for i in {0, 1, count // 2, count - 1}:
        nodes = equal(count)
        left, _ = nodes.pop(i)
        after = map(ring(nodes).lookup, keys)
        moved = [old for old, new in zip(before, after, strict=True) if old != new]
        assert set(moved) == {left}
        assert len(moved) <= 1.1 / count * len(keys)
    shares = Counter(before)
    assert len(shares) == count
    # Whichever node it is that leaves.
    assert max(shares.values()) <= 1.1 / count * len(keys)
    assert min(shares.values()) >= 0.9 / count * len(keys)


def test_a_node_out_of_use_passes_its_keys_to_their_next_node(fast: Any) -> None:
    nodes = equal(5)
    ring = fast.Ring(nodes)
    without = fast.Ring(nodes[1:])
    for key in KEYS[:2000]:
        assert without.lookup(key) == next(id for id in ring.successors(key) if id != "backend-0")


@pytest.mark.parametrize(
    "weights", [[100, 50, 100, 0], [100, 10, 1], [1, 2, 3, 4], [100, 90, 80, 70, 60, 50, 40, 30, 20, 10], [7] * 9]
)
def test_shares_follow_weights(both: Any, weights: list[int]) -> None:
    keys = [b"key-%d" % i for i in range(200_000)]
    nodes = [(f"backend-{i}", weight) for i, weight in enumerate(weights)]
    shares = Counter(map(both[1].Ring(nodes).lookup, keys))
    for id, weight in nodes:
        points = weight * 20
        due = weight / sum(weights)
        # Three times what a share is expected to stray by: one in the square root of its points.
        assert abs(shares[id] / len(keys) - due) <= due * 3 / max(1, points) ** 0.5


def test_a_lower_weight_takes_nothing_from_others(fast: Any) -> None:
    before = owners(fast.Ring([("a", 100), ("b", 100)]))
    after = owners(fast.Ring([("a", 100), ("b", 30)]))
    assert {(old, new) for old, new in zip(before, after, strict=True) if old != new} == {("b", "a")}


def test_the_least_weight_has_one_point(fast: Any) -> None:
    assert "b" in fast.Ring([("a", 100), ("b", 1)], 1).successors(b"key")


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
