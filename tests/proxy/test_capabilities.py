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
    listed = {"listChanged": True}
    assert merged([one, other]) == {"tools": listed, "prompts": listed, "logging": {}}
    assert merged([]) == {}


def test_subscriptions_where_some_backend_serves_them() -> None:
    without, other = inventory(resources={"subscribe": False}), inventory(resources={"subscribe": True})
    assert merged([without]) == {"resources": {"listChanged": True}}
    assert merged([other, without]) == {"resources": {"listChanged": True, "subscribe": True}}
