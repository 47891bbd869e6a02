"""The requests of both eras: what they carry, and that their ids can be replaced."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.loadgen.conftest import plan_for

from only1mcp.loadgen.failure import LoadError
from only1mcp.loadgen.mix import Operation, parse_method, parse_tool
from only1mcp.loadgen.requests import FIRST_ID, Prepared, mcp_headers, prepare
from only1mcp.wire.mcp import META_CLIENT_INFO, META_VERSION

STATELESS = "2026-07-28"
HANDSHAKE = "2025-11-25"


def prepared(operation: Operation, revision: str, session: str | None = None, **schemas: Any) -> Prepared:
    return prepare(plan_for("http://127.0.0.1:1/mcp", token="secret"), operation, revision, session, schemas)


def message(of: Prepared, id: int = 7) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(of.before_id + b"%d" % id + of.after_id)
    return decoded


def test_a_stateless_call() -> None:
    call = prepared(parse_tool('find={"q":"7"}'), STATELESS)
    headers = dict(call.headers)
    assert call.headers[0] == (b"host", b"127.0.0.1:1")
    assert headers[b"authorization"] == b"Bearer secret"
    assert headers[b"mcp-protocol-version"] == STATELESS.encode()
    assert (headers[b"mcp-method"], headers[b"mcp-name"]) == (b"tools/call", b"find")
    sent = message(call)
    assert (sent["id"], sent["method"]) == (7, "tools/call")
    assert sent["params"]["arguments"] == {"q": "7"}
    assert sent["params"]["_meta"][META_VERSION] == STATELESS
    assert sent["params"]["_meta"][META_CLIENT_INFO]["name"] == "only1mcp-benchmark"


def test_a_call_in_a_session() -> None:
    call = prepared(parse_tool("find"), HANDSHAKE, "s1")
    headers = dict(call.headers)
    assert (headers[b"mcp-protocol-version"], headers[b"mcp-session-id"]) == (HANDSHAKE.encode(), b"s1")
    assert b"mcp-name" not in headers
    assert "_meta" not in message(call)["params"]
    assert mcp_headers(HANDSHAKE, "s1", "initialize", None) == []


def test_own_meta_is_kept() -> None:
    sent = message(prepared(parse_method('ping2={"_meta":{"mine":1}}'), STATELESS))
    assert sent["params"]["_meta"]["mine"] == 1
    assert META_VERSION in sent["params"]["_meta"]


def test_arguments_that_look_like_the_id() -> None:
    call = prepared(parse_tool(f'find={{"id":{FIRST_ID}}}'), STATELESS)
    assert message(call)["params"]["arguments"] == {"id": FIRST_ID}
    assert message(call)["id"] == 7


def test_annotated_arguments_are_mirrored() -> None:
    schema = {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}}
    call = prepared(parse_tool('find={"zone":"eu"}'), STATELESS, find=schema)
    assert dict(call.headers)[b"mcp-param-zone"] == b"eu"
    broken = {"type": "object", "x-mcp-header": "Zone"}
    assert b"mcp-param-zone" not in dict(prepared(parse_tool("find"), STATELESS, find=broken).headers)


def test_what_the_era_or_the_protocol_does_not_have() -> None:
    with pytest.raises(LoadError, match="handshake era alone"):
        prepared(parse_method("ping"), STATELESS)
    with pytest.raises(LoadError, match="_meta"):
        prepared(parse_method('tools/list={"_meta":5}'), HANDSHAKE)
    with pytest.raises(LoadError, match="nested deeper"):
        prepared(parse_method("tools/list=" + '{"a":' * 80 + "{}" + "}" * 80), STATELESS)
