"""Values in JSON whose spans are known: looked up, compared, replaced."""

from __future__ import annotations

from typing import Any

META = (
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
    b'"progressToken":7}'
)
NAMES = (b"io.modelcontextprotocol/protocolVersion", b"io.modelcontextprotocol/clientCapabilities")


def test_pick(benchmark: Any, fast: Any) -> None:
    assert None not in benchmark(fast.pick, META, (0, len(META)), NAMES)


def test_splice(benchmark: Any, fast: Any) -> None:
    edits = ((1, 42, b'"a"'), (43, 55, b'"b"'))
    assert benchmark(fast.splice, META, edits) == b'{"a":"b"' + META[55:]


def test_says(benchmark: Any, fast: Any) -> None:
    assert benchmark(fast.says, META, (43, 55), b"2026-07-28")
