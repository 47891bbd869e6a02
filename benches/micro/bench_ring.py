"""Finding the node of a key, the next one when it is down, and building the ring."""

from __future__ import annotations

from typing import Any

import pytest

KEY = b"3f6c2a1e-session-key"


def nodes(count: int) -> list[tuple[str, int]]:
    return [(f"backend-{i}", 100) for i in range(count)]


@pytest.mark.parametrize("count", [10, 100])
def test_lookup(benchmark: Any, fast: Any, count: int) -> None:
    lookup = fast.Ring(nodes(count)).lookup
    keys = [b"%d" % i for i in range(1000)]

    @benchmark
    def thousand() -> None:
        for key in keys:
            lookup(key)


def test_second_choice(benchmark: Any, fast: Any) -> None:
    ring = fast.Ring(nodes(10))
    first = ring.lookup(KEY)
    assert benchmark(lambda: next(id for id in ring.successors(KEY) if id != first))


def test_successors(benchmark: Any, fast: Any) -> None:
    ring = fast.Ring(nodes(10))
    assert len(benchmark(lambda: list(ring.successors(KEY)))) == 10


def test_build(benchmark: Any, fast: Any) -> None:
    assert benchmark(fast.Ring, nodes(10)).lookup(KEY)
