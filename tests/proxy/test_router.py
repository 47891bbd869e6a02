"""Routing within a group: shares, turns, stability, and members that must not be called."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.proxy.router import ALGORITHMS, Balancer

KEYS = [b"key-%d" % i for i in range(2000)]


def balancer(algorithm: str, *members: tuple[str, int], seed: int = 1) -> Balancer:
    return Balancer(algorithm, members, 200, random.Random(seed))


def always(id: str) -> bool:
    return True


def idle(id: str) -> int:
    return 0


def picks(balancer: Balancer, count: int = 2000, down: frozenset[str] = frozenset()) -> Counter[str | None]:
    return Counter(balancer.pick(KEYS[i % 2000], lambda id: id not in down, idle) for i in range(count))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equal_members_share_alike(algorithm: str) -> None:
    shares = picks(balancer(algorithm, ("a", 100), ("b", 100), ("c", 100), ("d", 100)))
    assert set(shares) == {"a", "b", "c", "d"}
    assert all(350 < share < 650 for share in shares.values()), shares


@pytest.mark.parametrize("algorithm", ["round_robin", "least_connections", "weighted_random", "consistent_hash"])
def test_weights_are_shares(algorithm: str) -> None:
    shares = picks(balancer(algorithm, ("a", 100), ("b", 50), ("c", 50)))
    assert 850 < shares["a"] < 1150, shares
    assert 350 < shares["b"] < 650, shares


def test_random_disregards_weights_but_zero() -> None:
    shares = picks(balancer("random", ("a", 100), ("b", 1), ("c", 0)))
    assert 850 < shares["b"] < 1150
    assert "c" not in shares


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_drained_or_unusable_member_gets_no_call(algorithm: str) -> None:
    subject = balancer(algorithm, ("a", 100), ("drained", 0), ("b", 100), ("down", 100))
    assert set(picks(subject, down=frozenset({"down"}))) == {"a", "b"}
    assert set(picks(subject, down=frozenset({"down", "a"}))) == {"b"}
    assert set(picks(subject, down=frozenset({"down", "a", "b"}))) == {None}
    assert set(picks(subject)) == {"a", "b", "down"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_to_pick_from(algorithm: str) -> None:
    assert balancer(algorithm).pick(b"k", always, idle) is None
    assert balancer(algorithm, ("a", 0)).pick(b"k", always, idle) is None
    assert balancer(algorithm, ("a", 1)).pick(None, always, idle) == "a"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_picks(algorithm: str) -> None:
    runs = []
    for _ in range(2):
        subject = balancer(algorithm, ("a", 3), ("b", 5), ("c", 9), seed=7)
        runs.append([subject.pick(key, always, idle) for key in KEYS[:200]])
    assert runs[0] == runs[1]


def test_round_robin_takes_turns_and_spreads_them() -> None:
    plain = balancer("round_robin", ("a", 100), ("b", 100), ("c", 100))
    assert [plain.pick(None, always, idle) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    weighted = balancer("round_robin", ("a", 50), ("b", 10), ("c", 10))
    assert [weighted.pick(None, always, idle) for _ in range(7)] == ["a", "a", "b", "a", "c", "a", "a"]


def test_least_connections_takes_the_least_loaded_for_its_weight() -> None:
    subject = balancer("least_connections", ("a", 100), ("b", 100), ("c", 50))
    load = {"a": 3, "b": 2, "c": 2}
    assert subject.pick(None, always, load.__getitem__) == "b"
    assert subject.pick(None, lambda id: id != "b", load.__getitem__) == "a"
    load["c"] = 0
    assert subject.pick(None, always, load.__getitem__) == "c"


def test_least_connections_breaks_ties_in_turn() -> None:
    subject = balancer("least_connections", ("a", 100), ("b", 100), ("c", 100))
    load = {"a": 1, "b": 1, "c": 7}
    assert Counter(subject.pick(None, always, load.__getitem__) for _ in range(100)) == {"a": 50, "b": 50}


def test_least_connections_keeps_loads_level_as_calls_come_and_go() -> None:
    subject = balancer("least_connections", ("a", 100), ("b", 100), ("c", 100))
    rng = random.Random(3)
    load = {"a": 0, "b": 0, "c": 0}
    for _ in range(3000):
        picked = subject.pick(None, always, load.__getitem__)
        assert picked is not None
        load[picked] += 1
        if sum(load.values()) > 30:
            load[rng.choice([id for id in load if load[id]])] -= 1
    assert max(load.values()) - min(load.values()) <= 4


def test_consistent_hash_keeps_a_key_where_it_is() -> None:
    members = [("a", 100), ("b", 100), ("c", 100), ("d", 100)]
    subject = balancer("consistent_hash", *members)
    before = {key: subject.pick(key, always, idle) for key in KEYS}
    assert {key: balancer("consistent_hash", *reversed(members)).pick(key, always, idle) for key in KEYS} == before
    without = {key: subject.pick(key, lambda id: id != "d", idle) for key in KEYS}
    removed = balancer("consistent_hash", *members[:3])
    for key in KEYS:
        if before[key] != "d":
            assert without[key] == before[key]
        assert removed.pick(key, always, idle) == without[key]
    moved = [key for key in KEYS if before[key] == "d"]
    assert {without[key] for key in moved} == {"a", "b", "c"}


@pytest.mark.parametrize("up", [frozenset(), frozenset({"b-50"}), frozenset({"b-3", "light"})])
def test_each_member_is_asked_after_at_most_twice_however_many_are_down(up: frozenset[str]) -> None:
    members = [(f"b-{i}", 100) for i in range(100)] + [("light", 1)]
    subject = balancer("consistent_hash", *members)
    for key in KEYS[:20]:
        asked: list[str] = []

        def usable(id: str, asked: list[str] = asked) -> bool:
            asked.append(id)
            return id in up

        assert subject.pick(key, usable, idle) in (up or {None})
        assert len(asked) <= len(members) + 1


def test_consistent_hash_without_a_key_goes_round_robin() -> None:
    subject = balancer("consistent_hash", ("a", 100), ("b", 100))
    assert [subject.pick(None, always, idle) for _ in range(4)] == ["a", "b", "a", "b"]


@given(
    st.sampled_from(ALGORITHMS),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100)),
    st.sets(st.sampled_from("abcdef")),
    st.lists(st.none() | st.binary(max_size=8), max_size=20),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5)),
)
def test_only_members_that_may_be_called_are_picked(
    algorithm: str, members: dict[str, int], down: set[str], keys: list[bytes | None], load: dict[str, int]
) -> None:
    subject = Balancer(algorithm, list(members.items()), 10, random.Random(0))
    allowed = {id for id, weight in members.items() if weight and id not in down}
    for key in keys:
        picked = subject.pick(key, lambda id: id not in down, lambda id: load.get(id, 0))
        assert picked in allowed if allowed else picked is None


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="round_robin"):
        Balancer("fastest", [("a", 1)])
    with pytest.raises(ValueError, match="distinct"):
        Balancer("random", [("a", 1), ("a", 2)])
