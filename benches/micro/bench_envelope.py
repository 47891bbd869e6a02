"""Scanning messages of the sizes that a proxy meets, and walking a list."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

CALL = (
    b'{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"web__search","arguments":{"query":'
    b'"model context protocol","limit":10,"filters":{"lang":"en","safe":true}},"_meta":{"progressToken":"p-1"}}}'
)
TOOLS = [
    {
        "name": f"tool_{i}",
        "description": "Looks something up — and says so at some length, as descriptions of tools do.",
        "inputSchema": {
            "type": "object",
            "properties": {"query": {"type": "string", "minLength": 1}, "limit": {"type": "integer", "maximum": 100}},
            "required": ["query"],
        },
        "annotations": {"readOnlyHint": True},
    }
    for i in range(100)
]
LIST = b'{"jsonrpc":"2.0","id":42,"result":' + orjson.dumps({"tools": TOOLS}) + b"}"
TEXT = b'{"jsonrpc":"2.0","id":42,"result":' + orjson.dumps({"content": [{"type": "text", "text": "x" * 2**20}]}) + b"}"
MESSAGES = {"call of 200 bytes": CALL, "100 tools": LIST, "1 MB of text": TEXT}


@pytest.mark.parametrize("message", MESSAGES)
def test_scan(benchmark: Any, fast: Any, message: str) -> None:
    data = MESSAGES[message]
    assert benchmark(fast.scan, data).data is data


def test_elements(benchmark: Any, fast: Any) -> None:
    array = orjson.dumps(TOOLS)
    assert len(benchmark(fast.elements, array, 0, len(array))) == 100


def test_members(benchmark: Any, fast: Any) -> None:
    tool = orjson.dumps(TOOLS[0])
    assert len(benchmark(fast.members, tool, 0, len(tool))) == 4
