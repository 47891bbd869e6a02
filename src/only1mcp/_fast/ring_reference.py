"""The plain-Python twin of ring.pyx: consistent hashing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

import xxhash

# A node has `virtual_nodes` points for each ten of its weight: 2,000 of them by default. Shares then stray by 2 % (one
# in the square root of the points), so that hardly any node has a tenth more than its due; with 200 points it would be
# one node in twelve. A point takes 12 bytes.
WEIGHT_UNIT: Final = 10


class Ring:
    """Consistent hashing: a key keeps its node while other nodes come and go.

    `nodes` are distinct `(id, weight 0-100)` pairs; a node has `virtual_nodes` points on the ring for each ten of its
    weight (at least one), one of weight 0 none.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], virtual_nodes: int = 200) -> None:
        if virtual_nodes < 1:
            raise ValueError(f"virtual_nodes must be at least 1, got {virtual_nodes!r}")
        if len({id for id, _ in nodes}) != len(nodes):
            raise ValueError("the ids of nodes must be distinct")
        for id, weight in nodes:
            if not 0 <= weight <= 100:
                raise ValueError(f"the weight of {id!r} must be 0-100, got {weight!r}")
        points = sorted(
            (xxhash.xxh3_64_intdigest(f"{id}#{i}".encode()), id)
            for id, weight in nodes
            for i in range(max(1, virtual_nodes * weight // WEIGHT_UNIT) if weight else 0)
        )
        self._hashes = [point for point, _ in points]
        self._owners = [id for _, id in points]
        self._used = len(set(self._owners))

    def lookup(self, key: bytes) -> str | None:
        """Return the node of `key`, or None when no node has any weight."""
        if not self._owners:
            return None
        position = bisect_left(self._hashes, xxhash.xxh3_64_intdigest(key))
        return self._owners[position % len(self._owners)]

    def successors(self, key: bytes) -> Iterator[str]:
        """Yield each node once, in ring order from `lookup(key)` on: where to go when earlier ones cannot be used."""
        seen: set[str] = set()
        position = bisect_left(self._hashes, xxhash.xxh3_64_intdigest(key))
        while len(seen) < self._used:
            owner = self._owners[position % len(self._owners)]
            position += 1
            if owner not in seen:
                seen.add(owner)
                yield owner
