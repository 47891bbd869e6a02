"""The shared core of the demo servers: both eras, every method, every refusal, each answer against MCP's own schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from only1mcp.demo import http, stdio
from only1mcp.demo.dispatch import DemoServer, RpcError, decode, encode
from only1mcp.wire.mcp import CACHEABLE

S = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": S, "io.modelcontextprotocol/clientCapabilities": {}}
SERVERS = [stdio.SERVER, http.SERVER]
EVERY = pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)


def ask(server: DemoServer, method: str, params: dict[str, Any] | None = None, *, stateless: bool) -> Any:
    params = {**(params or {}), **({"_meta": META} if stateless else {})}
    return server.answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def result(server: DemoServer, method: str, params: dict[str, Any] | None = None, *, stateless: bool = False) -> Any:
    reply = ask(server, method, params, stateless=stateless)
    assert reply.status == 200
    assert reply.message["id"] == 1
    return reply.message["result"]


def error(server: DemoServer, method: str, params: dict[str, Any] | None = None, *, stateless: bool = False) -> Any:
    reply = ask(server, method, params, stateless=stateless)
    return reply.status, reply.message["error"]["code"]


@EVERY
def test_handshake(server: DemoServer) -> None:
    hello = {"capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    for revision in ("2025-11-25", "2025-06-18", "2024-11-05"):
        answer = result(server, "initialize", {**hello, "protocolVersion": revision})
        assert answer["protocolVersion"] == revision
        assert answer["serverInfo"]["name"] == server.name
    for revision in ("2025-03-26", "1.0", S):
        assert result(server, "initialize", {**hello, "protocolVersion": revision})["protocolVersion"] == "2025-11-25"
    assert error(server, "initialize", {}) == (200, -32602)
    assert server.answer({"jsonrpc": "2.0", "method": "notifications/initialized"}) is None
    assert result(server, "ping") == {}


@EVERY
def test_stateless_answers_carry_what_they_must(server: DemoServer) -> None:
    discovered = result(server, "server/discover", stateless=True)
    assert discovered["supportedVersions"] == [S]
    assert discovered["instructions"] == server.instructions
    for method in CACHEABLE - {"resources/read"}:
        answer = result(server, method, stateless=True)
        assert answer["resultType"] == "complete"
        assert answer["ttlMs"] >= 0
        assert answer["cacheScope"] == "public"
        assert answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == server.name
    assert "resultType" not in result(server, "tools/list")
    assert "ttlMs" not in result(server, "tools/call", {"name": server.tools[0].name}, stateless=True)


@EVERY
@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/such"])
def test_methods_of_the_handshake_era_are_unknown_in_the_stateless_one(server: DemoServer, method: str) -> None:
    assert error(server, method, {"protocolVersion": "2025-11-25"}, stateless=True) == (404, -32601)
    if method == "no/such":
        assert error(server, method) == (200, -32601)


@EVERY
def test_meta_is_checked(server: DemoServer) -> None:
    for broken in (
        {"io.modelcontextprotocol/protocolVersion": S},
        {**META, "io.modelcontextprotocol/clientCapabilities": []},
        {**META, "io.modelcontextprotocol/protocolVersion": 2026},
    ):
        reply = server.answer({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": broken}})
        assert reply is not None
        assert (reply.status, reply.message["error"]["code"]) == (400, -32602)
    discover = server.answer({"jsonrpc": "2.0", "id": 1, "method": "server/discover"})
    assert discover is not None
    assert (discover.status, discover.message["error"]["code"]) == (400, -32602)
    future = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    reply = server.answer({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": future}})
    assert reply is not None
    assert reply.status == 400
    assert reply.message["error"]["code"] == -32022
    assert reply.message["error"]["data"] == {"supported": [S], "requested": "2099-01-01"}


@EVERY
@pytest.mark.parametrize("stateless", [False, True])
def test_lists_reads_and_prompts(server: DemoServer, stateless: bool) -> None:
    tools = result(server, "tools/list", stateless=stateless)["tools"]
    assert [tool["name"] for tool in tools] == [tool.name for tool in server.tools]
    (resource,) = result(server, "resources/list", stateless=stateless)["resources"]
    (contents,) = result(server, "resources/read", {"uri": resource["uri"]}, stateless=stateless)["contents"]
    assert contents["text"].startswith("This text comes from")
    assert result(server, "resources/templates/list", stateless=stateless)["resourceTemplates"] == []
    (prompt,) = result(server, "prompts/list", stateless=stateless)["prompts"]
    arguments = {prompt["arguments"][0]["name"]: "Ada"}
    got = result(server, "prompts/get", {"name": prompt["name"], "arguments": arguments}, stateless=stateless)
    assert "Ada" in got["messages"][0]["content"]["text"]


@EVERY
def test_what_does_not_exist(server: DemoServer) -> None:
    assert error(server, "resources/read", {"uri": "demo://nowhere"}) == (200, -32002)
    assert error(server, "resources/read", {"uri": "demo://nowhere"}, stateless=True) == (400, -32602)
    for stateless, status in ((False, 200), (True, 400)):
        for method, params in (
            ("tools/call", {"name": "nothing"}),
            ("tools/call", {"name": 5}),
            ("tools/call", {"name": server.tools[0].name, "arguments": []}),
            ("prompts/get", {"name": "nothing"}),
            ("prompts/get", {"name": server.prompts[0].name, "arguments": {}}),
            ("tools/list", {"cursor": "abc"}),
            ("resources/read", {}),
        ):
            assert error(server, method, params, stateless=stateless) == (status, -32602)


def call(server: DemoServer, tool: str, **arguments: Any) -> Any:
    return result(server, "tools/call", {"name": tool, "arguments": arguments})


def test_tools_of_the_stdio_server() -> None:
    assert call(stdio.SERVER, "echo", text="é\n")["content"] == [{"type": "text", "text": "é\n"}]
    assert call(stdio.SERVER, "add", a=2, b=3)["structuredContent"] == {"sum": 5}
    assert call(stdio.SERVER, "add", a=0.5, b=1)["structuredContent"] == {"sum": 1.5}
    for a, b in ((1e308, 1e308), (10**400, 1.5)):
        assert call(stdio.SERVER, "add", a=a, b=b)["isError"] is True
    assert call(stdio.SERVER, "now")["content"][0]["text"].endswith("+00:00")


def test_tools_of_the_http_server() -> None:
    counted = call(http.SERVER, "word_count", text="one two\nthree")
    assert counted["structuredContent"] == {"words": 3, "lines": 2, "characters": 13}
    assert json.loads(counted["content"][0]["text"]) == counted["structuredContent"]
    assert call(http.SERVER, "uuid") != call(http.SERVER, "uuid")
    for number, roman in ((1, "I"), (4, "IV"), (1994, "MCMXCIV"), (3999, "MMMCMXCIX")):
        assert call(http.SERVER, "roman_numeral", number=number)["content"][0]["text"] == roman
    assert call(http.SERVER, "roman_numeral", number=4000)["isError"] is True


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "'a' is missing"),
        ({"a": 1, "b": "2"}, "'b' must be of type number"),
        ({"a": 1, "b": True}, "'b' must be of type number"),
        ({"a": 1, "b": 2, "c": 3}, "unknown argument 'c'"),
    ],
)
def test_wrong_arguments_are_told_to_the_model(arguments: dict[str, Any], reason: str) -> None:
    answer = call(stdio.SERVER, "add", **arguments)
    assert answer["isError"] is True
    assert reason in answer["content"][0]["text"]


@pytest.mark.parametrize(
    "message",
    [
        [],
        "text",
        {},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": 1},
    ],
    ids=str,
)
def test_what_is_no_request_is_refused(message: Any) -> None:
    reply = stdio.SERVER.answer(message)
    assert reply is not None
    assert (reply.status, reply.message["error"]["code"]) == (400, -32600)
    assert reply.message.get("id") in (None, 1)


def test_params_must_be_an_object() -> None:
    reply = stdio.SERVER.answer({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []})
    assert reply is not None
    assert reply.message["error"]["code"] == -32602


def test_answers_from_the_client_get_no_answer() -> None:
    assert stdio.SERVER.answer({"jsonrpc": "2.0", "id": 1, "result": {}}) is None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"a":NaN}', b"[" * 100_000, b"1" * 5000])
def test_only_json_is_decoded(data: bytes) -> None:
    with pytest.raises(RpcError) as refused:
        decode(data)
    assert refused.value.code == -32700


def test_a_message_is_one_line_of_ascii() -> None:
    data = encode({"text": "é\n\ud800"})
    assert data.isascii()
    assert b"\n" not in data


SCHEMAS = Path(__file__).parents[3] / "shared" / "reference" / "schemas"
RESULTS = {
    "initialize": ("InitializeResult", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}),
    "server/discover": ("DiscoverResult", {}),
    "tools/list": ("ListToolsResult", {}),
    "tools/call": ("CallToolResult", {"name": "echo", "arguments": {"text": "x"}}),
    "resources/list": ("ListResourcesResult", {}),
    "resources/templates/list": ("ListResourceTemplatesResult", {}),
    "resources/read": ("ReadResourceResult", {"uri": "demo://stdio/about"}),
    "prompts/list": ("ListPromptsResult", {}),
    "prompts/get": ("GetPromptResult", {"name": "greet", "arguments": {"name": "x"}}),
}


HANDSHAKE_CASES = [(method, "2025-11-25") for method in RESULTS if method != "server/discover"]
STATELESS_CASES = [(method, S) for method in RESULTS if method != "initialize"]


@pytest.mark.parametrize(("method", "revision"), [*HANDSHAKE_CASES, *STATELESS_CASES])
def test_results_are_what_the_schema_says(method: str, revision: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="validating against MCP's schema needs jsonschema")
    file = SCHEMAS / f"mcp-{revision}.json"
    if not file.exists():
        pytest.skip(f"the schema of MCP {revision} is not at {file}")
    schema = json.loads(file.read_text())
    definitions = "$defs" if "$defs" in schema else "definitions"
    name, params = RESULTS[method]
    answer = result(stdio.SERVER, method, params, stateless=revision == S)
    schema["$ref"] = f"#/{definitions}/{name}"
    schema.pop("anyOf", None)
    jsonschema.validate(answer, schema)
