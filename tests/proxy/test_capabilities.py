"""What the proxy says that it can do is what some backend can, and nothing else."""

from __future__ import annotations

from tests.proxy.offers import offer

from only1mcp.backend.inventory import Inventory
from only1mcp.proxy.capabilities import merged


def inventory(**capabilities: dict[str, bool]) -> Inventory:
    found = offer("a", capabilities=capabilities).inventory
    assert found is not None
    return found


def test_every_capability_of_some_backend_that_is_relayed() -> None:
    one = inventory(tools={"listChanged": True}, logging={})
    other = inventory(prompts={}, tasks={})
    assert merged([one, other]) == {"tools": {}, "prompts": {}, "logging": {}}
    assert merged([]) == {}
