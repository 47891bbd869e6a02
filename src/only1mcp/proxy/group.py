"""A group: backends that offer the same tools and are balanced as one."""

from __future__ import annotations

import random
from collections.abc import Iterable

from only1mcp.backend.endpoint import Endpoint, State
from only1mcp.backend.inventory import Inventory
from only1mcp.config.schema import LoadBalancer, ToolRules
from only1mcp.proxy.router import Balancer
from only1mcp.wire.mcp import Era

# A member costs more to look up in its class than the comparison with it.
_UP, _CONNECTING = State.UP, State.CONNECTING


class Group:
    """The endpoints that share one group id, in the order of the configuration; the tool rules are the first one's."""

    def __init__(self, id: str, endpoints: Iterable[Endpoint], settings: LoadBalancer) -> None:
        self.id = id
        self.endpoints = {endpoint.id: endpoint for endpoint in endpoints}
        weights = [(endpoint.id, endpoint.config.weight) for endpoint in self.endpoints.values()]
        # Most groups are one backend: nothing to choose, as long as its weight lets it be chosen at all.
        self._only = next(iter(self.endpoints.values())) if len(weights) == 1 and weights[0][1] > 0 else None
        # Whether there is anything to choose, and so a use for the key of a request.
        self.balances = self._only is None
        # Whether the operator trusts all of them to say which results are public.
        self.shares = all(endpoint.config.shared_cache for endpoint in self.endpoints.values())
        # The era of the group, as far as it was ever met: that of its first backend where they differ.
        self.era: Era | None = None
        for endpoint in self.endpoints.values():
            endpoint.on_era = self._learn_era
        # Picked for a key, and then not called.
        self._returned: Endpoint | None = None
        self._returned_for: bytes | None = None
        self._balancer = Balancer(settings.algorithm, weights, settings.virtual_nodes, random.Random())

    @property
    def rules(self) -> ToolRules:
        return next(iter(self.endpoints.values())).config.tools

    @property
    def source(self) -> Endpoint | None:
        """The first endpoint that has lists: those of the group."""
        return next((e for e in self.endpoints.values() if e.inventory is not None), None)

    @property
    def inventory(self) -> Inventory | None:
        source = self.source
        return None if source is None else source.inventory

    @property
    def former(self) -> Inventory | None:
        """What the group offered last, when nothing of it is left."""
        return next((e.former for e in self.endpoints.values() if e.former is not None), None)

    def pick(self, key: bytes | None, without: frozenset[str] = frozenset()) -> Endpoint | None:
        """Choose the endpoint for a call: one that is up, else one that is about to be; None when there is neither."""
        only = self._only
        if only is not None:
            state = only.state
            return only if (state is _UP or state is _CONNECTING) and only.id not in without else None
        returned, self._returned = self._returned, None
        if returned is not None and returned.state is _UP and returned.id not in without and key == self._returned_for:
            return returned
        return self._pick(key, _UP, without) or self._pick(key, _CONNECTING, without)

    def give_back(self, endpoint: Endpoint, key: bytes | None) -> None:
        """Say that the call for which the endpoint was picked has not been made, and is picked for again at once.

        Where endpoints take turns it would otherwise have had its turn. If the call is refused after all, whoever is
        picked for next may have another key, and another home.
        """
        if self._only is None:
            self._returned, self._returned_for = endpoint, key

    def _learn_era(self) -> None:
        self.era = next((e.era for e in self.endpoints.values() if e.era is not None), None)

    def _pick(self, key: bytes | None, state: State, without: frozenset[str]) -> Endpoint | None:
        endpoints = self.endpoints
        found = self._balancer.pick(
            key,
            lambda id: endpoints[id].state is state and id not in without,
            lambda id: endpoints[id].in_flight,
        )
        return None if found is None else endpoints[found]


class Pinned(Group):
    """One endpoint of a group, whatever its weight, for what the others know nothing of."""

    def __init__(self, group: Group, endpoint: Endpoint) -> None:
        self.id = group.id
        self.endpoints = {endpoint.id: endpoint}
        self.era = endpoint.era
        self.balances = False
        self.shares = False
        self._only = endpoint
        self._balancer = group._balancer


def make_groups(endpoints: Iterable[Endpoint], settings: LoadBalancer) -> dict[str, Group]:
    """Return the groups by id, in the order in which their first backend is configured."""
    members: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        members.setdefault(endpoint.config.group or endpoint.id, []).append(endpoint)
    return {id: Group(id, some, settings) for id, some in members.items()}
