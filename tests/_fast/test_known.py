"""Heads that come again are known by their octets, and mean what reading them again would say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.http_heads import REQUEST_HEADS, RESPONSE_HEADS
from tests._fast.test_framing import HEADS, changed, mutations, read, request, response

from only1mcp._fast import framing_reference

known = pytest.importorskip("only1mcp._fast.known", reason="the compiled parts are not built: make build")


def with_length(role: str, name: str) -> bytes:
    """Return a captured head that has a Content-Length, else the shortest that has one."""
    data = (REQUEST_HEADS if role == "request" else RESPONSE_HEADS)[name]
    plain = read(role, data)
    shortest = request(b"Content-Length: 2") if role == "request" else response()
    return data[: plain[-1]] if plain is not None and plain[-4] is not None else shortest


@given(st.sampled_from(HEADS), mutations, st.integers(0, 10**15 - 1))
def test_a_head_is_known_again_if_only_its_length_differs(
    which: tuple[str, str], changes: list[tuple[int, int, bytes]], length: int
) -> None:
    head = with_length(*which)
    head_again = known.KnownHead(head)
    before = read(which[0], head)
    data = changed(head + b"{}", changes)
    size = head_again.matches(data)
    if size >= 0:
        again = read(which[0], data)
        assert (size, head_again.length) == (again[-1], again[-4])
        assert without_length(again) == without_length(before)
    start = head.lower().index(b"content-length:")
    digits = head.index(b"%d" % before[-4], start)
    other = head[:digits] + b"%d" % length + head[digits + len(b"%d" % before[-4]) :]
    assert head_again.matches(other + b"{}") == len(other)
    assert head_again.length == length
    assert head_again.matches(other[:-1]) == -1


def without_length(plain: Any) -> Any:
    fields = [field for field in plain[-6] if field[0] != b"content-length"]
    return *plain[:-6], fields, plain[-3:-1]


@pytest.mark.parametrize("data", [b"", b"POST / HTTP/1.1\r\n", request(), request(b"Content-Length: 2")[:-1]])
def test_what_can_not_be_known_again(data: bytes) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        known.KnownHead(data)


def test_the_plain_python_twin_knows_none() -> None:
    head = framing_reference.KnownHead(request(b"Content-Length: 2"))
    assert head.matches(request(b"Content-Length: 2")) == -1
    assert head.matches_but_name(request(b"Content-Length: 2")) == -1


LENGTH_FIRST = (b"Content-Length: 2", b"Mcp-Name: echo", b"X: y")
NAME_FIRST = (b"mcp-name:\techo ", b"X: y", b"content-length: 2")


@pytest.mark.parametrize("fields", [LENGTH_FIRST, NAME_FIRST, (b"MCP-Name: echo", b"Content-Length: 2")])
@pytest.mark.parametrize("name", [b"echo", b"e", b"a" * 300, b"!~", b"=", b"a=?"])
@pytest.mark.parametrize("length", [b"2", b"0", b"123456"])
def test_a_head_with_another_name(fields: tuple[bytes, ...], name: bytes, length: bytes) -> None:
    head = known.KnownHead(request(*fields))
    again = request(*(field.replace(b"echo", name).replace(b": 2", b": " + length) for field in fields))
    data = again + b"body"
    assert head.matches_but_name(data) == len(again)
    assert head.length == int(length)
    assert data[head.name_start : head.name_end] == name
    assert (head.matches(data) >= 0) == (name == b"echo")
    for end in range(len(again)):
        assert head.matches_but_name(again[:end]) == -1


@pytest.mark.parametrize("fields", [LENGTH_FIRST, NAME_FIRST])
@pytest.mark.parametrize(
    "name", [b"", b"a b", b" a", b"a\tb", b"a\r\nEvil: 1", b"a\r", b"\xc3\xa9", b"a\x00", b"=?base64?ZWNobw==?=", b"=x"]
)
def test_names_that_may_stand_for_another(fields: tuple[bytes, ...], name: bytes) -> None:
    data = request(*(field.replace(b"echo", name) for field in fields))
    assert known.KnownHead(request(*fields)).matches_but_name(data) == -1


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 2", b"Mcp-Name: echo", b"X: z"),
        (b"Content-Length: 2", b"Mcp-Name: echo"),
        (b"Content-Length: 2", b"Mcp-Name: echo", b"X: y", b"X: y"),
        (b"Content-Length: 2", b"Mcp-Nome: echo", b"X: y"),
        (b"Content-Length: -2", b"Mcp-Name: echo", b"X: y"),
        (b"Content-Length: 2a", b"Mcp-Name: echo", b"X: y"),
        (b"Content-Length: 1234567890123456", b"Mcp-Name: echo", b"X: y"),
    ],
)
def test_heads_that_are_others(fields: tuple[bytes, ...]) -> None:
    assert known.KnownHead(request(*LENGTH_FIRST)).matches_but_name(request(*fields)) == -1


def test_without_a_name_it_is_the_same_head() -> None:
    head = known.KnownHead(request(b"Content-Length: 2"))
    assert head.matches_but_name(request(b"Content-Length: 31")) == len(request(b"Content-Length: 31"))
    assert (head.length, head.name_start, head.name_end) == (31, 0, 0)


@given(st.sampled_from([LENGTH_FIRST, NAME_FIRST]), mutations)
def test_what_is_known_with_another_name_reads_the_same(
    fields: tuple[bytes, ...], changes: list[tuple[int, int, bytes]]
) -> None:
    head = known.KnownHead(request(*fields))
    data = changed(request(*fields) + b"{}", changes)
    size = head.matches_but_name(data)
    if size >= 0:
        plain = read("request", data)
        assert plain is not None
        assert (size, head.length) == (plain[-1], plain[-4])
        assert plain[3][b"mcp-name"] == data[head.name_start : head.name_end]
        other = [field for field in plain[2] if field[0] not in (b"mcp-name", b"content-length")]
        assert other == [(b"host", b"a"), (b"x", b"y")]
