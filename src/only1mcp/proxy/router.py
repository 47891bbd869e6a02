"""Which endpoint of a group takes the next call."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from only1mcp._fast import Ring

ALGORITHMS: Final = ("round_robin", "least_connections", "random", "weighted_random", "consistent_hash")

Usable = Callable[[str], bool]
InFlight = Callable[[str], int]


class Balancer:
    """Picks one of `members`, `(id, weight 0-100)` pairs; a member of weight 0 is drained and gets no new call.

    - `round_robin`: in turn, in proportion to the weights and as evenly spread as they allow
    - `least_connections`: the fewest calls in flight for its weight; equal ones in turn
    - `random`: any, all alike whatever their weight
    - `weighted_random`: any, in proportion to the weights
    - `consistent_hash`: the same member for the same key, in proportion to the weights (`virtual_nodes` points on the
      ring for each ten of them); when that member cannot be used, the next one on the ring, so that only its keys
      move; calls without a key go round robin

    Immutable but for the turn: a change of members or weights is a new balancer.
    """

    def __init__(
        self,
        algorithm: str,
        members: Sequence[tuple[str, int]],
        virtual_nodes: int = 200,
        rng: random.Random | None = None,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"expected one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
        if len({id for id, _ in members}) != len(members):
            raise ValueError("the ids of members must be distinct")
        self.algorithm = algorithm
        self._weights = {id: weight for id, weight in members if weight > 0}
        self._rng = rng if rng is not None else random.Random()
        consistent = algorithm == "consistent_hash" and len(self._weights) > 1
        self._ring = Ring(list(members), virtual_nodes) if consistent else None
        self._turn = dict.fromkeys(self._weights, 0)

    def pick(self, key: bytes | None, usable: Usable, in_flight: InFlight) -> str | None:
        """Return the id of the member to call, or None when none can be used.

        `usable` says whether a member may be called now, `in_flight` how many of its calls are unanswered; `key` is
        what consistent hashing goes by.
        """
        if self._ring is not None and key is not None:
            first = self._ring.lookup(key)
            if first is None or usable(first):
                return first
        candidates = [id for id in self._weights if usable(id)]
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        if self._ring is not None and key is not None:
            return next(id for id in self._ring.successors(key) if id in candidates)
        if self.algorithm == "random":
            return self._rng.choice(candidates)
        if self.algorithm == "weighted_random":
            return self._rng.choices(candidates, [self._weights[id] for id in candidates])[0]
        if self.algorithm == "least_connections":
            loads = {id: in_flight(id) / self._weights[id] for id in candidates}
            least = min(loads.values())
            candidates = [id for id in candidates if loads[id] == least]
        return self._next_in_turn(candidates)

    def _next_in_turn(self, candidates: list[str]) -> str:
        """Smooth weighted round robin: each gains its weight, the richest is picked and pays what all gained."""
        turn = self._turn
        for id in candidates:
            turn[id] += self._weights[id]
        picked = max(candidates, key=turn.__getitem__)
        turn[picked] -= sum(self._weights[id] for id in candidates)
        return picked
