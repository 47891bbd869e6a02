"""Views of tools: which backend has them, under which URI clients read them, and what survives on the way."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from tests.in_process import proxied
from tests.mcp_backend import Backend, Call, Outcome, echo
from tests.mcp_caller import Caller
from tests.proxy.offers import catalog_of, offer

from only1mcp.proxy import apps
from only1mcp.wire.mcp import Era

EXTENSION = "io.modelcontextprotocol/ui"
MIME = "text/html;profile=mcp-app"
ERAS = pytest.mark.parametrize("era", ["stateless", "handshake"])
VIEW = "ui://weather/view"


def tool(name: str, uri: Any = VIEW, flat: Any = None, **ui: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"ui": {"resourceUri": uri, **ui}, "other": 1.0}
    return {"name": name, "_meta": meta | ({} if flat is None else {"ui/resourceUri": flat})}


def views_of(catalog: Any) -> dict[str, Any]:
    tools = (orjson.loads(item.raw) for item in catalog.lists["tools/list"].items)
    return {each["name"]: each["_meta"] for each in tools}


def test_a_view_that_is_one_groups_alone_keeps_its_uri() -> None:
    catalog = catalog_of(offer("a", tools=[tool("t")], resources=[]), offer("b", tools=["x"], resources=["test://b"]))
    (item, _) = catalog.lists["tools/list"].items
    assert item.raw == orjson.dumps(tool("t"))
    assert catalog.resource_owner(VIEW) == ("a", VIEW)


def test_a_view_that_two_groups_have_is_the_first_ones_under_its_own_name() -> None:
    first = offer("a", tools=[tool("t", flat=VIEW)], resources=[])
    second = offer("b", tools=[tool("t", flat=VIEW, visibility=["app"])], resources=[])
    catalog = catalog_of(first, second)
    other = "ui://only1mcp/b///weather/view"
    assert views_of(catalog) == {
        "t": tool("t", flat=VIEW)["_meta"],
        "b__t": tool("t", other, flat=other, visibility=["app"])["_meta"],
    }
    assert catalog.resource_owner(VIEW) == ("a", VIEW)
    assert catalog.resource_owner(other) == ("b", VIEW)
    for name in ("b__t", "t", "a__t"):
        assert catalog.find("tools/list", name) is not None
    found = catalog.find("tools/list", "b__t")
    assert found is not None
    assert orjson.loads(found.raw)["_meta"]["ui"]["resourceUri"] == other


def test_a_listed_resource_and_a_view_of_another_group_clash_too() -> None:
    listing = offer("a", tools=["x"], resources=[VIEW])
    catalog = catalog_of(offer("b", tools=[tool("t")], resources=[]), listing)
    assert catalog.resource_owner(VIEW) == ("a", VIEW)
    assert views_of_one(catalog, "t") == "ui://only1mcp/b///weather/view"


def views_of_one(catalog: Any, name: str) -> Any:
    item = catalog.find("tools/list", name)
    return orjson.loads(item.raw)["_meta"]["ui"]["resourceUri"]


def test_an_only_backend_is_left_as_it_is() -> None:
    raw = b'{ "name":"t", "_meta" : {"ui":{"resourceUri":"ui:\\/\\/a/b" , "x":1.0e5}}}'
    catalog = catalog_of(offer("a", tools=[raw], resources=[]))
    assert catalog.lists["tools/list"].items[0].raw == raw


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"t"}',
        '{"name":"t","_meta":null}',
        '{"name":"t","_meta":[],"resourceUri":"ui://x"}',
        '{"name":"t","_meta":{"ui":"resourceUri"}}',
        '{"name":"t","_meta":{"ui":{"resourceUri":7},"ui/resourceUri":["ui://x"]}}',
        '{"name":"t","_meta":{"ui":{"resourceUri":"https://x"},"ui/resourceUri":"test://x"}}',
        '{"name":"t","_meta":{"ui":{"resourceUri":"ui://x","resourceUri":"ui://y"}}}',
        '{"name":"t","description":"ui/resourceUri \\"ui://x\\""}',
    ],
)
def test_what_names_no_view(text: str) -> None:
    raw = text.encode()
    assert apps.with_view(raw, lambda uri: "new:" + uri) is raw


def test_keys_may_be_spelled_in_any_way() -> None:
    raw = b'{"name":"t","_meta":{"u\\u0069":{"resourceUr\\u0069":"ui://x"}}}'
    assert apps.with_view(raw, lambda uri: uri + "y") == raw.replace(b"ui://x", b"ui://xy")


def reading(name: str) -> Any:
    """Return a script for `resources/read` that serves views which no list shows."""

    async def read(call: Call) -> Outcome:
        uri = call.params["uri"]
        meta = {"ui": {"csp": {"connectDomains": ["https://x"]}, "prefersBorder": False, "domain": name}}
        content = {"uri": uri, "mimeType": MIME, "text": f"<html>{name}</html>", "_meta": meta}
        hints = {} if call.backend.era == "handshake" else {"ttlMs": 0, "cacheScope": "private"}
        return {"contents": [content], "_meta": {"k": 1}, **hints}

    return read


def app(name: str, era: str) -> Backend:
    """Return a backend with a tool of this name and a view."""
    return Backend(
        era=era,
        tools={name: echo},
        extras={name: {"_meta": tool(name)["_meta"]}},
        scripts={"resources/read": reading(name)},
        capabilities={"resources": {}, "extensions": {EXTENSION: {}}},
    )


@ERAS
@pytest.mark.parametrize("client", ["stateless", "handshake"])
async def test_views_are_read_where_they_are(era: str, client: str) -> None:
    one, two = app("one", era), app("two", era)
    async with proxied(one, two) as port, Caller(port) as caller:
        if client == "handshake":
            capabilities = (await caller.initialize()).result["capabilities"]
        else:
            capabilities = (await caller.ask("server/discover")).result["capabilities"]
        assert capabilities["extensions"] == {EXTENSION: {}}
        listed = (await caller.ask("tools/list")).result["tools"]
        for name, each in zip(("one", "two"), listed, strict=True):
            uri = each["_meta"]["ui"]["resourceUri"]
            assert uri.startswith("ui://")
            result = (await caller.ask("resources/read", uri=uri)).result
            (content,) = result["contents"]
            assert (content["uri"], content["text"]) == (uri, f"<html>{name}</html>")
            assert content["_meta"]["ui"] == {
                "csp": {"connectDomains": ["https://x"]},
                "prefersBorder": False,
                "domain": name,
            }
        assert (await caller.ask("resources/list")).result["resources"] == []


@ERAS
async def test_backends_hear_that_views_can_be_shown(era: str) -> None:
    backend = app("one", era)
    settings = {"mimeTypes": [MIME], "features": ["x"]}
    async with proxied(backend) as port, Caller(port) as caller:
        capabilities = {"extensions": {EXTENSION: settings}}
        meta = {"io.modelcontextprotocol/clientCapabilities": capabilities}
        await caller.call("one", meta=meta, text="hi")
        info = {"name": "t", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info}
        reply = await caller.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        caller.session = reply.headers["mcp-session-id"]
        await caller.call("one", text="hi")
    if era == "handshake":
        (hello,) = [each["params"] for each in backend.received if each["method"] == "initialize"]
        assert hello["capabilities"]["extensions"] == {EXTENSION: {"mimeTypes": [MIME]}}
        return
    metas = [each["params"]["_meta"] for each in backend.calls]
    said = [each["io.modelcontextprotocol/clientCapabilities"]["extensions"] for each in metas]
    assert said == [{EXTENSION: settings}, {EXTENSION: settings}]
    (listing,) = [each["params"] for each in backend.received if each["method"] == "tools/list"]
    declared = listing["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"]
    assert declared[EXTENSION] == {"mimeTypes": [MIME]}


def test_only_what_a_backend_offers_is_offered() -> None:
    plain = offer("a", era=Era.STATELESS, capabilities={"tools": {}, "extensions": {"x/y": {}, EXTENSION: None}})
    assert "extensions" not in catalog_of(plain).capabilities
    assert json.dumps(catalog_of(plain).capabilities) == '{"tools": {"listChanged": true}}'
