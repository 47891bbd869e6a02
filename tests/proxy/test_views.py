"""Two clients have the same digest of a list when they are given the same items."""

from __future__ import annotations

from typing import Any

import pytest
from tests.proxy.offers import catalog_of, offer

from only1mcp.proxy import views
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.views import Views
from only1mcp.wire.mcp import HANDSHAKE, STATELESS

ALL = Principal("anonymous", "anonymous", "anonymous")
SOME = Principal("key:s", "s", "key", tools=("a*",))


def test_order_does_not_count_content_does() -> None:
    one = Views(catalog_of(offer("x", tools=["a", "b"], resources=["test://1"])))
    same = Views(catalog_of(offer("x", tools=["b", "a"], resources=["test://1"])))
    other = Views(catalog_of(offer("x", tools=[{"name": "a", "title": "A"}, "b"], resources=["test://1"])))
    assert one.view(ALL, HANDSHAKE) == same.view(ALL, HANDSHAKE)
    assert one.view(ALL, HANDSHAKE)["tools"] != other.view(ALL, HANDSHAKE)["tools"]
    assert one.view(ALL, HANDSHAKE)["resources"] == other.view(ALL, HANDSHAKE)["resources"]


def test_templates_belong_to_resources() -> None:
    one = Views(catalog_of(offer("x", resources=["test://1"])))
    other = Views(catalog_of(offer("x", resources=["test://1"], resourceTemplates=["test://{id}"])))
    assert one.digest("resources", ALL, HANDSHAKE) != other.digest("resources", ALL, HANDSHAKE)


def test_tools_are_those_that_a_key_may_call() -> None:
    one = Views(catalog_of(offer("x", tools=["a", "b"])))
    other = Views(catalog_of(offer("x", tools=["a", "b", "c"])))
    assert one.digest("tools", SOME, STATELESS) == other.digest("tools", SOME, STATELESS)
    assert one.digest("tools", ALL, STATELESS) != other.digest("tools", ALL, STATELESS)


def test_what_one_era_is_not_given_does_not_count_for_it() -> None:
    makes_tasks: Any = {"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}}}
    execution = {"taskSupport": "optional"}
    plain = Views(catalog_of(offer("x", tools=[{"name": "a"}], capabilities=makes_tasks)))
    tasks = Views(catalog_of(offer("x", tools=[{"name": "a", "execution": execution}], capabilities=makes_tasks)))
    assert plain.digest("tools", ALL, HANDSHAKE) != tasks.digest("tools", ALL, HANDSHAKE)
    assert plain.digest("tools", ALL, STATELESS) == tasks.digest("tools", ALL, STATELESS)


def test_ever_new_keys_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_VIEWS", 3)
    made = Views(catalog_of(offer("x", tools=["a"])))
    for number in range(10):
        made.digest("tools", Principal("key:k", "k", "key", tools=(f"a{number}",)), STATELESS)
    assert len(made._digests) <= 3
