"""Groups: who belongs together, whose lists count, and who takes a call."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.proxy.offers import groups_of, offer

from only1mcp.backend.endpoint import State
from only1mcp.config.schema import LoadBalancer, ToolRules
from only1mcp.proxy.group import Pinned, make_groups


def test_groups_are_in_the_order_of_their_first_backend() -> None:
    groups = groups_of(offer("a", group="x"), offer("b"), offer("c", group="x"), offer("d", group="a"))
    assert {id: list(group.endpoints) for id, group in groups.items()} == {"x": ["a", "c"], "b": ["b"], "a": ["d"]}
    assert list(groups) == ["x", "b", "a"]


def test_lists_are_the_first_ones_that_exist_and_rules_the_first_ones() -> None:
    first = offer("a", group="x", tools=["one"], rules=ToolRules(deny=("z",)))
    second = offer("b", group="x", tools=["two"])
    group = groups_of(first, second)["x"]
    assert group.inventory is first.inventory
    first.inventory = None
    assert group.inventory is second.inventory
    second.inventory = None
    assert group.inventory is None
    assert group.rules.deny == ("z",)


ALGORITHMS = ["round_robin", "least_connections", "random", "weighted_random", "consistent_hash"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key", [None, b"k"])
def test_picks_who_is_up_then_who_is_about_to_be(algorithm: str, key: bytes | None) -> None:
    a, b, c = (offer(id, group="x") for id in "abc")
    group = make_groups([a, b, c], LoadBalancer(algorithm=algorithm))["x"]  # type: ignore[arg-type]
    a.state, b.state, c.state = State.DOWN, State.CONNECTING, State.UP
    assert {group.pick(key) for _ in range(20)} == {c}
    assert group.pick(key, frozenset("c")) is b
    assert group.pick(key, frozenset("bc")) is None
    c.state = State.CLOSED
    assert group.pick(key) is b
    b.state = State.DOWN
    assert group.pick(key) is None


def test_a_key_keeps_its_endpoint_and_fewer_calls_count() -> None:
    endpoints = [offer(id, group="x") for id in "abc"]
    group = make_groups(endpoints, LoadBalancer(algorithm="consistent_hash"))["x"]
    homes = {key: group.pick(b"%d" % key) for key in range(50)}
    assert len(set(homes.values())) == 3
    assert all(group.pick(b"%d" % key) is home for key, home in homes.items())
    group = make_groups(endpoints, LoadBalancer(algorithm="least_connections"))["x"]
    endpoints[0].in_flight = endpoints[2].in_flight = 5
    assert group.pick(None) is endpoints[1]


def test_a_pick_that_was_not_used_is_the_next_one() -> None:
    endpoints = [offer(id, group="x") for id in "abc"]
    group = make_groups(endpoints, LoadBalancer(algorithm="round_robin"))["x"]
    first = group.pick(None)
    assert first is not None
    group.give_back(first, None)
    assert [group.pick(None) for _ in range(6)] == [*endpoints, *endpoints]
    group.give_back(endpoints[0], None)
    assert group.pick(None, frozenset("a")) is not endpoints[0]
    group.give_back(endpoints[0], None)
    endpoints[0].state = State.DOWN
    assert group.pick(None) is not endpoints[0]


@pytest.mark.parametrize("algorithm", ["consistent_hash", "least_connections"])
def test_a_pick_that_was_not_used_is_not_for_another_key(algorithm: str) -> None:
    endpoints = [offer(id, group="x") for id in "abc"]
    group = make_groups(endpoints, LoadBalancer(algorithm=algorithm))["x"]  # type: ignore[arg-type]
    homes = {key: group.pick(key) for key in (b"%d" % number for number in range(50))}
    for endpoint in endpoints:
        endpoint.in_flight = 5
    endpoints[1].in_flight = 0
    wanted = endpoints[1] if algorithm == "least_connections" else homes[b"7"]
    other = next(key for key, home in homes.items() if home is not wanted)
    returned = homes[other]
    assert returned is not None
    group.give_back(returned, other)
    assert group.pick(b"7") is wanted
    group.give_back(returned, other)
    assert group.pick(other) is returned


def test_a_group_of_one_has_no_turns_to_give_back() -> None:
    (only,) = endpoints = [offer("a")]
    group = make_groups(endpoints, LoadBalancer())["a"]
    group.give_back(only, None)
    only.state = State.DOWN
    assert group.pick(None) is None


def test_a_pinned_endpoint_is_taken_whatever_its_weight_and_never_another() -> None:
    a, b = offer("a", group="x"), offer("b", group="x")
    group = groups_of(a, b)["x"]
    a.config = replace(a.config, weight=0)
    pinned = Pinned(group, a)
    assert (pinned.id, pinned.pick(b"k"), pinned.source, pinned.balances) == ("x", a, a, False)
    assert pinned.pick(None, frozenset("a")) is None
    a.state = State.DOWN
    assert pinned.pick(None) is None
    assert group.pick(None) is b
