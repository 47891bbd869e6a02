"""The life of a request over real sockets: who is let in, what is refused with which answer, and what is forwarded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import Backend, Call, Fault, Outcome, echo
from tests.mcp_caller import HANDSHAKE, META, STATELESS, Caller, Fields, Reply, request, stateless

from only1mcp.config.schema import Limits
from only1mcp.process.worker import Worker

ERAS = [STATELESS, HANDSHAKE]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    regional = {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    }
    backend = Backend(tools={"echo": echo, "regional": echo}, schemas={"regional": regional})
    backend.tools["hold"] = backend.hold
    backend.prompts = [{"name": "greet"}]
    backend.resources = [{"uri": "test://one", "name": "one"}]
    async with backend:
        yield backend


@pytest.fixture
async def port(backend: Backend) -> AsyncIterator[int]:
    async with running(configured(backend)) as worker:
        assert worker.listener is not None
        yield worker.listener.port


@pytest.fixture
async def caller(port: int) -> AsyncIterator[Caller]:
    async with Caller(port) as caller:
        yield caller


async def expect_refusal(
    backend: Backend, caller: Caller, reply: Reply, status: int, code: int | None, *, kept: bool = True
) -> None:
    """Check the answer, that no backend heard of it, and what became of the connection."""
    assert (reply.status, reply.code) == (status, code), reply
    assert backend.calls == []
    if kept:
        assert (await caller.call("echo", text="next")).text == "next"
    else:
        assert reply.headers["connection"] == "close"
        assert await caller.is_closed()


# Both eras.


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_initialize_answers_with_the_revision_asked_for(caller: Caller, revision: str) -> None:
    reply = await caller.initialize(revision)
    assert reply.status == 200
    assert reply.result["protocolVersion"] == revision
    assert reply.result["serverInfo"]["name"] == "only1mcp"
    expected = {name: {"listChanged": True} for name in ("tools", "prompts", "resources")}
    assert reply.result["capabilities"] == expected
    fields: Fields = {"mcp-protocol-version": revision}
    assert (await caller.in_session({"jsonrpc": "2.0", "method": "notifications/initialized"}, fields)).status == 202
    assert (await caller.in_session(request("ping", id="p"), fields)).response["result"] == {}
    listed = await caller.in_session(request("tools/list", id=2), fields)
    assert [tool["name"] for tool in listed.result["tools"]] == ["echo", "regional", "hold"]


@pytest.mark.parametrize("revision", ["1999-01-01", "2026-07-28", "", "x" * 10_000])
async def test_initialize_with_another_revision_is_offered_the_latest(caller: Caller, revision: str) -> None:
    assert (await caller.initialize(revision)).result["protocolVersion"] == HANDSHAKE


@pytest.mark.parametrize(
    "params",
    [{}, {"protocolVersion": 5}, {"protocolVersion": None}, {"protocolVersion": HANDSHAKE, "capabilities": []}],
)
async def test_initialize_with_bad_params(backend: Backend, caller: Caller, params: dict[str, Any]) -> None:
    await expect_refusal(backend, caller, await caller.send(request("initialize", **params)), 400, -32602)


async def test_session_header_alone_is_enough(caller: Caller) -> None:
    await caller.initialize()
    assert (await caller.in_session(request("ping"), {"mcp-protocol-version": None})).result == {}


async def test_every_session_has_an_id_of_its_own(port: int) -> None:
    async with Caller(port) as one, Caller(port) as two:
        assert (await one.initialize()).headers["mcp-session-id"] != (await two.initialize()).headers["mcp-session-id"]


async def test_discover(caller: Caller) -> None:
    result = (await caller.ask("server/discover")).result
    assert result["supportedVersions"] == [STATELESS]
    assert result["resultType"] == "complete"
    assert isinstance(result["ttlMs"], int)
    assert result["cacheScope"] == "public"
    assert set(result["capabilities"]) == {"tools", "prompts", "resources"}
    assert result["_meta"][f"{META}serverInfo"]["name"] == "only1mcp"


async def test_stateless_requests_need_and_get_no_session(caller: Caller) -> None:
    message, fields = stateless("tools/call", name="echo", arguments={"text": "hi"})
    reply = await caller.send(message, {**fields, "mcp-session-id": "stray", "last-event-id": "5"})
    assert reply.text == "hi"
    assert "mcp-session-id" not in reply.headers


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("id", [0, -1, 2**63, "", "a", 'é\u2028"\\', "x" * 250])
async def test_the_id_comes_back_as_it_was(caller: Caller, era: str, id: Any) -> None:
    if era == HANDSHAKE:
        await caller.initialize()
        reply = await caller.in_session(request("tools/call", id=id, name="echo", arguments={"text": "hi"}))
    else:
        reply = await caller.send(*stateless("tools/call", id=id, name="echo", arguments={"text": "hi"}))
    assert reply.response["id"] == id
    assert reply.text == "hi"


@pytest.mark.parametrize("era", ERAS)
async def test_lists_in_both_eras(caller: Caller, era: str) -> None:
    if era == HANDSHAKE:
        await caller.initialize()
    for method, member, names in (
        ("tools/list", "tools", ["echo", "regional", "hold"]),
        ("prompts/list", "prompts", ["greet"]),
        ("resources/list", "resources", ["one"]),
        ("resources/templates/list", "resourceTemplates", []),
    ):
        result = (await caller.ask(method)).result
        assert [item["name"] for item in result[member]] == names
        assert ("resultType" in result) == (era == STATELESS)
        assert ("ttlMs" in result and "cacheScope" in result) == (era == STATELESS)


# How a request is classified: each row is a change to a call that would be served.

META_VERSION, META_CAPABILITIES = f"{META}protocolVersion", f"{META}clientCapabilities"
GONE: Any = object()


def changed(meta: dict[str, Any]) -> dict[str, Any]:
    """Return a call whose `_meta` has these values, without those that are GONE."""
    message, _ = stateless("tools/call", name="echo", arguments={"text": "never"}, meta=meta)
    kept = {key: value for key, value in message["params"]["_meta"].items() if value is not GONE}
    message["params"]["_meta"] = kept
    return message


SERVED_FIELDS: Fields = {"mcp-protocol-version": STATELESS, "mcp-method": "tools/call", "mcp-name": "echo"}
MISMATCHES: dict[str, tuple[Fields, dict[str, Any], int]] = {
    "version missing in the body": ({}, {META_VERSION: GONE}, -32602),
    "version of the wrong type": ({}, {META_VERSION: 20260728}, -32602),
    "capabilities missing": ({}, {META_CAPABILITIES: GONE}, -32602),
    "capabilities of the wrong type": ({}, {META_CAPABILITIES: []}, -32602),
    "version missing in the header": ({"mcp-protocol-version": None}, {}, -32020),
    "version unknown in the body": ({}, {META_VERSION: "v999"}, -32020),
    "version unknown in the header": ({"mcp-protocol-version": "v999"}, {}, -32020),
    "version unknown in both": ({"mcp-protocol-version": "v999"}, {META_VERSION: "v999"}, -32022),
    "version of the other era in the body": ({}, {META_VERSION: HANDSHAKE}, -32020),
    "version twice": ({"mcp-protocol-version": [STATELESS, STATELESS]}, {}, -32020),
    "version twice, one of each era": ({"mcp-protocol-version": [HANDSHAKE, STATELESS]}, {}, -32020),
    "version empty": ({"mcp-protocol-version": ""}, {}, -32020),
    "version a list": ({"mcp-protocol-version": f"{STATELESS}, {STATELESS}"}, {}, -32020),
    "method missing": ({"mcp-method": None}, {}, -32020),
    "method differs": ({"mcp-method": "tools/list"}, {}, -32020),
    "method in another case": ({"mcp-method": "Tools/Call"}, {}, -32020),
    "method twice": ({"mcp-method": ["tools/call", "tools/call"]}, {}, -32020),
    "method encoded": ({"mcp-method": "=?base64?dG9vbHMvY2FsbA==?="}, {}, -32020),
    "name missing": ({"mcp-name": None}, {}, -32020),
    "name differs": ({"mcp-name": "regional"}, {}, -32020),
    "name unknown and different": ({"mcp-name": "nobody"}, {}, -32020),
    "name twice": ({"mcp-name": ["echo", "echo"]}, {}, -32020),
    "name with bad base64": ({"mcp-name": "=?base64?ZWNobw?="}, {}, -32020),
    "name with other base64": ({"mcp-name": "=?base64?ZWNoby0=?="}, {}, -32020),
    "name with the marker in upper case": ({"mcp-name": "=?BASE64?ZWNobw==?="}, {}, -32020),
}


@pytest.mark.parametrize("case", MISMATCHES)
async def test_header_and_body_must_agree(backend: Backend, caller: Caller, case: str) -> None:
    fields, meta, code = MISMATCHES[case]
    reply = await caller.send(changed(meta), {**SERVED_FIELDS, **fields})
    if code == -32022:
        assert reply.error["data"] == {"supported": [STATELESS], "requested": "v999"}
    assert reply.response["id"] == 1
    await expect_refusal(backend, caller, reply, 400, code)


async def test_missing_meta(backend: Backend, caller: Caller) -> None:
    message = request("tools/call", name="echo", arguments={})
    await expect_refusal(backend, caller, await caller.send(message, SERVED_FIELDS), 400, -32602)


@pytest.mark.parametrize("meta", ["x", 5, None, []])
async def test_meta_that_is_no_object(backend: Backend, caller: Caller, meta: Any) -> None:
    message = request("tools/call", name="echo", _meta=meta)
    await expect_refusal(backend, caller, await caller.send(message, SERVED_FIELDS), 400, -32602)


@pytest.mark.parametrize("name", ["=?base64?ZWNobw==?=", "echo  "])
async def test_name_header_may_be_encoded_or_padded(caller: Caller, name: str) -> None:
    assert (await caller.send(changed({}), {**SERVED_FIELDS, "mcp-name": name})).text == "never"


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "no/such"]
)
async def test_methods_of_the_handshake_era_are_unknown_to_the_stateless_one(
    backend: Backend, caller: Caller, method: str
) -> None:
    reply = await caller.ask(method, protocolVersion=HANDSHAKE, capabilities={})
    await expect_refusal(backend, caller, reply, 404, -32601)


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen", "tasks/get", "no/such", ""])
async def test_unknown_method_in_a_session(backend: Backend, caller: Caller, method: str) -> None:
    await caller.initialize()
    reply = await caller.in_session(request(method, id=4))
    assert reply.response["id"] == 4
    await expect_refusal(backend, caller, reply, 200, -32601)


async def test_initialize_with_the_other_eras_meta_and_no_header(backend: Backend, caller: Caller) -> None:
    message, _ = stateless("initialize", protocolVersion=HANDSHAKE, capabilities={})
    await expect_refusal(backend, caller, await caller.send(message), 400, -32020)


async def test_handshake_header_decides_even_with_the_other_eras_meta(caller: Caller) -> None:
    await caller.initialize()
    message, _ = stateless("tools/call", name="echo", arguments={"text": "hi"})
    assert "resultType" not in (await caller.in_session(message)).result


async def test_parameter_header_is_compared_with_the_argument(backend: Backend, caller: Caller) -> None:
    message, fields = stateless("tools/call", name="regional", arguments={"region": "eu", "text": "ok"})
    for wrong in ({}, {"mcp-param-region": "us"}, {"mcp-param-region": ["eu", "eu"]}):
        reply = await caller.send(message, {**fields, **wrong})
        assert (reply.status, reply.code) == (400, -32020)
    assert backend.calls == []
    assert (await caller.send(message, {**fields, "mcp-param-region": "eu"})).text == "ok"
    assert "mcp-param-region: eu" in backend.heads[-1].lower()


# Sessions.


@pytest.mark.parametrize("method", ["tools/list", "ping", "tools/call", "no/such"])
@pytest.mark.parametrize("version", [HANDSHAKE, "2024-11-05", None])
async def test_no_session(backend: Backend, caller: Caller, method: str, version: str | None) -> None:
    reply = await caller.send(request(method, name="echo"), {"mcp-protocol-version": version})
    await expect_refusal(backend, caller, reply, 400, -32600)


@pytest.mark.parametrize("id", ["", "x", "a" * 60, "A" * 600, "../../etc", "1"])
async def test_session_that_never_was(backend: Backend, caller: Caller, id: str) -> None:
    reply = await caller.send(request("ping"), {"mcp-session-id": id})
    await expect_refusal(backend, caller, reply, 404, -32600)


async def test_session_id_twice(backend: Backend, caller: Caller) -> None:
    await caller.initialize()
    token = caller.session or ""
    caller.session = None
    reply = await caller.send(request("ping"), {"mcp-session-id": [token, token]})
    await expect_refusal(backend, caller, reply, 400, -32600)


async def test_altered_session_id(backend: Backend, caller: Caller) -> None:
    await caller.initialize()
    token = caller.session or ""
    caller.session = None
    altered = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    reply = await caller.send(request("ping"), {"mcp-session-id": altered})
    await expect_refusal(backend, caller, reply, 404, -32600)


async def test_session_of_another_proxy(backend: Backend, caller: Caller) -> None:
    async with running(configured(backend)) as other:
        assert other.listener is not None
        async with Caller(other.listener.port) as stranger:
            await stranger.initialize()
            reply = await caller.send(request("ping"), {"mcp-session-id": stranger.session})
    await expect_refusal(backend, caller, reply, 404, -32600)


async def test_deleted_session_is_gone(backend: Backend, caller: Caller) -> None:
    await caller.initialize()
    token = caller.session
    reply = await caller.in_session(method="DELETE", message=b"")
    assert (reply.status, reply.body) == (204, b"")
    caller.session = None
    assert (await caller.send(request("ping"), {"mcp-session-id": token})).status == 404
    reply = await caller.send(method="DELETE", fields={"mcp-session-id": token})
    await expect_refusal(backend, caller, reply, 404, -32600)


async def test_delete_without_session(backend: Backend, caller: Caller) -> None:
    await expect_refusal(backend, caller, await caller.send(method="DELETE"), 400, -32600)


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {"deep": []}}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "method": "no/such"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "m"}},
    ],
)
async def test_notifications_and_responses_in_a_session(
    backend: Backend, caller: Caller, message: dict[str, Any]
) -> None:
    await caller.initialize()
    reply = await caller.in_session(message)
    assert (reply.status, reply.body) == (202, b"")
    caller.session = None
    await expect_refusal(backend, caller, await caller.send(message), 400, -32600)


async def test_notifications_and_responses_of_the_stateless_era(backend: Backend, caller: Caller) -> None:
    fields: Fields = {"mcp-protocol-version": STATELESS}
    reply = await caller.send({"jsonrpc": "2.0", "method": "notifications/anything"}, fields)
    assert (reply.status, reply.body) == (202, b"")
    reply = await caller.send({"jsonrpc": "2.0", "id": 1, "result": {}}, fields)
    await expect_refusal(backend, caller, reply, 400, -32600)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "HEAD", "TRACE", "BREW"])
@pytest.mark.parametrize("era", [*ERAS, None])
async def test_verbs_that_are_not_served(caller: Caller, method: str, era: str | None) -> None:
    fields: Fields = {"mcp-protocol-version": era, "accept": "text/event-stream"}
    reply = await caller.send(method=method, fields=fields)
    if method == "GET" and era != STATELESS:
        assert (reply.status, reply.code) == (400, -32600)  # it is, in a session
        return
    assert reply.status == 405
    assert reply.headers["allow"] == ("POST" if era == STATELESS else "GET, POST, DELETE")
    assert (await caller.call("echo", text="next")).text == "next"


async def test_delete_of_the_stateless_era(caller: Caller) -> None:
    reply = await caller.send(method="DELETE", fields={"mcp-protocol-version": STATELESS})
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


# What a request must look like.

HEADS: dict[str, tuple[Fields, int, int]] = {
    "no content type": ({"content-type": None}, 400, -32600),
    "plain text": ({"content-type": "text/plain"}, 400, -32600),
    "a form": ({"content-type": "application/x-www-form-urlencoded"}, 400, -32600),
    "another charset": ({"content-type": "application/json; charset=utf-16"}, 400, -32600),
    "two content types": ({"content-type": ["application/json", "text/plain"]}, 400, -32600),
    "no accept": ({"accept": None}, 406, -32600),
    "accepts JSON alone": ({"accept": "application/json"}, 406, -32600),
    "accepts streams alone": ({"accept": "text/event-stream"}, 406, -32600),
    "foreign host": ({"host": "evil.example"}, 421, -32600),
    "foreign host and our port": ({"host": "evil.example:8080"}, 421, -32600),
    "host that begins like ours": ({"host": "localhost.evil.example"}, 421, -32600),
    "host that ends like ours": ({"host": "evil-localhost"}, 421, -32600),
    "address that begins like ours": ({"host": "127.0.0.1.evil.example"}, 421, -32600),
    "any address": ({"host": "0.0.0.0"}, 421, -32600),
    "foreign origin": ({"origin": "https://evil.example"}, 403, -31005),
    "null origin": ({"origin": "null"}, 403, -31005),
    "empty origin": ({"origin": ""}, 403, -31005),
    "star origin": ({"origin": "*"}, 403, -31005),
    "file origin": ({"origin": "file://"}, 403, -31005),
    "extension": ({"origin": "chrome-extension://localhost"}, 403, -31005),
    "origin that begins like ours": ({"origin": "http://localhost.evil.example"}, 403, -31005),
    "origin that ends like ours": ({"origin": "http://evil.example.localhost"}, 403, -31005),
    "origin with us as user": ({"origin": "http://localhost@evil.example"}, 403, -31005),
    "origin with us as password": ({"origin": "http://localhost:80@evil.example"}, 403, -31005),
    "origin with us as fragment": ({"origin": "http://evil.example#localhost"}, 403, -31005),
    "origin with a path": ({"origin": "http://localhost/"}, 403, -31005),
    "origin with a strange port": ({"origin": "http://localhost:080"}, 403, -31005),
    "two origins, the first ours": ({"origin": ["http://localhost", "https://evil.example"]}, 403, -31005),
    "two origins, the second ours": ({"origin": ["https://evil.example", "http://localhost"]}, 403, -31005),
    "the same origin twice": ({"origin": ["http://localhost", "http://localhost"]}, 403, -31005),
    "a list of origins": ({"origin": "http://localhost, http://localhost"}, 403, -31005),
}


@pytest.mark.parametrize("case", HEADS)
async def test_head_is_refused_and_the_connection_kept(backend: Backend, caller: Caller, case: str) -> None:
    fields, status, code = HEADS[case]
    reply = await caller.send(changed({}), {**SERVED_FIELDS, **fields})
    assert "access-control-allow-origin" not in reply.headers
    await expect_refusal(backend, caller, reply, status, code)


@pytest.mark.parametrize("path", ["/", "/mcp/", "/MCP", "//mcp", "/mcp/..", "/%6dcp", "/mcp;x", "/api/v1/admin"])
async def test_other_paths(backend: Backend, caller: Caller, path: str) -> None:
    await expect_refusal(backend, caller, await caller.send(changed({}), SERVED_FIELDS, path=path), 404, -32600)


async def test_query_is_ignored(caller: Caller) -> None:
    assert (await caller.send(changed({}), SERVED_FIELDS, path="/mcp?token=x")).text == "never"


def nested(depth: int) -> bytes:
    """Return a call with `depth` levels in all; the message, its params and the arguments are three of them."""
    value = b"[" * (depth - 3) + b"]" * (depth - 3)
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"x":' + value + b"}}}"


CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", -32700),
    "white space": (b" \r\n", -32700),
    "half a message": (CALL[:-1], -32700),
    "trailing data": (CALL + b"{}", -32700),
    "two messages": (CALL + b"\n" + CALL, -32700),
    "not UTF-8": (CALL.replace(b"echo", b"\xff\xfe"), -32700),
    "overlong UTF-8": (CALL.replace(b"echo", b"\xc0\xaf"), -32700),
    "UTF-16": (CALL.decode().encode("utf-16"), -32700),
    "a byte order mark": (b"\xef\xbb\xbf" + CALL, -32700),
    "half a surrogate pair": (CALL.replace(b"echo", rb"\ud800"), -32700),
    "NaN": (CALL.replace(b"{}", b'{"x":NaN}'), -32700),
    "a control character": (CALL.replace(b"echo", b"e\x00cho"), -32700),
    "single quotes": (CALL.replace(b'"', b"'"), -32700),
    "a comment": (b"/* x */" + CALL, -32700),
    "a batch": (b"[" + CALL + b"]", -32600),
    "an empty batch": (b"[]", -32600),
    "a string": (b'"x"', -32600),
    "null": (b"null", -32600),
    "too deep": (nested(65), -32600),
    "much too deep": (nested(100_000), -32600),
    "no version": (CALL.replace(b'"jsonrpc":"2.0",', b""), -32600),
    "another version": (CALL.replace(b"2.0", b"1.0"), -32600),
    "a version number": (CALL.replace(b'"2.0"', b"2.0"), -32600),
    "id null": (CALL.replace(b'"id":1', b'"id":null'), -32600),
    "id a fraction": (CALL.replace(b'"id":1', b'"id":1.5'), -32600),
    "id true": (CALL.replace(b'"id":1', b'"id":true'), -32600),
    "id an object": (CALL.replace(b'"id":1', b'"id":{}'), -32600),
    "id too long": (CALL.replace(b'"id":1', b'"id":"' + b"x" * 300 + b'"'), -32600),
    "id of many digits": (CALL.replace(b'"id":1', b'"id":' + b"1" * 300), -32600),
    "method a number": (CALL.replace(b'"tools/call"', b"5"), -32600),
    "params an array": (CALL.replace(b'{"name":"echo","arguments":{}}', b"[]"), -32602),
    "params null": (CALL.replace(b'{"name":"echo","arguments":{}}', b"null"), -32602),
    "an unknown member": (CALL.replace(b'"id"', b'"auth":1,"id"'), -32600),
    "method twice": (CALL.replace(b'"id"', b'"method":"ping","id"'), -32600),
    "method twice, once escaped": (CALL.replace(b'"id"', rb'"m\u0065thod":"ping","id"'), -32600),
    "method in another case": (CALL.replace(b'"id"', b'"Method":"ping","id"'), -32600),
    "params with a long s": (CALL.replace(b'"id"', '"param\u017f":{},"id"'.encode()), -32600),
    "id twice": (CALL.replace(b'"id":1', b'"id":1,"id":2'), -32600),
    "name twice": (CALL.replace(b'"name"', b'"name":"regional","name"'), -32600),
    "name in another case": (CALL.replace(b'"name"', b'"NAME":"regional","name"'), -32600),
    "request and response": (CALL.replace(b'"id":1', b'"id":1,"result":{}'), -32600),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("case", BODIES)
async def test_body_is_refused_and_the_connection_kept(backend: Backend, caller: Caller, case: str, era: str) -> None:
    body, code = BODIES[case]
    if era == HANDSHAKE:
        await caller.initialize()
        reply = await caller.in_session(body)
    else:
        reply = await caller.send(body, SERVED_FIELDS)
    await expect_refusal(backend, caller, reply, 400, code)


async def test_as_deep_as_allowed(backend: Backend, caller: Caller) -> None:
    await caller.initialize()
    assert (await caller.in_session(nested(64))).status == 200
    assert len(backend.calls) == 1


async def test_readable_id_is_in_the_refusal(caller: Caller) -> None:
    reply = await caller.send(CALL.replace(b'"id":1', b'"id":"k"').replace(b"2.0", b"1.0"))
    assert reply.response["id"] == "k"
    assert "id" not in (await caller.send(b"{")).response


@pytest.mark.parametrize("chunked", [False, True])
async def test_oversized_body_is_refused_and_the_connection_closed(backend: Backend, chunked: bool) -> None:
    size = (1 << 20) + 1
    async with running(configured(backend, limits=Limits(max_body_mb=1))) as worker:
        assert worker.listener is not None
        async with Caller(worker.listener.port) as caller:
            if chunked:
                fields: Fields = {"content-length": None, "transfer-encoding": "chunked"}
                caller.writer.write(caller.http(b"%x\r\n" % size + b" " * size, fields))
            else:
                caller.writer.write(caller.http(b"", {"content-length": str(size)}))
            await expect_refusal(backend, caller, await caller.reply(), 413, -32600, kept=False)


AMBIGUOUS: dict[str, tuple[bytes, int]] = {
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
    "length and chunks": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    "another coding": (b"Transfer-Encoding: gzip, chunked\r\n", 501),
    "line folding": (b"X: a\r\n b\r\n", 400),
    "bare CR": (b"X: a\rb\r\n", 400),
    "bare LF": (b"X: a\nY: b\r\n", 400),
    "NUL": (b"X: a\0b\r\n", 400),
    "space before the colon": (b"X : a\r\n", 400),
    "signed length": (b"Content-Length: +5\r\n", 400),
    "huge header": (b"X: " + b"a" * 40_000 + b"\r\n", 431),
    "many headers": (b"X: a\r\n" * 101, 431),
    "second host": (b"Host: localhost\r\n", 400),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_ambiguous_head_closes_the_connection(backend: Backend, caller: Caller, case: str) -> None:
    lines, status = AMBIGUOUS[case]
    caller.writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
    caller.writer.write(CALL)
    await expect_refusal(backend, caller, await caller.reply(), status, -32600, kept=False)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST http://localhost/mcp HTTP/1.1", 400),
        (b"POST /mcp HTTP/2.0", 505),
        (b"POST  /mcp HTTP/1.1", 400),
        (b"CONNECT localhost:80 HTTP/1.1", 400),
        (b"POST /" + b"a" * 9000 + b" HTTP/1.1", 414),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
)
async def test_request_line_that_closes_the_connection(
    backend: Backend, caller: Caller, line: bytes, status: int
) -> None:
    caller.writer.write(line + b"\r\nHost: localhost\r\n\r\n")
    await expect_refusal(backend, caller, await caller.reply(), status, -32600, kept=False)


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nhellox\r\n", b"5 \r\n", b"5;a\nb\r\n", b"F" * 20 + b"\r\n"]
)
async def test_bad_chunk_closes_the_connection(backend: Backend, caller: Caller, chunk: bytes) -> None:
    caller.writer.write(caller.http(chunk, {"content-length": None, "transfer-encoding": "chunked"}))
    await expect_refusal(backend, caller, await caller.reply(), 400, -32600, kept=False)


async def test_chunked_body_with_expectation(caller: Caller) -> None:
    body = json.dumps(changed({})).encode()
    fields = {**SERVED_FIELDS, "content-length": None, "transfer-encoding": "chunked", "expect": "100-continue"}
    caller.writer.write(caller.http(b"", fields))
    assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.writer.write(b"".join(b"1\r\n%c\r\n" % octet for octet in body) + b"0\r\n\r\n")
    assert (await caller.reply()).text == "never"


async def test_refused_head_never_asks_for_its_body(backend: Backend, caller: Caller) -> None:
    caller.writer.write(caller.http(b"", {"content-length": "9999", "expect": "100-continue", "origin": "null"}))
    assert (await caller.reader.readline()).startswith(b"HTTP/1.1 403 ")


async def test_pipelined_requests_are_answered_in_order(caller: Caller) -> None:
    calls = [stateless("tools/call", id=i, name="echo", arguments={"text": str(i)}) for i in range(20)]
    caller.writer.write(b"".join(caller.http(json.dumps(message).encode(), fields) for message, fields in calls))
    assert [(await caller.reply()).text for _ in calls] == [str(i) for i in range(20)]


# Names that nobody has.


@pytest.mark.parametrize("era", ERAS)
async def test_unknown_names(backend: Backend, caller: Caller, era: str) -> None:
    if era == HANDSHAKE:
        await caller.initialize()
    status = 200 if era == HANDSHAKE else 400
    for method, params in (
        ("tools/call", {"name": "nobody", "arguments": {}}),
        ("prompts/get", {"name": "nobody"}),
        ("tools/list", {"cursor": "nobody"}),
        ("tools/list", {"cursor": ""}),
        ("tools/list", {"cursor": 5}),
        ("prompts/list", {"cursor": "nobody"}),
    ):
        reply = await caller.ask(method, **params)
        assert (reply.status, reply.code) == (status, -32602), (method, params)
    assert backend.calls == []
    missing = await caller.ask("completion/complete", ref={"type": "ref/prompt", "name": "greet"})
    assert (missing.status, missing.code) == (200 if era == HANDSHAKE else 404, -32601)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("method", "params"),
    [("tools/call", {}), ("tools/call", {"name": 5}), ("resources/read", {}), ("resources/read", {"uri": []})],
)
async def test_params_that_name_nothing(
    backend: Backend, caller: Caller, era: str, method: str, params: dict[str, Any]
) -> None:
    if era == HANDSHAKE:
        await caller.initialize()
    reply = await caller.ask(method, **params)
    assert reply.code == -32602
    # Where the scanner already refuses the message there is no session to speak of yet.
    assert reply.status == (200 if era == HANDSHAKE and not params else 400)
    assert backend.calls == []


@pytest.mark.parametrize("era", ERAS)
async def test_resource_that_nobody_can_own(era: str) -> None:
    toolless = Backend(tools={"echo": echo})
    async with proxied(toolless) as port, Caller(port) as caller:
        if era == HANDSHAKE:
            await caller.initialize()
        reply = await caller.ask("resources/read", uri="test://none")
        assert reply.code == -32601  # nobody has resources at all
        assert toolless.calls == []


@pytest.mark.parametrize(("era", "code"), [(STATELESS, -32602), (HANDSHAKE, -32002)])
async def test_resource_that_its_backend_does_not_have(caller: Caller, backend: Backend, era: str, code: int) -> None:
    async def missing(call: Call) -> Outcome:
        raise Fault(code=-32602, message="no such resource", data={"uri": call.params["uri"]})

    backend.scripts["resources/read"] = missing
    if era == HANDSHAKE:
        await caller.initialize()
    reply = await caller.ask("resources/read", uri="test://none")
    assert reply.error == {"code": code, "message": "no such resource", "data": {"uri": "test://none"}}


# Load.


async def test_more_in_flight_than_allowed() -> None:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    limits = Limits(max_in_flight=1)
    async with proxied(backend, limits=limits) as port, Caller(port) as first, Caller(port) as second:
        held = asyncio.create_task(first.call("hold"))
        await backend.holding.wait()
        reply = await second.call("echo", text="x")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, -31006, "1")
        assert (await second.ask("tools/list")).status == 200  # needs no backend
        assert len(backend.calls) == 1
        backend.release.set()
        assert (await held).text == "released"
        assert (await second.call("echo", text="x")).text == "x"


async def test_in_flight_is_counted_when_requests_come_together() -> None:
    backend = Backend()
    backend.tools["hold"] = backend.hold
    async with proxied(backend, limits=Limits(max_in_flight=3)) as port, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(port)) for _ in range(12)]
        for caller in callers:
            caller.write(*stateless("tools/call", name="hold", arguments={}))
        replies = asyncio.as_completed([caller.reply() for caller in callers])
        assert [(await next(replies)).status for _ in range(9)] == [503] * 9
        backend.release.set()
        assert [(await reply).text for reply in replies] == ["released"] * 3
        assert len(backend.calls) == 3


@pytest.mark.unchecked("thousands of messages like those of other tests")
async def test_every_client_gets_its_own_answers() -> None:
    clients, calls = 200, 15
    backends = [Backend(tools={"first": echo}), Backend(era="handshake", tools={"second": echo})]
    async with proxied(*backends) as port:

        async def one(number: int) -> None:
            async with Caller(port) as caller:
                if number % 2:
                    await caller.initialize()
                for call in range(calls):
                    said = f"{number}/{call}" + "x" * (call * 50)
                    assert (await caller.call(("first", "second")[(number // 2 + call) % 2], text=said)).text == said

        async with asyncio.timeout(40), asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(one(number))
    assert sum(len(backend.calls) for backend in backends) == clients * calls


# Cancellation.


async def test_cancelled_notification_ends_the_call(backend: Backend, port: int) -> None:
    async with Caller(port) as caller, Caller(port) as side:
        await caller.initialize()
        side.session = caller.session
        call = asyncio.create_task(caller.in_session(request("tools/call", id="k", name="hold", arguments={})))
        await backend.holding.wait()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "k"}}
        assert (await side.in_session(cancel)).status == 202
        reply = await call
        assert (reply.status, reply.code, reply.response["id"]) == (200, -32800, "k")
        await backend.gone.wait()
        assert backend.abandoned == ["hold"]
        assert (await caller.call("echo", text="next")).text == "next"


async def test_another_session_cannot_cancel(backend: Backend, port: int) -> None:
    async with Caller(port) as caller, Caller(port) as other:
        await caller.initialize()
        await other.initialize()
        call = asyncio.create_task(caller.in_session(request("tools/call", id=7, name="hold", arguments={})))
        await backend.holding.wait()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert (await other.in_session(cancel)).status == 202
        backend.release.set()
        assert (await call).text == "released"
        assert backend.abandoned == []


@pytest.mark.parametrize("era", ERAS)
async def test_client_that_leaves_cancels_its_call(backend: Backend, port: int, era: str) -> None:
    async with Caller(port) as other:
        async with Caller(port) as caller:
            if era == HANDSHAKE:
                await caller.initialize()
                fields: Fields = {"mcp-session-id": caller.session}
                caller.write(request("tools/call", name="hold", arguments={}), fields)
            else:
                caller.write(*stateless("tools/call", name="hold", arguments={}))
            await backend.holding.wait()
            caller.vanish()
        await backend.gone.wait()
        assert backend.abandoned == ["hold"]
        assert (await other.call("echo", text="next")).text == "next"


async def test_client_that_leaves_is_announced_to_a_handshake_backend() -> None:
    backend = Backend(era="handshake")
    backend.tools["hold"] = backend.hold
    async with proxied(backend) as port, Caller(port) as caller:
        caller.write(*stateless("tools/call", name="hold", arguments={}))
        await backend.holding.wait()
        caller.vanish()
        await backend.notified.wait()
        note = backend.received[-1]
        assert note["method"] == "notifications/cancelled"
        assert note["params"]["requestId"] == backend.calls[0]["id"]


# Starting and stopping.


async def test_early_clients_wait_for_the_first_catalog() -> None:
    backend = Backend(tools={"echo": echo}, awake=asyncio.Event())
    async with backend:
        worker = Worker(configured(backend))
        starting = asyncio.create_task(worker.start())
        try:
            await backend.reached.wait()
            assert worker.listener is not None
            port = worker.listener.port
            async with Caller(port) as early, Caller(port) as unreadable, Caller(port) as probe:
                call = asyncio.create_task(early.call("echo", text="early"))
                unreadable.write(b"{")
                assert (await probe.send(method="GET", path="/health")).status == 200
                assert (await probe.send(method="GET", path="/ready")).status == 503
                # Waiting is no way around the checks.
                assert (await probe.send(changed({}), {**SERVED_FIELDS, "origin": "null"})).status == 403
                assert not call.done()
                assert backend.awake is not None
                backend.awake.set()
                assert (await call).text == "early"
                assert (await unreadable.reply()).code == -32700
                await starting
                assert (await probe.send(method="GET", path="/ready")).status == 200
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await worker.stop(0)
