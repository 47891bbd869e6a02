"""Which era a request belongs to, and the order in which a stateless one is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from only1mcp._fast import Envelope, scan
from only1mcp.errors import ProtocolError
from only1mcp.wire import classify, mcp
from only1mcp.wire.http1_events import Headers, RequestHead
from only1mcp.wire.mcp import Era

VERSION, SESSION, METHOD, NAME = mcp.HEADER_VERSION, mcp.HEADER_SESSION, mcp.HEADER_METHOD, mcp.HEADER_NAME
META = {mcp.META_VERSION: "2026-07-28", mcp.META_CAPABILITIES: {}}


def head(headers: Headers, method: bytes = b"POST") -> RequestHead:
    return RequestHead(method, b"/mcp", headers)


def message(method: str, params: Any) -> Envelope:
    return scan(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))


@pytest.mark.parametrize(
    ("method", "headers", "era"),
    [
        (b"POST", [(VERSION, b"2025-11-25")], Era.HANDSHAKE),
        (b"POST", [(VERSION, b"2024-11-05")], Era.HANDSHAKE),
        (b"POST", [(VERSION, b"2026-07-28")], Era.STATELESS),
        # A stray session id is nothing in the stateless era, and an unknown revision is refused by that era's checks.
        (b"POST", [(VERSION, b"2026-07-28"), (SESSION, b"s")], Era.STATELESS),
        (b"POST", [(VERSION, b"2099-01-01"), (SESSION, b"s")], Era.STATELESS),
        (b"POST", [(VERSION, b"")], Era.STATELESS),
        (b"POST", [(VERSION, b"\xff")], Era.STATELESS),
        (b"POST", [(SESSION, b"s")], Era.HANDSHAKE),
        (b"POST", [], None),
        (b"GET", [], Era.HANDSHAKE),
        (b"DELETE", [], Era.HANDSHAKE),
        (b"GET", [(VERSION, b"2026-07-28")], Era.STATELESS),
    ],
)
def test_era_of_headers(method: bytes, headers: Headers, era: Era | None) -> None:
    assert classify.era_of_headers(head(headers, method)) is era


@pytest.mark.parametrize("values", [(b"2025-11-25", b"2026-07-28"), (b"2026-07-28", b"2026-07-28")])
def test_two_versions_are_refused(values: tuple[bytes, bytes]) -> None:
    with pytest.raises(ProtocolError) as caught:
        classify.era_of_headers(head([(VERSION, value) for value in values]))
    assert (caught.value.code, caught.value.http_status) == (-32020, 400)


def test_two_session_ids_are_refused() -> None:
    with pytest.raises(ProtocolError):
        classify.era_of_headers(head([(SESSION, b"a"), (SESSION, b"b")]))


@pytest.mark.parametrize("params", [{}, {"_meta": {}}, {"_meta": {"progressToken": 1}}, {"arguments": {"_meta": META}}])
def test_a_message_without_version_is_of_the_handshake_era(params: dict[str, Any]) -> None:
    assert classify.era_of_message(message("tools/list", params)) is Era.HANDSHAKE


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25", "", 5, {}])
def test_a_stateless_client_that_forgot_the_header_hears_so(version: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        classify.era_of_message(message("tools/list", {"_meta": {mcp.META_VERSION: version}}))
    assert caught.value.code == -32020


def good(method: str = "tools/call", name: bytes | None = b"t") -> Headers:
    headers = [(VERSION, b"2026-07-28"), (METHOD, method.encode())]
    return headers if name is None else [*headers, (NAME, name)]


@pytest.mark.parametrize(
    ("method", "params", "headers"),
    [
        ("tools/call", {"name": "t", "_meta": META}, good()),
        ("tools/call", {"name": "é", "_meta": META}, good(name=b"=?base64?w6k=?=")),
        ("tools/call", {"name": "t", "_meta": META}, good(name=b"  t ")),
        ("tools/call", {"name": "t", "_meta": META}, good(name=b"=?base64?dA==?=")),
        ("resources/read", {"uri": "a:b", "_meta": META}, good("resources/read", b"a:b")),
        ("tools/list", {"_meta": META}, good("tools/list", None)),
        ("tools/list", {"_meta": META | {mcp.META_CAPABILITIES: {"sampling": {}}}}, good("tools/list", None)),
        # Nothing mirrors a name here, so nobody may have acted upon it.
        ("tools/list", {"_meta": META}, good("tools/list", b"stray")),
    ],
)
def test_accepts(method: str, params: dict[str, Any], headers: Headers) -> None:
    assert classify.check_stateless(classify.routing_of(head(headers)), message(method, params)) == "2026-07-28"


V999 = META | {mcp.META_VERSION: "v999"}
REFUSED = [
    # what is wrong, method, params, headers, code
    ("method twice", "tools/call", {"name": "t", "_meta": META}, [*good(), (METHOD, b"tools/call")], -32020),
    ("name twice", "tools/call", {"name": "t", "_meta": META}, [*good(), (NAME, b"t")], -32020),
    ("name twice before no _meta", "tools/call", {"name": "t"}, [*good(), (NAME, b"t")], -32020),
    ("no params", "tools/list", None, good("tools/list", None), -32602),
    ("no _meta", "tools/call", {"name": "t"}, good(), -32602),
    ("no version", "tools/call", {"name": "t", "_meta": {mcp.META_CAPABILITIES: {}}}, good(), -32602),
    ("version null", "tools/call", {"name": "t", "_meta": META | {mcp.META_VERSION: None}}, good(), -32602),
    ("version a number", "tools/call", {"name": "t", "_meta": META | {mcp.META_VERSION: 1}}, good(), -32602),
    ("no capabilities", "tools/call", {"name": "t", "_meta": {mcp.META_VERSION: "2026-07-28"}}, good(), -32602),
    ("capabilities null", "tools/call", {"name": "t", "_meta": META | {mcp.META_CAPABILITIES: None}}, good(), -32602),
    ("capabilities an array", "tools/call", {"name": "t", "_meta": META | {mcp.META_CAPABILITIES: []}}, good(), -32602),
    ("no _meta before another header", "tools/call", {"name": "t"}, good("x"), -32602),
    ("version differs", "tools/call", {"name": "t", "_meta": V999}, good(), -32020),
    ("version differs by case", "tools/call", {"name": "t", "_meta": META}, [(VERSION, b"2026-07-28x")], -32020),
    ("no method header", "tools/call", {"name": "t", "_meta": META}, [(VERSION, b"2026-07-28"), (NAME, b"t")], -32020),
    ("method differs", "tools/call", {"name": "t", "_meta": META}, good("tools/list"), -32020),
    ("method differs by case", "tools/call", {"name": "t", "_meta": META}, good("Tools/call"), -32020),
    ("no name header", "tools/call", {"name": "t", "_meta": META}, good(name=None), -32020),
    ("name differs", "tools/call", {"name": "t", "_meta": META}, good(name=b"u"), -32020),
    ("name differs by case", "tools/call", {"name": "t", "_meta": META}, good(name=b"T"), -32020),
    ("name in raw UTF-8", "tools/call", {"name": "é", "_meta": META}, good(name="é".encode()), -32020),
    ("name in broken base64", "tools/call", {"name": "t", "_meta": META}, good(name=b"=?base64?dA=?="), -32020),
    ("uri differs", "resources/read", {"uri": "a:b", "_meta": META}, good("resources/read", b"a:c"), -32020),
    ("no name", "tools/call", {"_meta": META}, good(), -32602),
    ("no uri", "resources/read", {"name": "t", "_meta": META}, good("resources/read"), -32602),
    ("name before version", "tools/call", {"name": "t", "_meta": V999}, [(VERSION, b"v999")], -32020),
    ("unknown version", "tools/list", {"_meta": V999}, [(VERSION, b"v999"), (METHOD, b"tools/list")], -32022),
]  # fmt: skip


@pytest.mark.parametrize(("what", "method", "params", "headers", "code"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses(what: str, method: str, params: Any, headers: Headers, code: int) -> None:
    text = {"jsonrpc": "2.0", "id": 1, "method": method} | ({} if params is None else {"params": params})
    with pytest.raises(ProtocolError) as caught:
        classify.check_stateless(classify.routing_of(head(headers)), scan(orjson.dumps(text)))
    assert (caught.value.code, caught.value.http_status) == (code, 400)
    if code == -32022:
        assert caught.value.data == {"supported": ["2026-07-28"], "requested": "v999"}


def test_a_doubled_key_in_meta_is_refused() -> None:
    text = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"a":1,"a":2}}}'
    with pytest.raises(ProtocolError):
        classify.check_stateless(classify.routing_of(head(good("tools/list", None))), scan(text))
