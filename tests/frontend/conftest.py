from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Sockets are served on uvloop, and on asyncio where there is no uvloop: what does so is tested on both."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32" and item.path.stem in ("test_connection", "test_listener", "test_runner"):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
