"""The tree in the docstring is the tree of the classes, and every error becomes one JSON-RPC error response."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp import errors
from only1mcp._fast import ERROR, scan
from only1mcp.errors import (
    BackendAnswerError,
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ConfigError,
    HeadersRefused,
    NotAllowed,
    NotAuthenticated,
    Only1MCPError,
    Overloaded,
    ProtocolError,
    RateLimited,
    RequestRefused,
    error_message,
)

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__
}
INSTANCES: list[tuple[Only1MCPError, str, int, int, bool]] = [
    # error, source, HTTP status, code, retryable
    (Only1MCPError("x"), "proxy", 500, -32603, False),
    (ConfigError(["a.yaml:1:2: x: wrong"]), "proxy", 500, -32603, False),
    (ProtocolError("x"), "client", 400, -32600, False),
    (ProtocolError("x", code=-32700, http_status=413), "client", 413, -32700, False),
    (RequestRefused("x"), "client", 400, -32602, False),
    (RequestRefused("x", code=-32601, http_status=404), "client", 404, -32601, False),
    (NotAuthenticated("x"), "client", 401, -31004, False),
    (NotAllowed("x"), "client", 403, -31005, False),
    (RateLimited("x", retry_after_s=1.5), "client", 429, -31003, False),
    (Overloaded("x"), "proxy", 503, -31006, False),
    (BackendError("x"), "backend", 502, -31007, False),
    (BackendUnavailable("x"), "backend", 503, -31001, True),
    (BackendTimeout("x"), "backend", 504, -31002, False),
    (BackendAnswerError("x"), "backend", 502, -31007, False),
    (BackendRefused("x", status=403), "backend", 502, -31007, False),
    (HeadersRefused("x"), "backend", 200, -32603, False),
]


def tree_of_docstring() -> dict[str, str | None]:
    """Return the parent of each class that the module's docstring draws."""
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ([ |]*)(\+- )?([A-Z]\w+)(?:  +\S.*)?", line)
        if found is None:
            continue
        indent = len(found[1])
        while path and path[-1][0] >= indent and found[2]:
            path.pop()
        parents[found[3]] = path[-1][1] if path else None
        path.append((indent if found[2] else -1, found[3]))
    return parents


def test_docstring_draws_the_tree() -> None:
    assert tree_of_docstring() == {
        name: None if value is Only1MCPError else value.__mro__[1].__name__ for name, value in CLASSES.items()
    }


def test_every_class_is_checked_below() -> None:
    assert {type(error).__name__ for error, *_ in INSTANCES} == set(CLASSES)


@pytest.mark.parametrize(("error", "source", "status", "code", "retryable"), INSTANCES)
def test_knows_who_is_at_fault(error: Only1MCPError, source: str, status: int, code: int, retryable: bool) -> None:
    assert (error.source, error.http_status, error.code, error.retryable) == (source, status, code, retryable)
    # Ours are outside of what JSON-RPC and MCP reserve; what is inside is one of theirs.
    assert not -32768 <= error.code <= -32000 or error.code in {-32700, -32600, -32601, -32602, -32603}


@pytest.mark.parametrize(
    ("error", "id", "expected"),
    [
        (RequestRefused("no"), b"7", b'{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}'),
        (
            RequestRefused("no"),
            b'"\\u0061"',
            b'{"jsonrpc":"2.0","id":"\\u0061","error":{"code":-32602,"message":"no"}}',
        ),
        (ProtocolError("no"), None, b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}'),
        (ProtocolError("no", id=b"3"), None, b'{"jsonrpc":"2.0","id":3,"error":{"code":-32600,"message":"no"}}'),
        (ProtocolError("no", id=b"3"), b"4", b'{"jsonrpc":"2.0","id":4,"error":{"code":-32600,"message":"no"}}'),
        (
            RequestRefused("no", data={"uri": "x:y"}),
            b"1",
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no","data":{"uri":"x:y"}}}',
        ),
        (
            RequestRefused("no", data=0),
            b"1",
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no","data":0}}',
        ),
    ],
)
def test_becomes_a_response(error: Only1MCPError, id: bytes | None, expected: bytes) -> None:
    assert error_message(error, id) == expected


ODD_TEXT = [
    pytest.param('"\\\n\x00\u2028', id="needs escapes"),
    pytest.param("caf\udce9", id="a file name that is not UTF-8"),
    pytest.param("\ud800", id="half a pair"),
    pytest.param("", id="empty"),
]


@pytest.mark.parametrize("text", ODD_TEXT)
@pytest.mark.parametrize("data", [None, {"uri": "\udcff"}, 2**70, {1: b"x"}, object()])
def test_no_text_and_no_data_keeps_the_answer_from_being_made(text: str, data: Any) -> None:
    envelope = scan(error_message(RequestRefused(text, data=data), b"1"))
    assert envelope.kind == ERROR


@given(message=st.text(), data=st.none() | st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53)))
def test_message_and_data_arrive(message: str, data: dict[str, Any] | None) -> None:
    body = orjson.loads(error_message(RequestRefused(message, data=data), b"1"))["error"]
    assert body == {"code": -32602, "message": message} | ({} if data is None else {"data": data})
