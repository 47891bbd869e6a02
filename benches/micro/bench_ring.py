"""Finding the node of a key among ten."""

from __future__ import annotations

from typing import Any

NODES = [(f"backend-{i}", 100) for i in range(10)]
KEY = b"3f6c2a1e-session-key"


def test_lookup(benchmark: Any, fast: Any) -> None:
    assert benchmark(fast.Ring(NODES).lookup, KEY) is not None


def test_successors(benchmark: Any, fast: Any) -> None:
    ring = fast.Ring(NODES)
    assert len(benchmark(lambda: list(ring.successors(KEY)))) == 10
