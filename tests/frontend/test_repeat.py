"""Requests that come again: told from all others by every octet, and never believed to be what they were not."""

from __future__ import annotations

from typing import Any

import pytest

from only1mcp._fast import COMPILED, scan
from only1mcp.frontend.repeat import MAX_REQUEST_BYTES, Repeat
from only1mcp.wire.http1_events import RequestHead
from only1mcp.wire.http1_server import ServerConnection

compiled = pytest.mark.skipif(not COMPILED, reason="without the compiled reader no head is plain")


def post(id: str, *fields: str, more: str = "") -> bytes:
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"ping"{more}}}'
    length = len(body.encode())
    return "\r\n".join(["POST /mcp HTTP/1.1", "Host: a", *fields, f"Content-Length: {length}", "", body]).encode()


def remembered(octets: bytes, *, arrived: bytes | None = None) -> Repeat:
    """Read a request, and remember it as one that arrived in these octets."""
    wire = ServerConnection(8192, 8192)
    wire.receive_data(octets)
    head, body = wire.next_event(), wire.next_event()
    assert isinstance(head, RequestHead)
    assert isinstance(body, bytes)
    span = scan(body, 64).id_span
    assert span is not None
    repeat = Repeat(head, body, span, "192.0.2.1", [], _never, None)
    repeat.came_as(octets if arrived is None else arrived)
    return repeat


def _never(*_: Any) -> None:
    raise AssertionError("nobody asked for an answer")


@compiled
@pytest.mark.parametrize(
    ("first", "then"),
    [("7", "7"), ("7", "0"), ("17", "10"), ("1" * 15, "9" * 15), ('"a"', '"b"'), ('"a-1"', "12345"), ("123", '"x"')],
)
def test_the_same_request_with_another_id_is_recognized(first: str, then: str) -> None:
    repeat = remembered(post(first))
    assert repeat.maybe_id(post(then)) == then.encode()
    assert repeat.maybe_id(post(first)) == first.encode()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("1", "10"),  # another length
        ("17", "01"),
        ("17", "-1"),
        ("17", "1."),
        ("17", " 1"),
        ("123", '"""'),
        ("1234", '"\\n"'),
        ("123", "1,2"),
        ("123", "nul"),
        ("1234", "null"),
        ('"12345678901234567890"', '1,"method":"initializ"'),
        ("1" * 16, "2" * 16),
        ('"\u00e9"', '"\u00e8"'),
    ],
)
def test_what_may_be_no_plain_id_is_left_to_the_reader(first: str, then: str) -> None:
    assert remembered(post(first)).maybe_id(post(then)) is None


@pytest.mark.parametrize(
    "other",
    [
        post("8", "X: b"),
        post("8", "x: a"),
        post("8", "X: a").replace(b"POST", b"PUT "),
        post("8", "X: a").replace(b"/mcp", b"/mcq"),
        post("8", "X: a").replace(b"ping", b"pong"),
        post("8", "X: a") + b"G",
        post("8", "X: a")[:-1],
        post("8", "X: a") * 2,
        b"",
    ],
)
def test_any_other_octet_makes_it_another_request(other: bytes) -> None:
    assert remembered(post("7", "X: a")).maybe_id(other) is None


@compiled
def test_only_octets_that_are_this_request_and_nothing_else_are_believed() -> None:
    request = post("7", "X: a")
    assert remembered(request).maybe_id(request) == b"7"
    # Its end, which is a request too: what came in a piece before made it another one.
    split = request.index(b"X: a")
    assert remembered(request, arrived=request[split:]).maybe_id(request[split:]) is None
    before = b"POST /mcp HTTP/1.1\r\nHost: a\r\nY: "
    hidden = before + request
    assert remembered(hidden.replace(b"Host: a\r\nX", b"X")).maybe_id(request) is None
    assert remembered(hidden.replace(b"Host: a\r\nX", b"X"), arrived=request).maybe_id(request) is None
    # With another request in front.
    assert remembered(request, arrived=post("6") + request).maybe_id(post("6") + request) is None
    # Of which only the body is the same.
    assert remembered(request, arrived=post("7", "X: b")).maybe_id(post("7", "X: b")) is None


def test_a_request_that_came_in_pieces_or_is_long_is_not_recognized() -> None:
    request = post("7")
    assert remembered(request, arrived=request[-3:]).maybe_id(request) is None
    long = post("7", more=f',"params":{{"x":"{"y" * MAX_REQUEST_BYTES}"}}')
    assert remembered(long).maybe_id(long) is None


@compiled
@pytest.mark.parametrize("fields", [["Connection: close"], ["Expect: 100-continue"], ["X:\ta  b"]])
def test_what_says_more_than_a_plain_head_goes_the_ordinary_way(fields: list[str]) -> None:
    request = post("7", *fields)
    recognized = remembered(request).maybe_id(request) is not None
    assert recognized == (fields == ["X:\ta  b"])
