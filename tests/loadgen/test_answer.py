"""How answers are judged: what is good, and by which name everything else goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from only1mcp._fast import Envelope, scan
from only1mcp.loadgen.answer import EXAMPLE_CHARS, failure_of, judge_body, judge_message
from only1mcp.loadgen.failure import BAD_ANSWER, HTTP, INPUT_REQUIRED, RPC_ERROR, TOOL_ERROR, Failure
from only1mcp.wire.http1_events import ResponseHead

ID = b"100"
JSON = (b"content-type", b"application/json")


def judged(body: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> Failure | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = judge_body(ResponseHead(status, list(headers or (JSON,))), data, ID)
    return failure_of(outcome, status) if isinstance(outcome, Envelope) else outcome


def result(value: Any, id: Any = 100) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def error(code: Any, message: Any = "no", id: Any = 100) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"tools": []},
        {"content": [], "isError": False},
        {"content": [{"type": "text", "text": '"isError": true'}]},
        {"nested": {"isError": True}},
        {"resultType": "complete", "text": "input_required"},
        {"resultType": "complete", "other": "é\u2028"},
    ],
)
def test_good_answers(value: dict[str, Any]) -> None:
    assert judged(result(value)) is None
    assert judged(result(value), 200, (b"content-type", b"Application/JSON; charset=utf-8")) is None


@pytest.mark.parametrize(
    ("body", "kind", "what"),
    [
        (error(-32602), RPC_ERROR, "-32602"),
        (error(-32602, id=None), RPC_ERROR, "-32602"),
        (error("x"), RPC_ERROR, "without a code"),
        (error(1, message=5), RPC_ERROR, "1"),
        (result({"isError": True}), TOOL_ERROR, ""),
        (b'{"jsonrpc":"2.0","id":100,"result":{"\\u0069sError":true}}', TOOL_ERROR, ""),
        (result({"resultType": "input_required"}), INPUT_REQUIRED, ""),
        (b'{"jsonrpc":"2.0","id":100,"result":{"resultType":"input_requi\\u0072ed"}}', INPUT_REQUIRED, ""),
        (result({}, id=101), BAD_ANSWER, "wrong id"),
        (result({}, id="100"), BAD_ANSWER, "wrong id"),
        (error(1, id=7), BAD_ANSWER, "wrong id"),
        (result([]), BAD_ANSWER, "the result is no object"),
        (result(None), BAD_ANSWER, "the result is no object"),
        ({"jsonrpc": "2.0", "id": 100, "method": "ping"}, BAD_ANSWER, "no response"),
        ({"jsonrpc": "2.0", "method": "notifications/progress"}, BAD_ANSWER, "no response"),
        (b'{"jsonrpc":"2.0","id":100,"result":{"isError":true,"isError":false}}', BAD_ANSWER, None),
        ([result({})], BAD_ANSWER, None),
        (b"", BAD_ANSWER, None),
        (b"{", BAD_ANSWER, None),
        (b'{"jsonrpc":"2.0","id":100,"result":"\xff"}', BAD_ANSWER, None),
    ],
)
def test_answers_with_status_200_that_are_failures(body: Any, kind: str, what: str | None) -> None:
    found = judged(body)
    assert found is not None
    assert found.kind == kind
    assert what is None or found.what == what


@pytest.mark.parametrize("status", [301, 302, 307, 401, 404, 429, 500, 503])
def test_a_status_that_refuses(status: int) -> None:
    for body in (b"", b"<html>", b'{"jsonrpc":"2.0","id":100,"result":{}}'):
        assert judged(body, status) is not None
        assert judged(body, status)[:2] == (HTTP, str(status))  # type: ignore[index]
    assert judged(b"x", status, (b"content-type", b"text/html"))[:2] == (HTTP, str(status))  # type: ignore[index]


def test_a_json_rpc_error_says_more_than_its_status() -> None:
    found = judged(error(-31003, "rate limited"), 429)
    assert found == Failure(RPC_ERROR, "-31003", "rate limited (HTTP 429)")


def test_a_redirect_is_shown_and_not_followed() -> None:
    found = judged(b"", 307, (b"location", b"http://elsewhere/"))
    assert found is not None
    assert "a redirect to http://elsewhere/, which is not followed" in found.message


@pytest.mark.parametrize(
    "headers",
    [
        ((b"content-type", b"text/html"),),
        ((b"server", b"x"),),
        (JSON, JSON),
        (JSON, (b"content-encoding", b"gzip")),
        ((b"content-type", b"text/event-stream"),),
    ],
)
def test_bodies_that_are_not_json(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    found = judged(result({}), 200, *headers)
    assert found is not None
    assert found.kind == BAD_ANSWER


def test_an_accepted_request_without_an_answer() -> None:
    assert judged(b"", 202, (b"server", b"x")) == Failure(HTTP, "202", "HTTP status 202")


def test_examples_are_short() -> None:
    for body in (error(1, "x" * 9999), result({"isError": True, "content": [{"type": "text", "text": "x" * 9999}]})):
        found = judged(body)
        assert found is not None
        assert len(found.message) <= EXAMPLE_CHARS


def test_messages_on_a_stream() -> None:
    good = scan(json.dumps(result({})).encode())
    assert judge_message(good, ID) is good
    assert judge_message(scan(b'{"jsonrpc":"2.0","method":"notifications/x"}'), ID) is None
    assert judge_message(scan(b'{"jsonrpc":"2.0","id":100,"method":"ping"}'), ID) is None
    assert isinstance(judge_message(good, b"1"), Failure)
