"""What the proxy says that it can do: what some backend can, as far as it is relayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from only1mcp.backend.era import Peer
from only1mcp.backend.interest import subscribable
from only1mcp.backend.inventory import Inventory
from only1mcp.wire.mcp import HANDSHAKE, STATELESS, TASKS_EXTENSION, UI_EXTENSION, Era, era_of

LISTED: Final = ("tools", "resources", "prompts")
# What is said of tasks of 2025-11-25. They are not listed: backends would list those of all our clients.
HANDSHAKE_TASKS: Final[dict[str, Any]] = {"cancel": {}, "requests": {"tools": {"call": {}}}}


def merged(inventories: Iterable[Inventory]) -> dict[str, dict[str, Any]]:
    """Return the capabilities of all backends together.

    The merged lists change with the backends that come and go, whether or not these tell of changes of their own.
    """
    found: dict[str, dict[str, Any]] = {}
    for inventory in inventories:
        peer = inventory.peer
        for name in (*LISTED, "completions", "logging"):
            if peer.offers(name):
                found.setdefault(name, {"listChanged": True} if name in LISTED else {})
        if subscribable(peer):
            found["resources"]["subscribe"] = True
        for name, settings in _extensions(peer).items():
            found.setdefault("extensions", {}).setdefault(name, settings)
        if peer.era is HANDSHAKE and makes_tasks(peer):
            found["tasks"] = HANDSHAKE_TASKS
    return found


def told(capabilities: dict[str, dict[str, Any]], revision: str) -> dict[str, dict[str, Any]]:
    """Return those of the merged capabilities that mean something to clients of this revision."""
    kept = {name: value for name, value in capabilities.items() if name != "tasks" or revision == "2025-11-25"}
    if era_of(revision) is HANDSHAKE and "extensions" in kept:
        kept["extensions"] = {key: value for key, value in kept["extensions"].items() if key != TASKS_EXTENSION}
        if not kept["extensions"]:
            del kept["extensions"]
    return kept


def offers_tasks(capabilities: dict[str, dict[str, Any]], era: Era | None = None) -> bool:
    """Return whether some backend makes tasks, for clients of this era, or of any."""
    stateless = TASKS_EXTENSION in capabilities.get("extensions", {})
    handshake = "tasks" in capabilities
    return (stateless and era is not HANDSHAKE) or (handshake and era is not STATELESS)


def makes_tasks(peer: Peer) -> bool:
    """Return whether a backend may answer a tool call with a task."""
    if peer.era is STATELESS:
        return TASKS_EXTENSION in _extensions(peer)
    value: Any = peer.capabilities.get("tasks")
    for name in ("requests", "tools", "call"):
        value = value.get(name) if isinstance(value, dict) else None
    return isinstance(value, dict)


def _extensions(peer: Peer) -> dict[str, Any]:
    """Return the settings of the extensions that are relayed, as far as the backend has them."""
    value = peer.capabilities.get("extensions")
    names = (TASKS_EXTENSION, UI_EXTENSION) if peer.era is STATELESS else (UI_EXTENSION,)
    return {name: value[name] for name in names if isinstance(value.get(name), dict)} if isinstance(value, dict) else {}
