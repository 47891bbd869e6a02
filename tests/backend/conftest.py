"""The HTTP side runs on both event loops: the one of production and the one of the standard library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from winloop import new_event_loop

BOTH_LOOPS = frozenset({"test_connection.py", "test_pool.py", "test_answer.py", "test_http.py", "test_direct.py"})


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in BOTH_LOOPS:
        factories["uvloop"] = new_event_loop
    return factories
