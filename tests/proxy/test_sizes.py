"""Long parts of messages: those that must be decoded are refused, the users' data passes."""

from __future__ import annotations

import pytest

from only1mcp._fast import scan
from only1mcp.errors import RequestRefused
from only1mcp.proxy.sizes import MAX_DECODED_BYTES, check_sizes

LONG = "x" * MAX_DECODED_BYTES


def message(method: str, params: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}'.encode()


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("initialize", f'"capabilities":{{"x":"{LONG}"}}', "params"),
        ("tools/list", f'"cursor":"{LONG}"', "params"),
        ("resources/read", f'"uri":"{LONG}"', "params"),
        ("completion/complete", f'"ref":"{LONG}"', "params"),
        ("no/such", f'"x":"{LONG}"', "params"),
        ("tools/call", f'"name":"{LONG}"', "params.name"),
        ("tools/call", f'"name":"a","_meta":{{"x":"{LONG}"}}', "params._meta"),
        ("prompts/get", f'"name":"a","_meta":{{"x":"{LONG}"}}', "params._meta"),
    ],
)
def test_refused(method: str, params: str, named: str) -> None:
    with pytest.raises(RequestRefused, match=f"expected {named} to be at most") as caught:
        check_sizes(scan(message(method, params)))
    assert (caught.value.http_status, caught.value.code) == (400, -32602)


@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
def test_arguments_are_the_users(method: str) -> None:
    check_sizes(scan(message(method, f'"name":"a","arguments":{{"x":"{LONG}"}},"_meta":{{}}')))


def test_a_result_is_the_users_too() -> None:
    check_sizes(scan(f'{{"jsonrpc":"2.0","id":1,"result":{{"x":"{LONG}"}}}}'.encode()))


def test_at_the_limit() -> None:
    around = len('{"cursor":""}')
    check_sizes(scan(message("tools/list", f'"cursor":"{LONG[around:]}"')))
    with pytest.raises(RequestRefused):
        check_sizes(scan(message("tools/list", f'"cursor":"{LONG[around - 1 :]}"')))
