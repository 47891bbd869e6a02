"""Each test of this folder runs over the plain-Python twin and over the compiled one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from only1mcp._fast import (
    calls_reference,
    counters_reference,
    lines_reference,
    lru_reference,
    reference,
    ring_reference,
    spans_reference,
)

REFERENCE = SimpleNamespace(
    Counters=counters_reference.Counters,
    Envelope=reference.Envelope,
    Histogram=counters_reference.Histogram,
    LRU=lru_reference.LRU,
    Ring=ring_reference.Ring,
    elements=reference.elements,
    event_line=lines_reference.event_line,
    maybe_call=calls_reference.maybe_call,
    members=reference.members,
    pick=spans_reference.pick,
    says=spans_reference.says,
    scan=reference.scan,
    splice=spans_reference.splice,
)


def compiled() -> Any:
    """Return the compiled parts under the names of `REFERENCE`; skip where they were not built."""
    reason = "the compiled parts are not built: make build"
    counters = pytest.importorskip("only1mcp._fast.counters", reason=reason)
    envelope = pytest.importorskip("only1mcp._fast.envelope", reason=reason)
    lru = pytest.importorskip("only1mcp._fast.lru", reason=reason)
    ring = pytest.importorskip("only1mcp._fast.ring", reason=reason)
    return SimpleNamespace(
        Counters=counters.Counters,
        Envelope=envelope.Envelope,
        Histogram=counters.Histogram,
        LRU=lru.LRU,
        Ring=ring.Ring,
        elements=envelope.elements,
        members=envelope.members,
        scan=envelope.scan,
    )


@pytest.fixture(params=["reference", "compiled"], scope="session")
def fast(request: pytest.FixtureRequest) -> Any:
    return REFERENCE if request.param == "reference" else compiled()


@pytest.fixture(scope="session")
def both() -> tuple[Any, Any]:
    """The oracle and the compiled parts, for tests that compare them."""
    return REFERENCE, compiled()
