"""Answers of our own: initialize, server/discover and the lists with their pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from tests.proxy.offers import catalog_of, offer

from only1mcp._fast import scan
from only1mcp.errors import Only1MCPError
from only1mcp.proxy import catalog as catalog_module
from only1mcp.proxy import local
from only1mcp.wire.mcp import META_SERVER_INFO, Era

H, S = Era.HANDSHAKE, Era.STATELESS
CATALOG = catalog_of(offer("a", tools=["t1", "t2"], instructions="be kind", ttl_ms=60_000, public=True))


def message(method: str, params: Any = None) -> Any:
    return scan(
        orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method} | ({} if params is None else {"params": params}))
    )


def test_initialize() -> None:
    params = {"protocolVersion": "2025-06-18", "capabilities": {"sampling": {}}, "clientInfo": {"name": "c"}}
    revision, capabilities, info, result = local.initialize(CATALOG, message("initialize", params))
    assert (revision, capabilities, info) == ("2025-06-18", b'{"sampling":{}}', b'{"name":"c"}')
    assert orjson.loads(result) == {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": local.IMPLEMENTATION,
        "instructions": "[a] be kind",
    }
    assert "instructions" not in orjson.loads(local.initialize(catalog_of(), message("initialize", params))[3])


@pytest.mark.parametrize("version", ["2026-07-28", "1", ""])
def test_an_unknown_revision_is_answered_with_our_latest(version: str) -> None:
    assert local.initialize(CATALOG, message("initialize", {"protocolVersion": version}))[0] == "2025-11-25"


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"protocolVersion": None},
        {"protocolVersion": 5},
        {"protocolVersion": ["2025-11-25"]},
        {"protocolVersion": "2025-11-25", "capabilities": None},
        {"protocolVersion": "2025-11-25", "capabilities": []},
        {"protocolVersion": "2025-11-25", "capabilities": "all"},
    ],
)
def test_initialize_refuses(params: Any) -> None:
    with pytest.raises(Only1MCPError) as caught:
        local.initialize(CATALOG, message("initialize", params))
    assert caught.value.code == -32602


def test_discover() -> None:
    result = orjson.loads(local.discover(CATALOG))
    assert result == {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {"listChanged": True}},
        "ttlMs": 0,
        "cacheScope": "public",
        "instructions": "[a] be kind",
        "_meta": {META_SERVER_INFO: local.IMPLEMENTATION},
    }


def page(cursor: str | None = None, era: Era = H, only: Callable[[str], bool] | None = None) -> Any:
    head, tail, following = local.list_page(CATALOG, "tools/list", era, only, cursor)
    result = orjson.loads(head if tail is None else head + b"5" + tail)
    assert result.get("nextCursor") == following
    return result


def test_a_handshake_client_gets_the_list_alone() -> None:
    assert page() == {"tools": [{"name": "t1"}, {"name": "t2"}]}


def test_a_stateless_client_hears_how_long_it_holds_and_for_whom() -> None:
    assert page(era=S) == {
        "tools": [{"name": "t1"}, {"name": "t2"}],
        "resultType": "complete",
        "ttlMs": 5,
        "cacheScope": "public",
        "_meta": {META_SERVER_INFO: local.IMPLEMENTATION},
    }


def test_a_list_of_some_of_the_items_is_private() -> None:
    found = page(era=S, only="t2".__eq__)
    assert (found["tools"], found["cacheScope"]) == ([{"name": "t2"}], "private")
    assert page(only=lambda _: False)["tools"] == []


def test_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "PAGE_ITEMS", 1)
    first = page()
    assert first["tools"] == [{"name": "t1"}]
    assert page(first["nextCursor"]) == {"tools": [{"name": "t2"}]}


@pytest.mark.parametrize("cursor", ["", "made up"])
def test_other_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(Only1MCPError) as caught:
        page(cursor)
    assert (caught.value.code, caught.value.http_status) == (-32602, 400)


@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list", "prompts/list"])
def test_what_no_backend_offers_is_no_method(method: str) -> None:
    with pytest.raises(Only1MCPError) as caught:
        local.list_page(CATALOG, method, S, None, None)
    assert (caught.value.code, caught.value.http_status) == (-32601, 404)


def test_what_is_offered_is_answered_also_when_empty() -> None:
    catalog = catalog_of(offer("a", capabilities={"resources": {}}))
    for method, kind in (("resources/list", "resources"), ("resources/templates/list", "resourceTemplates")):
        assert orjson.loads(local.list_page(catalog, method, H, None, None)[0]) == {kind: []}
