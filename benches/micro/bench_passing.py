"""Scanning results of a megabyte as they pass, in the pieces in which a socket gives them."""

from __future__ import annotations

import importlib
from typing import Any

import orjson
import pytest

PIECE = 64 * 1024
WORDS = "some words of a text, about eighty characters of them or so, and then the next\n"
ITEMS = [{"name": f"tool {number}", "size": number, "found": True} for number in range(20_000)]
VALUES = {
    "text": "x" * 2**20,
    "lines": WORDS * 13_000,
    "JSON in a string": orjson.dumps(ITEMS).decode(),
    "items": ITEMS,
}


@pytest.fixture(params=["reference", "compiled"])
def fast(request: pytest.FixtureRequest, benchmark: Any) -> Any:
    benchmark.group = f"passing [{request.node.callspec.params['value']}]"
    module = {"reference": "passing_reference", "compiled": "passing"}[request.param]
    return importlib.import_module(f"only1mcp._fast.{module}").PassingScanner


@pytest.mark.parametrize("value", VALUES)
def test_pass(benchmark: Any, fast: Any, value: str) -> None:
    data = b'{"jsonrpc":"2.0","id":42,"result":' + orjson.dumps(VALUES[value]) + b"}"
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]

    def work() -> int:
        subject = fast(b"42", b"7")
        size = sum(len(part) for piece in pieces for part in subject.receive_data(piece))
        subject.receive_eof()
        return size

    assert benchmark(work) == len(data) - 1
