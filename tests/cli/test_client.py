"""The client of the commands against proxies that answer well, badly, or not as proxies at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import Script, Speaker, answer

from only1mcp.cli import CANNOT_CONNECT, FAILURE, USAGE
from only1mcp.cli import client as client_module
from only1mcp.cli.client import ClientError, ProxyClient

Start = Callable[[Script | bytes], Speaker]


def said(result: Any = None, **message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, **(message or {"result": result})}).encode()


def body_of(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n\r\n")[2])


def failure(url: str, **options: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        ProxyClient(url, timeout_s=5, **options).call("tools/list", {})
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "ftp://x/mcp",
        "http://",
        "http://[::1",
        "http://localhost:99999/mcp",
        "http://localhost:x/mcp",
        "http://no such/mcp",
        "http://" + "a" * 70 + "/mcp",
        "http://user:secret@localhost/mcp",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    assert failure(url).exit_code == USAGE


@pytest.mark.parametrize("token", ["two words", "new\nline", "é", "\ud800", "nul\0"])
def test_tokens_no_header_can_carry(token: str) -> None:
    error = failure("http://127.0.0.1:1/mcp", token=token)
    assert error.exit_code == USAGE
    assert token not in str(error)


def test_nobody_there() -> None:
    error = failure("http://127.0.0.1:1/mcp")
    assert (error.exit_code, str(error)) == (CANNOT_CONNECT, "cannot connect to 127.0.0.1:1: connection refused")
    assert "only1mcp start" in (error.hint or "")
    assert failure("http://nowhere.invalid/mcp").exit_code == CANNOT_CONNECT


def test_a_request_is_complete(speaker: Start) -> None:
    server = speaker(answer(said({"content": []})))
    ProxyClient(server.url + "/ü?a=b c", "t0ken").call("tools/call", {"name": "é"}, "é")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    assert line == "POST /mcp/%C3%BC?a=b%20c HTTP/1.1"
    assert headers["authorization"] == "Bearer t0ken"
    assert (headers["mcp-method"], headers["mcp-name"]) == ("tools/call", "=?base64?w6k=?=")
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert json.loads(body)["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"


def test_arguments_travel_as_they_are_spelled(speaker: Start) -> None:
    server = speaker(answer(said({"content": []})))
    ProxyClient(server.url).call_tool("t", b'{"n": 123456789012345678901234567890, "f": 1.50}')
    assert b'"arguments":{"n": 123456789012345678901234567890, "f": 1.50}' in server.requests[0]


def test_arguments_that_the_tool_wants_in_headers(speaker: Start) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    def script(request: bytes) -> bytes:
        if body_of(request)["method"] == "tools/list":
            return answer(said({"tools": [{"name": "other"}, {"name": "t", "inputSchema": schema}]}))
        if b"\r\nmcp-param-region: eu\r\n" in request:
            return answer(said({"content": [], "ok": True}))
        return answer(said(error={"code": -32020, "message": "header missing"}), status="400 Bad Request")

    server = speaker(script)
    assert ProxyClient(server.url).call_tool("t", b'{"region":"eu"}')["ok"] is True
    assert [body_of(request)["method"] for request in server.requests] == ["tools/call", "tools/list", "tools/call"]
    with pytest.raises(ClientError, match="header missing"):
        ProxyClient(server.url).call_tool("unlisted", b"{}")


def test_a_schema_that_asks_for_impossible_headers(speaker: Start) -> None:
    schema = {"properties": {"a": {"type": "array", "x-mcp-header": "A"}}}

    def script(request: bytes) -> bytes:
        if body_of(request)["method"] == "tools/list":
            return answer(said({"tools": [{"name": "t", "inputSchema": schema}]}))
        return answer(said(error={"code": -32020, "message": "header missing"}), status="400 Bad Request")

    with pytest.raises(ClientError, match="header missing"):
        ProxyClient(speaker(script).url).call_tool("t", b"{}")


def test_an_error_answer(speaker: Start) -> None:
    refused = answer(said(error={"code": -31004, "message": "who are you?"}), status="401 Unauthorized")
    error = failure(speaker(refused).url)
    assert (str(error), error.code, error.exit_code) == ("who are you? (code -31004, HTTP 401)", -31004, FAILURE)
    assert "ONLY1MCP_TOKEN" in (error.hint or "")


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"<html>", content_type="text/html"),
        answer(b"", status="404 Not Found"),
        answer(b"[]"),
        answer(b'"text"'),
        answer(b'{"result": []}'),
        answer(b'{"error": "text"}'),
        answer(b"\xff\xfe"),
        answer(b"[" * 5000),
        answer(b"", status="302 Found", more="Location: /elsewhere\r\n"),
    ],
)
def test_http_that_is_no_mcp(speaker: Start, raw: bytes) -> None:
    error = failure(speaker(raw).url)
    assert str(error).startswith("not an MCP answer (HTTP ")
    assert error.hint == "is /mcp the path of the proxy's endpoint?"
    assert ("redirects to /elsewhere" in str(error)) is (b"Location" in raw)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "not HTTP"),
        (b"", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab", "8 bytes of the answer are missing"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
    ],
)
def test_what_is_no_http(speaker: Start, raw: bytes, what: str) -> None:
    error = failure(speaker(raw).url)
    assert what in str(error)
    assert error.exit_code == FAILURE


def test_silence(speaker: Start) -> None:
    server = speaker(b"")
    server.script = server.silence
    with pytest.raises(ClientError, match=r"no answer within 0\.2 s"):
        ProxyClient(server.url, timeout_s=0.2).call("tools/list", {})


def test_an_answer_without_end(speaker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1 << 20)
    assert "longer than 1 MB" in str(failure(speaker(answer(b" " * ((1 << 20) + 1))).url))


def test_an_event_without_end(speaker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1 << 10)
    error = failure(speaker(answer(b"data: " + b"x" * 5000, content_type="text/event-stream")).url)
    assert str(error).startswith("the event stream cannot be read: ")


def event(message: bytes) -> bytes:
    return b"data: " + message + b"\n\n"


@pytest.mark.parametrize("noise", [b"", b": hello\n\n", event(b'{"jsonrpc":"2.0","method":"n"}'), event(b"garbage")])
def test_an_event_stream(speaker: Start, noise: bytes) -> None:
    stream = answer(noise + event(said({"tools": [{"name": "a"}]})) + noise, content_type="text/event-stream; x=y")
    assert ProxyClient(speaker(stream).url).list("tools/list") == [{"name": "a"}]


def test_a_list_that_no_backend_offers(speaker: Start) -> None:
    refused = answer(said(error={"code": -32601, "message": "no backend offers tools"}), status="404 Not Found")
    assert ProxyClient(speaker(refused).url).list("tools/list") == []


def test_an_event_stream_that_stays_open_after_the_answer(speaker: Start) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n"
    server = speaker(head + event(said({"tools": []})))
    assert ProxyClient(server.url, timeout_s=5).list("tools/list") == []


@pytest.mark.parametrize("stream", [b"", b": nothing\n\n", event(b'{"method":"n"}'), b"data: x"])
def test_an_event_stream_without_an_answer(speaker: Start, stream: bytes) -> None:
    error = failure(speaker(answer(stream, content_type="text/event-stream")).url)
    assert "the event stream ended without an answer" in str(error)


def test_pages(speaker: Start) -> None:
    def script(request: bytes) -> bytes:
        cursor = body_of(request)["params"].get("cursor")
        return answer(said({"tools": [{"name": cursor or "first"}], **({} if cursor else {"nextCursor": "second"})}))

    items = ProxyClient(speaker(script).url).list("tools/list")
    assert [item["name"] for item in items] == ["first", "second"]


@pytest.mark.parametrize("result", [{}, {"tools": None}, {"tools": ["x"]}, {"tools": [], "nextCursor": "again"}])
def test_lists_that_are_none_or_never_end(
    speaker: Start, monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]
) -> None:
    monkeypatch.setattr(client_module, "MAX_PAGES", 3)
    with pytest.raises(ClientError, match="not an MCP answer"):
        ProxyClient(speaker(answer(said(result))).url).list("tools/list")


def test_tls_where_there_is_none_and_the_other_way_round(speaker: Start) -> None:
    server = speaker(answer(b"{}"))
    error = failure(f"https://127.0.0.1:{server.port}/mcp")
    assert error.exit_code == CANNOT_CONNECT
    assert "http://" in (error.hint or "")
