"""Names that fit, patterns and templates against slow and obvious oracles."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from only1mcp.proxy import names
from only1mcp.proxy.names import MAX_NAME, Patterns, UriTemplate

groups = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}", fullmatch=True)


@given(name=st.text(max_size=200))
def test_fitting_names_fit_and_short_ones_stay(name: str) -> None:
    fit = names.fitting(name)
    assert len(fit) <= MAX_NAME
    assert (fit == name) == (len(name) <= MAX_NAME)
    assert names.fitting(name) == fit
    assert names.fitting(fit) == fit


@given(group=groups, name=st.text(max_size=100))
def test_qualified_names_fit_and_begin_with_the_group(group: str, name: str) -> None:
    qualified = names.qualified(group, name)
    assert len(qualified) <= MAX_NAME
    assert qualified.startswith(group + "__")
    assert qualified == names.qualified(group, name)


def test_names_are_the_same_in_every_release() -> None:
    """Clients keep names in prompts and permissions: another hash or cut would break them all."""
    assert names.qualified("files", "read") == "files__read"
    assert names.fitting("x" * 64) == "x" * 64
    assert names.fitting("x" * 65) == "x" * 55 + "_f98431ab"
    assert names.fitting("é" * 65) == "é" * 55 + "_" + names.fitting("é" * 65)[-8:]


def test_long_names_that_differ_late_stay_apart() -> None:
    long = [f"{'x' * 100}{i}" for i in range(1000)]
    assert len({names.fitting(name) for name in long}) == 1000


URIS = [
    "file:///a/b",
    "ui://app/x",
    "ui:",
    "ui:x",
    "only1mcp://other/file:///x",
    "ui://only1mcp/other//x",
    "a",
    "",
    "//x",
    "/",
    "x:?q#f",
    "https://a/b?c=d/e#f/g",
    "test://{id}/{+path}",
]


@pytest.mark.parametrize("uri", URIS)
@given(group=groups)
def test_qualified_uris_can_be_split_again(uri: str, group: str) -> None:
    qualified = names.qualified_uri(group, uri)
    assert names.split_uri(qualified) == (group, uri)
    assert qualified.startswith("ui:") == uri.startswith("ui:")
    # Twice: a gateway behind a gateway.
    assert names.split_uri(names.qualified_uri("outer", qualified)) == ("outer", qualified)


@given(group=groups, uri=st.text())
def test_any_uri_can_be_split_again(group: str, uri: str) -> None:
    assert names.split_uri(names.qualified_uri(group, uri)) == (group, uri)


@pytest.mark.parametrize(
    "uri",
    ["", "file:///x", "only1mcp:", "only1mcp://", "only1mcp://group", "only1mcp:/g/x", "ui://only1mcp", "ui://x/g/y"],
)
def test_other_uris_are_not_split(uri: str) -> None:
    assert names.split_uri(uri) is None


# Patterns.

short = st.text("ab*", max_size=6)


def matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


@given(patterns=st.lists(short, max_size=3), name=st.text("ab", max_size=8))
@example(patterns=["ab*ba"], name="aba")
@example(patterns=["*a*a*"], name="a")
@example(patterns=["**"], name="")
def test_patterns_match_what_they_say(patterns: list[str], name: str) -> None:
    assert Patterns(patterns).match(name) == any(matches(pattern, name) for pattern in patterns)


def test_no_pattern_matches_nothing() -> None:
    assert not Patterns([]).match("")
    assert not Patterns([""]).match("a")
    assert Patterns([""]).match("")
    assert Patterns(["*"]).match("")


def test_other_wildcards_are_plain_characters() -> None:
    assert not Patterns(["a?", "[ab]", "a.c"]).match("ab")
    assert Patterns(["[ab]"]).match("[ab]")


def test_a_hostile_name_costs_linear_time() -> None:
    pattern = Patterns(["*".join("a" * 500) + "b"])
    began = time.process_time()
    assert not pattern.match("a" * 100_000)
    assert time.process_time() - began < 1


# Templates.


def expansions(pieces: list[str]) -> str:
    """Return the regular expression of a template cut at its expressions: the obvious, slow way to match."""
    pattern = ""
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            pattern += re.escape(piece)
        else:
            pattern += ".*" if piece[:1] in tuple("+#./;?&") else "[^/]*"
    return pattern


def a_simple_one_is_between(pieces: list[str]) -> bool:
    kinds = "".join("*" if piece[0] in "+#./;?&" else "s" for piece in pieces[1::2])
    return "s" in kinds.strip("s")


literals = st.text("a/:", max_size=3)
expressions = st.sampled_from(["x", "y", "+p", "/s", "?q"])


@st.composite
def templates(draw: st.DrawFn) -> list[str]:
    pieces = [draw(literals)]
    for _ in range(draw(st.integers(0, 3))):
        pieces += [draw(expressions), draw(literals)]
    return pieces


def template_of(pieces: list[str]) -> str:
    return "".join(piece if index % 2 == 0 else "{" + piece + "}" for index, piece in enumerate(pieces))


@given(pieces=templates(), uri=st.text("a/:", max_size=10))
@example(pieces=["", "+p", "/", "x", ""], uri="a/a/a")
@example(pieces=["", "+p", "", "x", ""], uri="a/a")
@example(pieces=["a:", "x", "/", "y", "/", "+p", ""], uri="a:b/c/d/e")
def test_templates_match_what_they_can_expand_to(pieces: list[str], uri: str) -> None:
    expected = re.fullmatch(expansions(pieces), uri, re.DOTALL) is not None
    matched = UriTemplate(template_of(pieces)).match(uri)
    assert matched == expected or (expected and a_simple_one_is_between(pieces))


@given(pieces=templates(), parts=st.lists(st.text("a/", max_size=4), min_size=4, max_size=4))
def test_an_expansion_matches_its_template(pieces: list[str], parts: list[str]) -> None:
    fill: Iterator[str] = iter(parts)
    uri = ""
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            uri += piece
        else:
            part = next(fill)
            uri += part if piece[0] in "+/?" else part.replace("/", "")
    assert UriTemplate(template_of(pieces)).match(uri) or a_simple_one_is_between(pieces)


@pytest.mark.parametrize(
    ("template", "uri", "expected"),
    [
        ("test://template/{id}/data", "test://template/123/data", True),
        ("test://template/{id}/data", "test://template/1/2/data", False),
        ("test://template/{id}/data", "test://template/123/data/", False),
        ("file:///{+path}", "file:///a/b/c", True),
        ("file:///{path}", "file:///a/b/c", False),
        ("repo://{owner}/{repo}/contents{/path*}", "repo://o/r/contents/a/b", True),
        ("repo://{owner}/{repo}/contents{/path*}", "repo://o/contents/a", False),
        ("x://a", "x://a", True),
        ("x://a", "x://ab", False),
        ("x:{", "x:{", True),
        ("x:{}}", "x:abc}", True),
    ],
)
def test_templates(template: str, uri: str, expected: bool) -> None:
    assert UriTemplate(template).match(uri) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{+a}" * 2_000,
        "{+a}a" * 2_000 + "b",
        "{a}a" * 2_000 + "b",
        "{" * 100_000,
        "{a" * 50_000,
        "{+a}/{b}/" * 500 + "{+c}",
    ],
    ids=lambda template: template[:8],
)
def test_a_hostile_template_costs_little(template: str) -> None:
    began = time.process_time()
    UriTemplate(template).match("a" * 20_000)
    UriTemplate(template).match("a/" * 10_000)
    assert time.process_time() - began < 2
