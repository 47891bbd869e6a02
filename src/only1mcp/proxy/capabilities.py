"""What the proxy says that it can do: what some backend can, as far as it is relayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from only1mcp.backend.interest import subscribable
from only1mcp.backend.inventory import Inventory

LISTED: Final = ("tools", "resources", "prompts")


def merged(inventories: Iterable[Inventory]) -> dict[str, dict[str, Any]]:
    """Return the capabilities of all backends together.

    The merged lists change with the backends that come and go, whether or not these tell of changes of their own.
    """
    found: dict[str, dict[str, Any]] = {}
    for inventory in inventories:
        for name in (*LISTED, "completions", "logging"):
            if inventory.peer.offers(name):
                found.setdefault(name, {"listChanged": True} if name in LISTED else {})
        if subscribable(inventory.peer):
            found["resources"]["subscribe"] = True
    return found
