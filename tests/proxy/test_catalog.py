"""The merged lists: whose item has which name, what survives of it, and who owns a URI."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proxy.offers import catalog_of, groups_of, keys, offer

from only1mcp.config.schema import Cache, CachedItem, ToolRules
from only1mcp.proxy import catalog as module
from only1mcp.proxy import names
from only1mcp.proxy.catalog import Catalog, MergedList
from only1mcp.wire.mcp import Era

H, S = Era.HANDSHAKE, Era.STATELESS

# Names.


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        ("auto", ["search", "read", "web__search", "fetch"]),
        ("prefixed", ["files__search", "files__read", "web__search", "web__fetch"]),
        ("bare", ["search", "read", "fetch"]),
    ],
)
@pytest.mark.parametrize("kind", ["tools", "prompts"])
def test_naming(naming: str, expected: list[str], kind: str) -> None:
    catalog = catalog_of(
        offer("files", **{kind: ["search", "read"]}), offer("web", **{kind: ["search", "fetch"]}), naming=naming
    )
    assert keys(catalog, kind) == expected
    assert len(catalog.collisions) == (naming == "bare") == bool(catalog.collisions)


def test_every_item_answers_to_its_qualified_name() -> None:
    catalog = catalog_of(offer("files", tools=["search"]), offer("web", tools=["search"]))
    for name, group in [("search", "files"), ("files__search", "files"), ("web__search", "web")]:
        item = catalog.find("tools/list", name)
        assert item is not None
        assert (item.group, item.original) == (group, "search")
    assert catalog.find("tools/list", "Search") is None
    assert catalog.find("prompts/list", "search") is None


def test_joined_names_that_coincide_lose_nobody() -> None:
    """`a` + `b__c` and `a__b` + `c` are joined to the same name, and a backend may choose its names to that end."""
    catalog = catalog_of(
        offer("first", tools=["c", "b__c"]),
        offer("a", tools=["b__c"]),
        offer("a__b", tools=["c"]),
        offer("z", tools=["c"]),
    )
    assert catalog.collisions == []
    assert keys(catalog)[:3] == ["c", "b__c", "a__b__c"]
    owners = {item.key: (item.group, item.original) for item in catalog.lists["tools/list"].items}
    assert sorted(owners.values()) == [("a", "b__c"), ("a__b", "c"), ("first", "b__c"), ("first", "c"), ("z", "c")]
    found = catalog.find("tools/list", "a__b__c")
    assert found is not None
    assert found.group == "a"


group_ids = st.sampled_from(["a", "a__b", "b", "a__", "b__a", "long-" + "x" * 43])
tool_names = st.sampled_from(
    ["a", "b", "c", "b__a", "a__b__a", "__a", "y" * 70, "y" * 64, "long-" + "x" * 43 + "__a", ""]
)
configurations = st.lists(
    st.tuples(group_ids, st.lists(tool_names, unique=True, max_size=6)), unique_by=lambda pair: pair[0], max_size=5
)


@given(configuration=configurations, naming=st.sampled_from(["auto", "prefixed"]))
def test_no_item_is_lost_and_no_name_is_ambiguous(configuration: list[tuple[str, list[str]]], naming: str) -> None:
    catalog = catalog_of(*(offer(id, tools=tools) for id, tools in configuration), naming=naming)
    items = catalog.lists["tools/list"].items
    assert [(item.group, item.original) for item in items] == [
        (id, tool) for id, tools in configuration for tool in tools
    ]
    assert len({item.key for item in items}) == len(items)
    for item in items:
        assert len(item.key) <= names.MAX_NAME
        assert catalog.find("tools/list", item.key) is item
        assert orjson.loads(item.raw)["name"] == item.key


@given(configuration=configurations, naming=st.sampled_from(["auto", "prefixed", "bare"]))
def test_a_backend_at_the_end_renames_nothing(configuration: list[tuple[str, list[str]]], naming: str) -> None:
    endpoints = [offer(id, tools=tools) for id, tools in configuration]
    before, after = catalog_of(*endpoints[:-1], naming=naming), catalog_of(*endpoints, naming=naming)
    count = len(before.lists["tools/list"])
    assert keys(after)[:count] == keys(before)
    for item in before.lists["tools/list"].items:
        for name in (item.key, names.qualified(item.group, item.local)):
            was, now = before.find("tools/list", name), after.find("tools/list", name)
            assert was is not None
            assert now is not None
            if name == item.key:
                assert (was.group, was.original) == (now.group, now.original)


# What of an item survives.


def test_only_the_name_is_replaced() -> None:
    raw = b'{ "x" : 1.0e5, "na\\u006de" :\t"\\u0061" , "inputSchema":{"$ref":"#/$defs/name","name":"a"},"d":"\\u00e9" }'
    catalog = catalog_of(offer("p", tools=["a"]), offer("q", tools=[raw]))
    item = catalog.lists["tools/list"].items[1]
    assert item.raw == raw.replace(b'"\\u0061"', b'"q__a"')
    first = catalog_of(offer("q", tools=[raw])).lists["tools/list"].items[0]
    assert first.raw == raw
    assert first.text(H) is first.raw


def test_rules() -> None:
    rules = ToolRules(
        allow=("read*", "list", "write"), deny=("*_secret", "write"), rename={"list": "ls", "read_a": "list"}
    )
    catalog = catalog_of(
        offer("f", rules=rules, tools=["read_a", "read_secret", "list", "write", "other"], prompts=["other", "list"])
    )
    assert keys(catalog) == ["list", "ls"]
    assert [item.original for item in catalog.lists["tools/list"].items] == ["read_a", "list"]
    assert keys(catalog, "prompts") == ["other", "list"]
    for name in ("read_a", "read_secret", "write", "f__write", "f__read_secret"):
        assert catalog.find("tools/list", name) is None


def test_two_tools_renamed_alike_are_both_there() -> None:
    catalog = catalog_of(offer("f", rules=ToolRules(rename={"a": "x", "b": "x", "c": "x"}), tools=["a", "b", "c"]))
    assert [item.original for item in catalog.lists["tools/list"].items] == ["a", "b", "c"]
    assert keys(catalog)[:2] == ["x", "f__x"]


LEFT_OUT = [
    b"{}",
    b"null",
    b'"a"',
    b"[]",
    b"5",
    b'{"name":null}',
    b'{"name":5}',
    b'{"name":{}}',
    b'{"Name":"a"}',
    b'{"name":"a","name":"b"}',
    b'{"name":"a","\\u006eame":"b"}',
    b'{"name":"a","x":1,"x":2}',
    b'{"name":"a","inputSchema":{"type":"object","properties":{"r":{"type":"number","x-mcp-header":"R"}}}}',
    b'{"name":"a","inputSchema":{"type":"object","properties":{"r":{"type":"number","x-mcp-heade\\u0072":"R"}}}}',
    b'{"name":"a","inputSchema":{"x-mcp-header":"R"}}',
]


@pytest.mark.parametrize("raw", LEFT_OUT)
def test_what_cannot_be_offered_is_left_out_alone_and_logged(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    catalog = catalog_of(offer("f", tools=["before", raw, "after"]), offer("g", tools=["a"]))
    assert keys(catalog) == ["before", "after", "a"]
    (record,) = [record for record in caplog.records if record.getMessage() == "catalog.item_left_out"]
    fields: dict[str, str] = record.fields  # type: ignore[attr-defined]
    assert (fields["backend"], fields["list"], fields["item"]) == ("f", "tools/list", raw.decode()[:100])
    assert fields["reason"]


def test_a_second_item_of_the_same_name_is_left_out() -> None:
    catalog = catalog_of(offer("f", tools=[b'{"name":"a","x":1}', b'{"name":"\\u0061","x":2}']))
    assert [item.raw for item in catalog.lists["tools/list"].items] == [b'{"name":"a","x":1}']


def test_huge_names_are_cut() -> None:
    catalog = catalog_of(offer("f", tools=["x" * 1_000_000, "x" * 1_000_001]))
    assert [len(key) for key in keys(catalog)] == [64, 64]


def test_annotations_are_read() -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    catalog = catalog_of(offer("f", tools=[{"name": "a", "inputSchema": schema}, {"name": "b", "inputSchema": []}]))
    assert [item.annotations for item in catalog.lists["tools/list"].items] == [((("region",), "Region"),), ()]


@pytest.mark.parametrize(
    ("era", "members", "for_handshake", "for_stateless"),
    [
        (H, {"execution": {"taskSupport": "optional"}, "x": 1}, {"x"}, {"x"}),
        (H, {"outputSchema": {"type": "array"}}, {"outputSchema"}, {"outputSchema"}),
        (S, {"outputSchema": {"type": "array"}}, set(), {"outputSchema"}),
        (S, {"outputSchema": {"type": "object"}}, {"outputSchema"}, {"outputSchema"}),
        (S, {"outputSchema": {"anyOf": []}}, set(), {"outputSchema"}),
        (S, {"outputSchema": True}, set(), {"outputSchema"}),
        (S, {"execution": {}}, set(), {"execution"}),
    ],
)
def test_members_of_the_other_era(
    era: Era, members: dict[str, Any], for_handshake: set[str], for_stateless: set[str]
) -> None:
    (item,) = catalog_of(offer("f", era=era, tools=[{"name": "a"} | members])).lists["tools/list"].items
    assert set(orjson.loads(item.text(H))) == {"name"} | for_handshake
    assert set(orjson.loads(item.text(S))) == {"name"} | for_stateless


# Capabilities, instructions, hints.


def test_capabilities_are_what_some_backend_has() -> None:
    catalog = catalog_of(
        offer("a", tools=[], capabilities={"tools": {"listChanged": True}, "logging": {}, "prompts": None, "x": {}}),
        offer("b", capabilities={"completions": {}, "resources": [], "tasks": {}}),
    )
    assert catalog.capabilities == {"tools": {"listChanged": True}, "completions": {}, "logging": {}}


def test_instructions_are_labelled() -> None:
    catalog = catalog_of(offer("a", instructions="be kind"), offer("b"), offer("c", instructions="be quick"))
    assert catalog.instructions == "[a] be kind\n\n[c] be quick"
    assert catalog_of(offer("b")).instructions is None


def test_a_list_is_public_where_all_its_parts_are() -> None:
    def public(*endpoints: Any) -> bool:
        return catalog_of(*endpoints).lists["tools/list"].public

    a = offer("a", tools=[], public=True)
    assert public(a)
    assert public(a, offer("b", tools=[], public=True))
    assert not public(a, offer("b", tools=[]))
    assert public(a, offer("b", prompts=[]))
    assert not public()


def test_a_backend_without_inventory_takes_part_in_nothing() -> None:
    absent = offer("a", tools=["x"])
    absent.inventory = None
    catalog = catalog_of(absent, offer("b", tools=["x"]))
    assert keys(catalog) == ["x"]
    assert catalog.find("tools/list", "b__x") is not None


def test_a_group_that_has_gone_offers_nothing_and_keeps_its_names() -> None:
    gone = offer("a", tools=["x", "y"])
    gone.former, gone.inventory = gone.inventory, None
    catalog = catalog_of(gone, offer("b", tools=["x", "z"]))
    assert keys(catalog) == ["b__x", "z"]
    for name in ("x", "a__x", "y"):
        assert catalog.find("tools/list", name) is None


# Pages.


class _CursorGoneError(Exception):
    """The item that a cursor names has gone: the client hears that its cursor is none of ours."""


def walk(catalogs: list[Catalog], size: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Page through, each page from the next catalog, the last of them for the rest."""
    monkeypatch.setattr(module, "PAGE_ITEMS", size)
    seen: list[str] = []
    start: int | None = 0
    cursor = ""
    for turn in range(1000):
        merged: MergedList = catalogs[min(turn, len(catalogs) - 1)].lists["tools/list"]
        if turn:
            start = merged.after(cursor)
        if start is None:
            raise _CursorGoneError
        items, following = merged.page(start, None)
        assert len(items) <= size
        seen += [item.key for item in items]
        if following is None:
            return seen
        cursor = following
    raise AssertionError("the pages do not end")


@given(count=st.integers(0, 12), size=st.integers(1, 5))
def test_pages_cover_every_item_once(count: int, size: int) -> None:
    catalog = catalog_of(offer("a", tools=[f"t{i}" for i in range(count)]))
    with pytest.MonkeyPatch.context() as patch:
        assert walk([catalog], size, patch) == keys(catalog)


@given(
    kept=st.integers(1, 10),
    size=st.integers(1, 4),
    coming=st.lists(st.lists(st.integers(0, 10), max_size=4), min_size=1, max_size=4),
)
def test_pages_cover_what_stays_once_while_others_come_and_go(kept: int, size: int, coming: list[list[int]]) -> None:
    """Only items of other backends, in front, come and go: those whose turn has passed are not seen again."""
    catalogs = [
        catalog_of(
            offer("a", tools=[f"new{place}" for place in sorted(set(places))]),
            offer("b", tools=[f"t{i}" for i in range(kept)]),
        )
        for places in coming
    ]
    stays = [f"t{i}" for i in range(kept)]
    with pytest.MonkeyPatch.context() as patch:
        try:
            seen = walk(catalogs, size, patch)
        except _CursorGoneError:
            return
    assert [key for key in seen if key in stays] == stays


def test_pages_of_a_part_cover_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ITEMS", 2)
    merged = catalog_of(offer("a", tools=[f"t{i}" for i in range(9)])).lists["tools/list"]
    seen, start = [], 0
    for _ in range(9):
        items, cursor = merged.page(start, lambda key: key in {"t0", "t3", "t4", "t8"})
        seen.append([item.key for item in items])
        if cursor is None:
            break
        found = merged.after(cursor)
        assert found is not None
        start = found
    assert seen == [["t0", "t3"], ["t4", "t8"]]


@pytest.mark.parametrize("cursor", ["", "t0", "0", "\x00", "f" * 16, "a" * 100_000])
def test_other_cursors_are_not_ours(cursor: str) -> None:
    assert catalog_of(offer("a", tools=["t0", "t1"])).lists["tools/list"].after(cursor) is None


# Resources.


def test_uris_stay_bare_until_two_want_the_same() -> None:
    catalog = catalog_of(offer("a", resources=["x:1", "x:2"]), offer("b", resources=["x:1", "y:1"]))
    assert keys(catalog, "resources") == ["x:1", "x:2", "only1mcp://b/x:1", "y:1"]
    assert catalog.resource_owner("x:1") == ("a", "x:1")
    assert catalog.resource_owner("only1mcp://b/x:1") == ("b", "x:1")
    assert catalog.resource_owner("only1mcp://a/x:1") == ("a", "x:1")


TWO = catalog_of(
    offer("a", resources=["x:1", "only1mcp://b/secret", "test://static"], resourceTemplates=["t://{id}/data"]),
    offer("b", resources=["y:1"], resourceTemplates=["u://{+path}", "{+anything}", "{scheme}://x"]),
    offer("c", tools=["only tools"]),
)


@pytest.mark.parametrize(
    ("uri", "owner"),
    [
        ("x:1", ("a", "x:1")),
        ("y:1", ("b", "y:1")),
        ("y:unlisted", ("b", "y:unlisted")),  # nobody else uses the scheme
        ("t://5/data", ("a", "t://5/data")),
        ("t://{id}/data", ("a", "t://{id}/data")),  # the template itself, as completion names it
        ("u://a/b/c", ("b", "u://a/b/c")),
        ("test://nonexistent", ("a", "test://nonexistent")),
        ("zzz:unknown", ("a", "zzz:unknown")),  # a template for everything is no claim
        ("only1mcp://b/zzz:1", ("b", "zzz:1")),
        ("only1mcp://nobody/zzz:1", ("a", "only1mcp://nobody/zzz:1")),
        ("", ("a", "")),
        ("no-scheme", ("a", "no-scheme")),
    ],
)
def test_owner_of_a_uri(uri: str, owner: tuple[str, str]) -> None:
    assert TWO.resource_owner(uri) == owner


@pytest.mark.parametrize("group", ["a", "b"])
@given(
    uri=st.one_of(
        st.sampled_from(["x:1", "y:1", "t://5/data", "u://a", "zzz:1", "only1mcp://b/x:1", "ui://w/x", ""]),
        st.text(max_size=8).map(lambda text: "only1mcp://" + text),
        st.text(max_size=8),
    )
)
def test_a_uri_given_out_comes_back_to_its_group(group: str, uri: str) -> None:
    public = TWO.public_uri(group, uri)
    assert TWO.resource_owner(public) == (group, uri)


def test_no_backend_can_list_a_uri_in_the_name_of_another() -> None:
    assert "only1mcp://a/only1mcp://b/secret" in keys(TWO, "resources")
    assert TWO.resource_owner("only1mcp://b/secret") == ("b", "secret")


@pytest.mark.parametrize("uri", ["https://example.com/a", "http://example.com/a"])
def test_uris_that_clients_fetch_themselves_stay(uri: str) -> None:
    assert TWO.public_uri("b", uri) == uri


def test_with_one_owner_nothing_is_rewritten() -> None:
    catalog = catalog_of(offer("a", resources=["x:1"]), offer("c", tools=[]))
    assert not catalog.rewrites_uris
    assert catalog.public_uri("a", "anything:1") == "anything:1"
    assert TWO.rewrites_uris


def test_a_gateway_behind_us_with_one_of_our_names() -> None:
    catalog = catalog_of(offer("gw", resources=["only1mcp://fs/file:///x"]), offer("fs", tools=[]))
    (key,) = keys(catalog, "resources")
    assert catalog.resource_owner(key) == ("gw", "only1mcp://fs/file:///x")


def test_without_resources_nobody_owns_anything() -> None:
    assert catalog_of(offer("c", tools=[])).resource_owner("x:1") is None
    assert catalog_of(offer("c", capabilities={"resources": None})).resource_owner("x:1") is None


def test_rules_that_meet_no_tool_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    rules = ToolRules(allow=("a*", "typo"), deny=("a2", "tpyo"), rename={"a1": "b", "gone": "c"})
    assert keys(catalog_of(offer("x", tools=["a1", "a2"], rules=rules))) == ["b"]
    warned = [record.fields for record in caplog.records if record.getMessage() == "catalog.rule_meets_no_tool"]  # type: ignore[attr-defined]
    assert [(fields["rule"], fields["name"]) for fields in warned] == [
        ("tools.allow", "typo"),
        ("tools.deny", "tpyo"),
        ("tools.rename", "gone"),
    ]


# What may be kept.

READ_ONLY = {"annotations": {"readOnlyHint": True}}


def kept(*endpoints: Any, naming: str = "auto", **cache: Any) -> dict[str, int | None]:
    catalog = Catalog(groups_of(*endpoints), naming, Cache(**cache))
    lists = catalog.lists["tools/list"].items + catalog.lists["prompts/list"].items
    return {item.key: item.kept_ms for item in lists}


def named(*names: str, ttl_seconds: float | None = None) -> dict[str, CachedItem]:
    return dict.fromkeys(names, CachedItem(ttl_seconds))


def test_results_of_a_tool_are_kept_by_double_opt_in(caplog: pytest.LogCaptureFixture) -> None:
    hints: list[Any] = [True, False, None, "true", 1]
    tools = [{"name": f"t{number}", "annotations": {"readOnlyHint": hint}} for number, hint in enumerate(hints)]
    tools += [{"name": "none"}, {"name": "odd", "annotations": [True]}, {"name": "unnamed", **READ_ONLY}]
    names = [tool["name"] for tool in tools if tool["name"] != "unnamed"]
    found = kept(offer("a", tools=tools), tools=named(*names, "missing"), ttl_seconds=7)
    assert {name for name, ttl_ms in found.items() if ttl_ms is not None} == {"t0"}
    assert found["t0"] == 7000
    assert caplog.messages == ["catalog.cached_tool_not_read_only"] * 6


def test_a_tool_has_a_lifetime_of_its_own_and_is_known_by_its_public_or_qualified_name() -> None:
    rules = ToolRules(rename={"a": "b"})
    a = offer("x", tools=[{"name": "a", **READ_ONLY}], rules=rules)
    c = offer("y", tools=[{"name": "b", **READ_ONLY}])
    assert kept(a, c, tools=named("b", ttl_seconds=900)) == {"b": 900_000, "y__b": None}
    assert kept(a, c, tools=named("y__b")) == {"b": None, "y__b": 300_000}
    assert kept(a, c, tools=named("x__b")) == {"b": 300_000, "y__b": None}
    assert kept(a, c, tools=named("a", "x__a")) == {"b": None, "y__b": None}


def test_a_prompt_needs_no_word_of_its_backend() -> None:
    a = offer("x", tools=[{"name": "n", **READ_ONLY}], prompts=["p", "q"])
    assert kept(a, prompts=named("p", "n", ttl_seconds=2)) == {"n": None, "p": 2000, "q": None}


def test_nothing_is_kept_where_the_cache_is_off() -> None:
    a = offer("x", tools=[{"name": "n", **READ_ONLY}])
    assert kept(a, tools=named("n"), enabled=False) == {"n": None}
    assert catalog_of(a).lists["tools/list"].items[0].kept_ms is None
