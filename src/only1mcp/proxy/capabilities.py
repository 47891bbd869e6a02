"""What the proxy says that it can do: what some backend can, as far as it is relayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from only1mcp.backend.inventory import Inventory


def merged(inventories: Iterable[Inventory]) -> dict[str, dict[str, Any]]:
    """Return the capabilities of all backends together; changes and subscriptions are not pushed to clients."""
    found: dict[str, dict[str, Any]] = {}
    for inventory in inventories:
        for name in ("tools", "resources", "prompts", "completions", "logging"):
            if inventory.peer.offers(name):
                found[name] = {}
    return found
