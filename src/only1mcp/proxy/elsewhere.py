"""The way to the process that holds what a request speaks of: another worker of the same proxy.

Every handle that only one process can honour carries that process' number: asked request ids, event ids, requestState,
session ids (their home, where level, subscriptions and the GET stream live). With one worker everything is here.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from only1mcp.proxy.exchange import Exchange


class Elsewhere(Protocol):
    """`relay` hands a whole exchange, head and body, to another worker and its response back to the client."""

    def relay(self, exchange: Exchange, worker: int) -> Coroutine[Any, Any, None] | None:
        """Return the work, None where `worker` is this one or is no more: then we answer ourselves."""


class Nowhere:
    """One worker: everything is here."""

    def relay(self, exchange: Exchange, worker: int) -> Coroutine[Any, Any, None] | None:
        return None
