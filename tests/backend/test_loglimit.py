"""The ceiling for what a backend can make us log."""

from __future__ import annotations

from only1mcp.backend.loglimit import LOG_LINES, LOG_WINDOW_S, LogLimit


def test_each_window_has_its_lines_and_the_rest_is_counted() -> None:
    limit = LogLimit()
    assert [limit.admit(100.0) for _ in range(LOG_LINES)] == [0] * LOG_LINES
    assert [limit.admit(100.0 + LOG_WINDOW_S / 2) for _ in range(5)] == [None] * 5
    assert limit.admit(100.0 + LOG_WINDOW_S) == 5
    assert limit.admit(100.0 + LOG_WINDOW_S) == 0
