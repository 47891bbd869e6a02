"""The HTTP demo server as the proxy starts it: over a real socket, both eras, every refusal."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

S = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": S, "io.modelcontextprotocol/clientCapabilities": {}}
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "only1mcp.demo.http", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = urlsplit(json.loads(process.stdout.readline())["url"])
            assert (url.scheme, url.hostname, url.path) == ("http", "127.0.0.1", "/mcp")
            assert url.port is not None
            yield "127.0.0.1", url.port
        finally:
            process.stdin.close()
            try:
                assert process.wait(10) == 0  # the end of its input is the end of it
            finally:
                process.kill()
        assert process.stderr.read() == b""


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    yield connection
    connection.close()


def post(
    connection: http.client.HTTPConnection, body: Any, headers: dict[str, str] | None = None, path: str = "/mcp"
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {**JSON, **(headers or {})})
    response = connection.getresponse()
    text = response.read()
    return response.status, json.loads(text) if text else None


def request(method: str, params: dict[str, Any] | None = None, *, meta: dict[str, Any] | None = None) -> Any:
    params = {**(params or {}), **({"_meta": meta} if meta is not None else {})}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def mirrored(method: str, name: str | None = None, version: str = S) -> dict[str, str]:
    headers = {"MCP-Protocol-Version": version, "Mcp-Method": method}
    return headers if name is None else {**headers, "Mcp-Name": name}


def code(answer: tuple[int, Any]) -> tuple[int, int]:
    return answer[0], answer[1]["error"]["code"]


def test_handshake_era_on_one_connection(connection: http.client.HTTPConnection) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    status, answer = post(connection, request("initialize", hello))
    assert (status, answer["result"]["protocolVersion"]) == (200, "2025-11-25")
    version = {"MCP-Protocol-Version": "2025-11-25"}
    assert post(connection, {"jsonrpc": "2.0", "method": "notifications/initialized"}, version) == (202, None)
    assert post(connection, {"jsonrpc": "2.0", "id": 3, "result": {}}, version) == (202, None)
    status, answer = post(connection, request("tools/list"), version)
    assert [tool["name"] for tool in answer["result"]["tools"]] == ["word_count", "uuid", "roman_numeral"]
    status, answer = post(connection, request("tools/call", {"name": "roman_numeral", "arguments": {"number": 9}}))
    assert answer["result"]["content"][0]["text"] == "IX"
    assert code(post(connection, request("no/such"), version)) == (200, -32601)
    assert code(post(connection, request("server/discover"), version)) == (200, -32601)
    connection.request("GET", "/mcp", headers={"Accept": "text/event-stream"})
    response = connection.getresponse()
    response.read()
    assert (response.status, response.headers["Allow"]) == (405, "POST")


def test_stateless_era(connection: http.client.HTTPConnection) -> None:
    status, answer = post(connection, request("server/discover", meta=META), mirrored("server/discover"))
    assert (status, answer["result"]["supportedVersions"]) == (200, [S])
    call = request("tools/call", {"name": "word_count", "arguments": {"text": "a b"}}, meta=META)
    status, answer = post(connection, call, mirrored("tools/call", "word_count"))
    assert (status, answer["result"]["structuredContent"]["words"]) == (200, 2)
    assert answer["result"]["resultType"] == "complete"
    encoded = "=?base64?" + base64.b64encode(b"word_count").decode() + "?="
    assert post(connection, call, mirrored("tools/call", encoded))[0] == 200
    assert post(connection, {"jsonrpc": "2.0", "method": "notifications/x"}, mirrored("notifications/x")) == (202, None)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (request("tools/list", meta=META), {}, (400, -32020)),
        (request("tools/list", meta=META), {"MCP-Protocol-Version": S}, (400, -32020)),
        (request("tools/list", meta=META), mirrored("Tools/list"), (400, -32020)),
        (request("tools/list", meta=META), mirrored("tools/list", version="2099-01-01"), (400, -32020)),
        (request("tools/list"), mirrored("tools/list"), (400, -32602)),
        (request("tools/list", meta={}), mirrored("tools/list"), (400, -32602)),
        (request("tools/call", {"name": "uuid"}, meta=META), mirrored("tools/call"), (400, -32020)),
        (request("tools/call", {"name": "uuid"}, meta=META), mirrored("tools/call", "other"), (400, -32020)),
        (request("tools/call", {"name": "uuid"}, meta=META), mirrored("tools/call", "=?base64?%?="), (400, -32020)),
        (request("tools/call", {"name": "nope"}, meta=META), mirrored("tools/call", "nope"), (400, -32602)),
        (request("tools/call", {}, meta=META), mirrored("tools/call"), (400, -32602)),
        (
            request("tools/list", meta={**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}),
            mirrored("tools/list", version="2099-01-01"),
            (400, -32022),
        ),
        (request("initialize", meta=META), mirrored("initialize"), (404, -32601)),
        (request("ping", meta=META), mirrored("ping"), (404, -32601)),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, mirrored("x"), (400, -32600)),
        ([], {}, (400, -32600)),
        (b"{", {}, (400, -32700)),
        (b"\xff", {}, (400, -32700)),
    ],
)
def test_refusals(
    connection: http.client.HTTPConnection, body: Any, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    assert code(post(connection, body, headers)) == expected
    assert post(connection, request("ping"))[0] == 200  # the connection is kept


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Content-Type": "text/plain"}, "/mcp", 415),
        ({"Accept": "text/html"}, "/mcp", 406),
        ({"Host": "evil.example"}, "/mcp", 403),
        ({"Host": "127.0.0.1@evil.example"}, "/mcp", 403),
        ({"Origin": "http://evil.example"}, "/mcp", 403),
        ({"Origin": "null"}, "/mcp", 403),
        ({}, "/other", 404),
        ({"Content-Length": "99999999"}, "/mcp", 413),
        ({"Content-Length": "+5"}, "/mcp", 400),
        ({"Transfer-Encoding": "chunked"}, "/mcp", 411),
    ],
)
def test_http_refusals(connection: http.client.HTTPConnection, headers: dict[str, str], path: str, status: int) -> None:
    assert post(connection, request("ping"), headers, path)[0] == status


def test_local_pages_are_welcome(connection: http.client.HTTPConnection) -> None:
    assert post(connection, request("ping"), {"Origin": "http://localhost:6274", "Host": "localhost:1"})[0] == 200
    assert post(connection, request("ping"), {"Accept": "*/*"})[0] == 200


def test_routing_headers_that_come_twice(connection: http.client.HTTPConnection) -> None:
    body = json.dumps(request("tools/list", meta=META)).encode()
    connection.putrequest("POST", "/mcp")
    for name, value in [*JSON.items(), ("Content-Length", str(len(body))), ("MCP-Protocol-Version", S)]:
        connection.putheader(name, value)
    connection.putheader("Mcp-Method", "tools/list")
    connection.putheader("Mcp-Method", "tools/list")
    connection.endheaders(body)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (400, -32020)


def test_it_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "only1mcp.demo.http"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True)
    assert json.loads(done.stdout)["url"].startswith("http://127.0.0.1:")
    assert done.stderr == b""
