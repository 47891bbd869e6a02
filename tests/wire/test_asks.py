"""What servers ask clients: read from both eras, checked against what was declared, and written for the other one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests import validity

from only1mcp._fast import scan
from only1mcp.errors import ProtocolError
from only1mcp.wire import asks
from only1mcp.wire.asks import Ask

FORM = Ask(
    "f", "elicitation/create", b'{"message":"m","requestedSchema":{"type":"object","properties":{}},"_meta":{"a":1}}'
)
URL = Ask("u", "elicitation/create", b'{"mode":"url","message":"m","url":"https://x.example/"}')
ROOTS = Ask("r", "roots/list", None)
SAMPLE = Ask("s", "sampling/createMessage", b'{"messages":[],"maxTokens":1}')
TOOLS = Ask("s", "sampling/createMessage", b'{"messages":[],"maxTokens":1,"tools":[]}')


def required(**result: Any) -> bytes:
    whole = {"jsonrpc": "2.0", "id": 7, "result": {"resultType": "input_required", **result}}
    return orjson.dumps(whole)


def test_a_request_of_a_server() -> None:
    data = b'{"jsonrpc":"2.0","id":"x","method":"elicitation/create","params":{"message": "m"}}'
    assert asks.asked(scan(data)) == Ask("", "elicitation/create", b'{"message": "m"}')
    assert asks.asked(scan(b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}')) == Ask("", "roots/list", None)


def test_an_input_required_result() -> None:
    requests = {"u": {"method": "elicitation/create", "params": {"mode": "url"}}, "r": {"method": "roots/list"}}
    found = asks.maybe_input_required(scan(required(inputRequests=requests, requestState="s")))
    assert found is not None
    assert found.asks == (Ask("u", "elicitation/create", b'{"mode":"url"}'), Ask("r", "roots/list", None))
    assert found.state == b'"s"'
    only_state = asks.maybe_input_required(scan(required(requestState="s")))
    assert only_state is not None
    assert (only_state.asks, only_state.state) == ((), b'"s"')


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}',
        b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"input_required"}]}}',
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"input_required"}}',
    ],
)
def test_any_other_answer_asks_nothing(data: bytes) -> None:
    assert asks.maybe_input_required(scan(data)) is None


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"requestState": 7},
        {"inputRequests": {"a": {"method": "tools/call"}}},
        {"inputRequests": {"a": {}}},
        {"inputRequests": {"a": {"method": "roots/list", "params": [1]}}},
        {"inputRequests": {str(n): {"method": "roots/list"} for n in range(asks.MAX_ASKS + 1)}},
    ],
)
def test_an_input_required_result_that_breaks_the_rules(result: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        asks.maybe_input_required(scan(required(**result)))


@pytest.mark.parametrize(
    ("ask", "declared", "revision", "may"),
    [
        (FORM, {"elicitation": {}}, "2025-06-18", True),
        (FORM, {"elicitation": {"form": {}}}, "2025-11-25", True),
        (FORM, {"elicitation": {"url": {}}}, "2025-11-25", False),
        (FORM, {"elicitation": {}}, "2025-03-26", False),
        (FORM, {"elicitation": True}, "2025-11-25", False),
        (FORM, {}, "2025-11-25", False),
        (URL, {"elicitation": {"url": {}}}, "2025-11-25", True),
        (URL, {"elicitation": {"url": {}}}, "2025-06-18", False),
        (URL, {"elicitation": {}}, "2025-11-25", False),
        (ROOTS, {"roots": {}}, "2024-11-05", True),
        (ROOTS, {"sampling": {}}, "2024-11-05", False),
        (SAMPLE, {"sampling": {}}, "2024-11-05", True),
        (TOOLS, {"sampling": {}}, "2025-11-25", False),
        (TOOLS, {"sampling": {"tools": {}}}, "2025-11-25", True),
        (Ask("", "tools/call", None), {"tools": {}}, "2025-11-25", False),
    ],
)
def test_who_may_be_asked(ask: Ask, declared: dict[str, Any], revision: str, may: bool) -> None:
    assert asks.may_ask(ask, declared, revision) is may


def test_what_an_ask_requires() -> None:
    assert asks.requirement(FORM) == {"elicitation": {}}
    assert asks.requirement(URL) == {"elicitation": {"url": {}}}
    assert asks.requirement(TOOLS) == {"sampling": {"tools": {}}}
    assert asks.requirement(ROOTS) == {"roots": {}}


def test_a_result_that_asks_a_stateless_client() -> None:
    asked = Ask("e", "elicitation/create", URL.params and URL.params[:-1] + b',"elicitationId":"1","_meta":{}}')
    result = orjson.loads(asks.input_required([asks.for_stateless(asked), ROOTS], "token"))
    validity.check({"jsonrpc": "2.0", "id": 1, "result": result}, "2026-07-28", "tools/call")
    assert result["requestState"] == "token"
    assert result["inputRequests"]["r"] == {"method": "roots/list"}
    assert result["inputRequests"]["e"]["params"] == {"mode": "url", "message": "m", "url": "https://x.example/"}
    assert asks.for_stateless(ROOTS) is ROOTS


@pytest.mark.parametrize(
    ("meta", "key"),
    [
        ({"only1mcp/inputKey": "user_name"}, "user_name"),
        ({"only1mcp/inputKey": "a" * 64, "progressToken": 1}, "a" * 64),
        ({"only1mcp/inputKey": "a" * 65}, ""),
        ({"only1mcp/inputKey": ""}, ""),
        ({"only1mcp/inputKey": "__proto__"}, ""),
        ({"only1mcp/inputKey": "ü"}, ""),
        ({"only1mcp/inputKey": 'a"b'}, ""),
        ({"only1mcp/inputKey": ["user_name"]}, ""),
        ({"only1mcp/inputKey": None}, ""),
        ({"inputKey": "user_name"}, ""),
        (["only1mcp/inputKey"], ""),
        (None, ""),
    ],
)
def test_a_handshake_server_may_name_its_question(meta: Any, key: str) -> None:
    for escape_forward_slashes in (False, True):
        params = orjson.dumps({"message": "m", "requestedSchema": {}, "_meta": meta})
        params = params.replace(b"1mcp/", rb"1mcp\/") if escape_forward_slashes else params
        ask = asks.for_stateless(Ask("", "elicitation/create", params))
        assert ask == Ask(key, "elicitation/create", b'{"message":"m","requestedSchema":{}}')


@pytest.mark.parametrize("ask", [FORM, URL, ROOTS, SAMPLE])
def test_a_request_to_a_handshake_client(ask: Ask) -> None:
    request = orjson.loads(asks.for_handshake(ask, b'"0.a"', "e1"))
    validity.check(request, "2025-11-25")
    assert request["id"] == "0.a"
    assert request.get("params", {}).get("elicitationId") == ("e1" if ask is URL else None)


def test_a_request_that_is_only_relayed_keeps_every_octet() -> None:
    params = b'{"message": "m",  "elicitationId":"theirs", "requestedSchema":{"n":1.50}}'
    assert params in asks.for_handshake(Ask("", "elicitation/create", params), b'"0.a"')


def test_a_client_tells_its_progress_by_our_id_and_makes_no_task_of_it() -> None:
    params = b'{"messages":[],"maxTokens":1,"task":{"ttl":1},"_meta":{"progressToken":7,"a":1.50}}'
    ask = Ask("", "sampling/createMessage", params)
    assert asks.progress_token(ask) == b"7"
    request = asks.for_handshake(ask, b'"0.a"')
    validity.check(orjson.loads(request), "2025-11-25")
    assert b'"a":1.50' in request
    assert orjson.loads(request)["params"] == {
        "messages": [],
        "maxTokens": 1,
        "_meta": {"progressToken": "0.a", "a": 1.5},
    }
    for text in (None, b"{}", b'{"_meta":7,"progressToken":7}', b'{"_meta":{"a":"progressToken"}}'):
        assert asks.progress_token(Ask("", "sampling/createMessage", text)) is None


def test_the_request_of_the_next_round_keeps_every_octet_in_front() -> None:
    request = scan(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"a":1.0e3}}}')
    again = asks.with_inputs(request, {"k": b'{"action":"accept"}'}, b'"st"')
    assert (again.name, again.id_span) == (request.name, request.id_span)
    assert again.data.startswith(request.data[:-2])
    params = orjson.loads(again.data)["params"]
    assert params["inputResponses"] == {"k": {"action": "accept"}}
    assert params["requestState"] == "st"
    assert asks.with_inputs(request, {}, None).data == request.data


def test_answers_as_deep_as_they_may_be_still_fit_into_the_request() -> None:
    deep = b'{"action":"accept","content":' + b"[" * 62 + b"]" * 62 + b"}"
    scan(b'{"jsonrpc":"2.0","id":1,"result":' + deep + b"}", 64)
    request = scan(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}')
    assert deep in asks.with_inputs(request, {"k": deep}, None).data


def test_answers_of_handshake_clients() -> None:
    result = scan(b'{"jsonrpc":"2.0","id":1,"result":{"action":"accept","content":{"n":1.50}}}')
    error = scan(b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}')
    assert asks.response_to(FORM, result) == b'{"action":"accept","content":{"n":1.50}}'
    assert asks.response_to(FORM, error) == asks.response_to(FORM, None) == b'{"action":"cancel"}'
    assert asks.response_to(ROOTS, error) is None
    for data in (b'{"jsonrpc":"2.0","id":1,"result":7}', error.data):
        assert asks.result_of(scan(data)) is None


def test_capabilities_that_cannot_be_read_declare_nothing() -> None:
    for text in (b"", b"[", b"[1]", b"7"):
        assert asks.capabilities_of(text) == {}
        assert asks.for_stateless_backend(text, "2025-11-25") == b"{}"


@pytest.mark.parametrize(
    ("elicitation", "revision", "modes"),
    [
        ({}, "2025-11-25", {"form": {}}),
        ({"form": {}, "url": {}}, "2025-11-25", {"form": {}, "url": {}}),
        ({"url": {}}, "2025-11-25", {"url": {}}),
        ({"form": {}, "url": {}}, "2025-06-18", {"form": {}}),
        ({"form": {}, "url": {}}, "2025-03-26", None),
        (True, "2025-11-25", None),
    ],
)
def test_elicitation_as_a_stateless_backend_is_told_it(elicitation: Any, revision: str, modes: Any) -> None:
    told = orjson.loads(asks.for_stateless_backend(orjson.dumps({"elicitation": elicitation}), revision))
    assert told == ({} if modes is None else {"elicitation": modes})


def test_capabilities_as_a_stateless_backend_is_told_them() -> None:
    declared = {
        "roots": {"listChanged": True},
        "sampling": {"tools": {}},
        "experimental": {"x": {}},
        "extensions": {"io.modelcontextprotocol/tasks": {}, "io.modelcontextprotocol/ui": {"mimeTypes": []}},
        "tasks": {},
    }
    assert orjson.loads(asks.for_stateless_backend(orjson.dumps(declared), "2025-11-25")) == {
        "roots": {},
        "sampling": {"tools": {}},
        "experimental": {"x": {}},
        "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": []}},
    }
