"""Waits between attempts: they grow to a limit, and no two proxies keep step."""

from __future__ import annotations

import pytest

from only1mcp.backend import backoff


@pytest.mark.parametrize("transport", ["stdio", "http", "sse"])
def test_waits_double_up_to_a_limit(transport: str) -> None:
    last = backoff.LAST_S[transport]
    for failures in (*range(1, 40), 10**6):
        expected = min(last, 0.5 * 2 ** min(failures - 1, 30))
        assert expected * 0.8 <= backoff.wait_s(transport, failures) <= expected * 1.2
    assert len({backoff.wait_s(transport, 1) for _ in range(10)}) > 1
