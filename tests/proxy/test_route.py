"""Who serves a request: tools, prompts and resources by their names, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests.proxy.exchanges import exchange_of, snapshot_of
from tests.proxy.offers import offer

from only1mcp.config.schema import Config, LoadBalancer, Proxy
from only1mcp.errors import Only1MCPError, ProtocolError, RequestRefused
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.route import Target, find_target, mirrored_of
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import Era

H, S = Era.HANDSHAKE, Era.STATELESS
ANNOTATED = {"name": "where", "inputSchema": {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}
SNAPSHOT = snapshot_of(
    offer("files", tools=["search", ANNOTATED], prompts=["ask"], resources=["x:1"]),
    offer("web", tools=["search", "y" * 80], prompts=["ask"], resources=["x:1"], resourceTemplates=["t://{id}"]),
)
WEB_ASK = {"type": "ref/prompt", "name": "ask"}
TEMPLATE = {"type": "ref/resource", "uri": "t://{id}"}
KEY = Principal("key:k", "k", "key", tools=("sea*",))


def route(method: str, params: Any, **more: Any) -> tuple[Target, bytes]:
    """Return the target, and the params with its edit made."""
    exchange, _ = exchange_of(SNAPSHOT, method, params, **more)
    message = exchange.message
    assert message is not None
    target = find_target(exchange, message, method)
    data = message.data if target.replace is None else jsonrpc.splice(message.data, [target.replace])
    return target, orjson.loads(data)["params"]


@pytest.mark.parametrize(
    ("method", "params", "group", "sent"),
    [
        ("tools/call", {"name": "search"}, "files", {"name": "search"}),
        ("tools/call", {"name": "files__search"}, "files", {"name": "search"}),
        ("tools/call", {"name": "web__search", "x": {"name": "a"}}, "web", {"name": "search", "x": {"name": "a"}}),
        ("prompts/get", {"name": "ask"}, "files", {"name": "ask"}),
        ("prompts/get", {"name": "web__ask"}, "web", {"name": "ask"}),
        ("resources/read", {"uri": "x:1"}, "files", {"uri": "x:1"}),
        ("resources/read", {"uri": "only1mcp://web/x:1"}, "web", {"uri": "x:1"}),
        ("resources/read", {"uri": "t://5"}, "web", {"uri": "t://5"}),
        ("completion/complete", {"ref": WEB_ASK | {"name": "web__ask"}}, "web", {"ref": WEB_ASK}),
        ("completion/complete", {"ref": TEMPLATE}, "web", {"ref": TEMPLATE}),
    ],
)
def test_finds(method: str, params: Any, group: str, sent: Any) -> None:
    target, params_sent = route(method, params)
    assert (target.group.id, params_sent) == (group, sent)
    assert target.original == sent.get("name", sent.get("uri", target.original))


def test_a_shortened_name_becomes_the_backends_own() -> None:
    short = next(item.key for item in SNAPSHOT.catalog.lists["tools/list"].items if item.original == "y" * 80)
    target, sent = route("tools/call", {"name": short})
    assert (target.group.id, sent) == ("web", {"name": "y" * 80})


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": "nobody"}, -32602),
        ("tools/call", {"name": "ask"}, -32602),
        ("tools/call", {"name": "x" * 10_000}, -32602),
        ("prompts/get", {"name": "search"}, -32602),
        ("tools/call", {}, -32602),
        ("tools/call", None, -32602),
        ("resources/read", {"name": "x"}, -32602),
        ("completion/complete", None, -32602),
        ("completion/complete", {}, -32602),
        ("completion/complete", {"ref": "ask"}, -32602),
        ("completion/complete", {"ref": {}}, -32602),
        ("completion/complete", {"ref": {"type": "ref/prompt"}}, -32602),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": 5}}, -32602),
        ("completion/complete", {"ref": {"type": "ref/prompt", "uri": "x:1"}}, -32602),
        ("completion/complete", {"ref": {"type": ["ref/prompt"], "name": "ask"}}, -32602),
        ("completion/complete", {"ref": {"type": "ref/tool", "name": "search"}}, -32602),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "nobody"}}, -32602),
    ],
)
def test_refuses(method: str, params: Any, code: int) -> None:
    with pytest.raises(Only1MCPError) as caught:
        route(method, params)
    assert caught.value.code == code
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(("era", "code"), [(H, -32002), (S, -32602)])
def test_a_resource_that_nobody_can_own(era: Era, code: int) -> None:
    exchange, _ = exchange_of(snapshot_of(offer("a", tools=[])), "resources/read", {"uri": "x:1"}, era=era)
    assert exchange.message is not None
    with pytest.raises(RequestRefused) as caught:
        find_target(exchange, exchange.message, "resources/read")
    assert (caught.value.code, caught.value.data) == (code, {"uri": "x:1"})


def test_a_principal_finds_only_the_tools_it_may_call() -> None:
    assert route("tools/call", {"name": "search"}, principal=KEY)[0].group.id == "files"
    # By another of its names it is the same tool, and one that is not allowed looks as if it did not exist.
    assert route("tools/call", {"name": "files__search"}, principal=KEY)[0].group.id == "files"
    with pytest.raises(RequestRefused) as hidden:
        route("tools/call", {"name": "web__search"}, principal=KEY)
    with pytest.raises(RequestRefused) as absent:
        route("tools/call", {"name": "web__nobody"}, principal=KEY)
    assert hidden.value.message.replace("search", "nobody") == absent.value.message
    assert route("prompts/get", {"name": "ask"}, principal=KEY)[0].group.id == "files"


@pytest.mark.parametrize(
    ("era", "arguments", "headers", "fits"),
    [
        (S, {"region": "eu"}, [(b"mcp-param-region", b"eu")], True),
        (S, {"region": "eu"}, [(b"mcp-param-region", b"us")], False),
        (S, {"region": "eu"}, [], False),
        (S, {}, [], True),
        (S, {}, [(b"mcp-param-region", b"eu")], False),
        (S, None, [], True),
        (S, [1], [], True),
        (H, {"region": "eu"}, [(b"mcp-param-region", b"us")], True),
    ],
)
def test_mirrored_arguments_are_checked(era: Era, arguments: Any, headers: Any, fits: bool) -> None:
    params = {"name": "where"} | ({} if arguments is None else {"arguments": arguments})
    if fits:
        assert route("tools/call", params, era=era, headers=headers)[0].item is not None
        return
    with pytest.raises(ProtocolError) as caught:
        route("tools/call", params, era=era, headers=headers)
    assert caught.value.code == -32020


@pytest.mark.parametrize(
    ("kind", "era", "principal", "expected"),
    [
        ("auto", H, KEY, b"session-1"),
        ("auto", S, KEY, b"key:k"),
        ("auto", S, None, b"192.0.2.1"),  # anonymous callers are told apart by their address
        ("session", H, KEY, b"session-1"),
        ("client", H, KEY, b"key:k"),
        ("tool", H, KEY, b"search"),
        ("arguments", H, KEY, b'{"name":"search","arguments":{"a":1}}'),
    ],
)
def test_hash_key(kind: Any, era: Era, principal: Principal | None, expected: bytes) -> None:
    config = Config(version="1.0", proxy=Proxy(load_balancer=LoadBalancer(hash_key=kind)))
    more = {} if principal is None else {"principal": principal}
    both = [offer(id, group="both", tools=["search"]) for id in "ab"]
    for endpoints, hash_key in ((both, expected), (both[:1], None)):  # of one there is nothing to choose
        snapshot = snapshot_of(*endpoints, config=config)
        exchange, _ = exchange_of(snapshot, "tools/call", {"name": "search", "arguments": {"a": 1}}, era=era, **more)
        assert exchange.message is not None
        assert find_target(exchange, exchange.message, "tools/call").hash_key == hash_key


def test_a_name_is_looked_up_once_and_refused_every_time() -> None:
    snapshot = snapshot_of(offer("a", tools=["search"]))
    for _ in range(2):
        exchange, _ = exchange_of(snapshot, "tools/call", {"name": "search"})
        assert exchange.message is not None
        assert find_target(exchange, exchange.message, "tools/call").original == "search"
        foreign, _ = exchange_of(snapshot, "tools/call", {"name": "search"}, principal=replace(KEY, tools=("x",)))
        assert foreign.message is not None
        with pytest.raises(RequestRefused, match="unknown tool"):
            find_target(foreign, foreign.message, "tools/call")
        unknown, _ = exchange_of(snapshot, "tools/call", {"name": "other"})
        assert unknown.message is not None
        with pytest.raises(RequestRefused, match="unknown tool"):
            find_target(unknown, unknown.message, "tools/call")
    assert list(snapshot.tools) == ["search"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"arguments": None}, {}),
        ({"arguments": []}, {}),
        ({"arguments": {"region": "us", "other": [1]}}, {"region": "us"}),
    ],
)
def test_arguments_that_headers_say_again(params: Any, expected: Any) -> None:
    exchange, _ = exchange_of(SNAPSHOT, "tools/call", params)
    assert exchange.message is not None
    assert mirrored_of(exchange.message, ((("region",), "Region"),)) == expected
