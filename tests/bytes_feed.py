"""Ways to cut one sequence of bytes into segments: a parser must give the same answer to all of them."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st


def segmentations(data: bytes) -> list[list[bytes]]:
    """Return `data` whole, byte by byte, and in pieces of 2, 3 and 7 bytes (which part CRLFs in every way)."""
    return [[data], *([data[i : i + size] for i in range(0, len(data), size)] for size in (1, 2, 3, 7))]


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    """Return `data` cut at the given offsets, in any order; empty pieces are left out."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


places = st.lists(st.integers(0, 1 << 20), max_size=12)
