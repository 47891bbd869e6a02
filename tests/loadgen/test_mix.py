"""What may be written in options and mix files, and in which order it is sent."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.loadgen.mix import (
    MAX_FILE_BYTES,
    MixError,
    Operation,
    layout,
    load_mix,
    parse_method,
    parse_tool,
)


@pytest.mark.parametrize(
    ("text", "name", "arguments", "weight"),
    [
        ("echo", "echo", {}, 1),
        ("echo:3", "echo", {}, 3),
        ('search={"q":"x"}', "search", {"q": "x"}, 1),
        ('search={"q":"x"}:3', "search", {"q": "x"}, 3),
        ('search={"q":"a=b:3"}:2', "search", {"q": "a=b:3"}, 2),
        ("ns:tool={}", "ns:tool", {}, 1),
        ("ends:7={}", "ends:7", {}, 1),
        ('é={"a":1.50}', "é", {"a": 1.5}, 1),
    ],
)
def test_tools(text: str, name: str, arguments: object, weight: int) -> None:
    found = parse_tool(text)
    assert json.loads(found.params) == {"name": name, "arguments": arguments}
    assert (found.method, found.name, found.weight) == ("tools/call", name, weight)


def test_arguments_keep_their_spelling() -> None:
    assert b'{"a":1.50}' in parse_tool('x={"a":1.50}').params


@pytest.mark.parametrize(
    "text",
    ["", "=", ":3", "={}", "x={", "x=[1]", 'x="s"', "x=1", "x=", "x:0", "x={}:10001", "x=nan", "\udcff", "x={}:3:4"],
)
def test_tools_that_are_none(text: str) -> None:
    with pytest.raises(MixError):
        parse_tool(text)


def test_methods() -> None:
    assert parse_method("tools/list:1") == Operation("tools/list")
    read = parse_method('resources/read={"uri":"a:b"}:2')
    assert (read.method, read.name, read.weight, read.label) == ("resources/read", "a:b", 2, "resources/read a:b")
    assert parse_method("ping").name is None


@pytest.mark.parametrize(
    "text",
    [
        "initialize",
        "notifications/initialized",
        "subscriptions/listen",
        "tools/call",
        "resources/read={}",
        'prompts/get={"name":1}',
        "two words",
        "tools/list\n",
        "é",
        "ping=[]",
        "",
    ],
)
def test_methods_that_are_no_load(text: str) -> None:
    with pytest.raises(MixError):
        parse_method(text)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mix.yaml"
    file.write_text("- {tool: search, arguments: {q: é}, weight: 3}\n- method: tools/list\n- tool: now\n")
    assert [(each.label, each.weight) for each in load_mix(file)] == [
        ("tools/call search", 3),
        ("tools/list", 1),
        ("tools/call now", 1),
    ]
    file.write_text(json.dumps([{"method": "prompts/get", "params": {"name": "p"}}]))
    assert load_mix(file)[0].name == "p"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        "- {tool: a, method: b}",
        "- {weight: 1}",
        "- {tool: a, arguments: [1]}",
        "- {tool: a, params: {}}",
        "- {method: ping, arguments: {}}",
        "- {tool: a, weight: 1.5}",
        "- {tool: a, weight: true}",
        "- {tool: a, weight: 0}",
        "- {tool: a, wieght: 1}",
        "- {tool: ''}",
        "- {tool: 5}",
        "- {tool: a, arguments: {d: 2026-01-01, s: !!set {x}}}",
        "- {tool: a, arguments: {1: x}}",
        "- !!python/object:os.system {}",
        "a: [",
        "\x00",
        "[" * 5000,
    ],
)
def test_files_that_are_no_mix(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mix.yaml"
    file.write_text(text)
    with pytest.raises(MixError) as caught:
        load_mix(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(MixError):
            load_mix(path)
    huge = tmp_path / "huge"
    with huge.open("wb") as out:
        out.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(MixError, match="longer than"):
        load_mix(huge)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_a_round_holds_each_as_often_as_its_weight_and_spreads_them(weights: list[int]) -> None:
    order = layout([Operation("ping", weight=weight) for weight in weights])
    assert Counter(order) == Counter(dict(enumerate(weights)))
    total = sum(weights)
    for place, weight in enumerate(weights):
        for length in range(1, total + 1):
            assert abs(order[:length].count(place) - length * weight / total) < len(weights)


def test_rounds_are_bounded() -> None:
    with pytest.raises(MixError, match="add up"):
        layout([Operation("ping", weight=10_000)] * 101)
    with pytest.raises(MixError, match="at most"):
        layout([Operation("ping")] * 1001)
    assert layout([]) == []
