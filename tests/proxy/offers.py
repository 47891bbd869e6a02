"""Groups and catalogs of given items, without connections."""

from __future__ import annotations

from typing import Any

import orjson

from only1mcp.backend.endpoint import Endpoint, State
from only1mcp.backend.era import Peer
from only1mcp.backend.inventory import Inventory, ItemList
from only1mcp.config.schema import BackendConfig, LoadBalancer, ToolRules
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.group import Group, make_groups
from only1mcp.wire.mcp import LIST_METHODS, Era

METHOD_OF = {kind: method for method, kind in LIST_METHODS.items()}
KEY_OF = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}


def peer(era: Era = Era.HANDSHAKE, capabilities: dict[str, Any] | None = None, instructions: str | None = None) -> Peer:
    revision = "2025-11-25" if era is Era.HANDSHAKE else "2026-07-28"
    return Peer(era, revision, capabilities or {}, {"name": "fake", "version": "1"}, instructions, (revision,))


def offer(
    id: str,
    *,
    era: Era = Era.HANDSHAKE,
    group: str = "",
    rules: ToolRules | None = None,
    instructions: str | None = None,
    capabilities: dict[str, Any] | None = None,
    ttl_ms: int = 0,
    public: bool = False,
    **lists: list[Any],
) -> Endpoint:
    """Return an endpoint that is up and offers these lists: names or URIs, JSON objects, or JSON texts."""
    config = BackendConfig(id=id, transport="stdio", command="x", group=group, tools=rules or ToolRules())
    endpoint = Endpoint(config, lambda: None, lambda _: None)  # type: ignore[arg-type, return-value]
    if capabilities is None:
        capabilities = {"resources" if kind == "resourceTemplates" else kind: {} for kind in lists}
    endpoint.peer = peer(era, capabilities, instructions)
    endpoint.inventory = Inventory(
        endpoint.peer,
        {
            METHOD_OF[kind]: ItemList(tuple(_text(KEY_OF[kind], item) for item in items), ttl_ms, public)
            for kind, items in lists.items()
        },
    )
    endpoint.ttl_ms = dict.fromkeys(endpoint.inventory.lists, ttl_ms)
    endpoint.state = State.UP
    return endpoint


def _text(key: str, item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    return orjson.dumps({key: item} if isinstance(item, str) else item)


def groups_of(*endpoints: Endpoint) -> dict[str, Group]:
    return make_groups(endpoints, LoadBalancer())


def catalog_of(*endpoints: Endpoint, naming: str = "auto") -> Catalog:
    return Catalog(groups_of(*endpoints), naming)


def keys(catalog: Catalog, kind: str = "tools") -> list[str]:
    return [item.key for item in catalog.lists[METHOD_OF[kind]].items]
