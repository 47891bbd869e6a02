"""Relaying a thousand progress messages, in the pieces in which a socket gives them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

EVENT = (
    b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":12,'
    b'"progress":%d,"total":1000,"message":"working on the next part of it"}}\r\n\r\n'
)


@pytest.fixture(params=["reference", "compiled"])
def fast(request: pytest.FixtureRequest, benchmark: Any) -> Any:
    benchmark.group = "relay"
    module = {"reference": "relay_reference", "compiled": "relay"}[request.param]
    return importlib.import_module(f"only1mcp._fast.{module}").relay_events


def test_relay(benchmark: Any, fast: Any) -> None:
    pieces = [b"".join(EVENT % number for number in range(start, start + 100)) for start in range(0, 1000, 100)]

    def work() -> int:
        return sum(len(fast(piece, 0, b"12", b'"the token"', False)[1]) for piece in pieces)

    assert benchmark(work) > 100_000
