"""A line of the access log whose values are plain."""

from __future__ import annotations

from typing import Any

NAMES = tuple(b',"%s":' % name for name in (b"client", b"http", b"path", b"status", b"bytes_out", b"duration_ms"))
VALUES = ("127.0.0.1", "POST", "/mcp", 200, 345, 0.123)
START = b'{"ts":"2026-01-01T00:00:00.000Z","level":"info","logger":"only1mcp.access","event":"request"'


def test_event_line(benchmark: Any, fast: Any) -> None:
    line = benchmark(fast.event_line, START, NAMES, VALUES, b"}\n", True)
    assert line.endswith(b',"status":200,"bytes_out":345,"duration_ms":0.123}\n')
