"""What clients carry of parked calls: tokens, digests, retries, and what can be read of a backend's answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from only1mcp._fast import scan
from only1mcp.errors import ProtocolError
from only1mcp.wire import parked
from only1mcp.wire.parked import Retry, Token

META = "io.modelcontextprotocol/"


def request(method: str = "tools/call", **params: Any) -> Any:
    return scan(orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))


def answer(**members: Any) -> Any:
    return scan(orjson.dumps({"jsonrpc": "2.0", "id": 7, **members}))


def test_a_token_comes_back_as_it_was() -> None:
    token = Token(3, 2**64 - 1, 65, b"d" * 16)
    assert parked.token_of(token.packed()) == token
    assert parked.token_of(token.packed() + b"x") is None
    assert parked.token_of(b"") is None


def test_a_request_without_the_members_of_retries_is_none() -> None:
    assert parked.maybe_retry(request(name="a")) is None
    assert parked.maybe_retry(request(name="a", arguments={"requestState": "deeper"})) is None
    assert parked.maybe_retry(scan(b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}')) is None


def test_a_retry_is_read() -> None:
    found = parked.maybe_retry(request(name="a", requestState="s", inputResponses={"k": {"action": "accept"}}))
    assert found == Retry("s", {"k": b'{"action":"accept"}'})
    assert parked.maybe_retry(request(name="a", requestState="s")) == Retry("s", {})
    # However the member is spelled.
    escaped = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","request\\u0053tate":"s"}}'
    assert parked.maybe_retry(scan(escaped)) == Retry("s", {})


def test_answers_without_state_answer_nothing() -> None:
    assert parked.maybe_retry(request(name="a", inputResponses="anything")) == Retry(None, {})


@pytest.mark.parametrize(
    "params",
    [
        {"requestState": 1},
        {"requestState": None},
        {"requestState": "s", "inputResponses": []},
        {"requestState": "s", "inputResponses": {"k": "text"}},
        {"requestState": "s", "inputResponses": {"k": None}},
    ],
)
def test_a_retry_of_another_shape_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        parked.maybe_retry(request(name="a", **params))
    assert caught.value.code == -32602


def test_the_first_request_is_what_remains() -> None:
    message = request(requestState="s", name="a", inputResponses={"k": {}}, arguments={"x": 1.0})
    left = parked.as_first(message)
    assert orjson.loads(left.data)["params"] == {"name": "a", "arguments": {"x": 1.0}}
    assert (left.id, left.data[slice(*left.name)]) == (b"7", b'"a"')


def test_the_digest_is_that_of_the_request_alone() -> None:
    first = request(name="a", arguments={"x": 1, "y": {"p": [1, 2], "q": "é"}}, _meta={"progressToken": 1})
    digest = parked.digest_of(first)
    retry = request(
        requestState="s", inputResponses={"k": {}}, arguments={"y": {"q": "é", "p": [1, 2]}, "x": 1}, name="a"
    )
    assert parked.digest_of(retry) == digest
    assert len(digest) == 16
    others = [
        request(name="b", arguments={"x": 1, "y": {"p": [1, 2], "q": "é"}}),
        request(name="a", arguments={"x": 1, "y": {"p": [2, 1], "q": "é"}}),
        request(name="a", arguments={"x": "1", "y": {"p": [1, 2], "q": "é"}}),
        request(name="a"),
        request("prompts/get", name="a", arguments={"x": 1, "y": {"p": [1, 2], "q": "é"}}),
        request(name="a", arguments={"x": 1, "y": {"p": [1, 2], "q": "é"}}, more=1),
    ]
    assert digest not in [parked.digest_of(other) for other in others]


def test_large_arguments_must_come_back_as_they_came() -> None:
    """Decoded, ten megabytes of empty objects are a second and 300 MB."""
    rows = "[" + "{}," * (parked.MAX_CANONICAL_BYTES // 3) + "{}]"

    def digest(space: str) -> bytes:
        params = f'{{"name":"a",{space}"arguments":{{{space}"r":{rows}}}}}'
        return parked.digest_of(scan(f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'.encode()))

    assert digest("") == digest("")
    assert digest("") != digest(" ")


def test_what_a_request_declares() -> None:
    capabilities = {"elicitation": {}}
    assert parked.declared(request(name="a", _meta={f"{META}clientCapabilities": capabilities})) == capabilities
    assert parked.declared(request(name="a", _meta={f"{META}clientCapabilities": [1]})) == {}
    assert parked.declared(request(name="a", _meta={})) == {}
    assert parked.declared(request(name="a")) == {}


@pytest.mark.parametrize(("token", "found"), [("t", b'"t"'), (-1, b"-1"), (True, None), ({}, None)])
def test_the_progress_token(token: Any, found: bytes | None) -> None:
    assert parked.progress_token(request(name="a", _meta={"progressToken": token})) == found
    assert parked.progress_token(request(name="a", _meta={})) is None
    assert parked.progress_token(request(name="a")) is None


def urls(*listed: Any, code: int = -32042) -> Any:
    return answer(error={"code": code, "message": "go", "data": {"elicitations": list(listed)}})


def test_urls_that_a_call_needs() -> None:
    asks = parked.maybe_urls(urls({"mode": "url", "elicitationId": "1", "url": "https://a.example/", "message": "m"}))
    assert asks is not None
    assert [(ask.method, orjson.loads(ask.params or b"")) for ask in asks] == [
        ("elicitation/create", {"mode": "url", "message": "m", "url": "https://a.example/"})
    ]
    many = parked.maybe_urls(urls(*({"url": f"https://a.example/{n}"} for n in range(100))))
    assert many is not None
    assert len(many) == 32


@pytest.mark.parametrize(
    "other",
    [
        urls(),
        urls({"message": "m"}),
        urls("text"),
        urls({"url": "https://a.example/"}, code=-32000),
        answer(error={"code": -32042, "message": "no data"}),
        answer(error={"code": -32042, "message": "odd data", "data": []}),
        answer(result={"x": -32042}),
    ],
)
def test_other_answers_need_none(other: Any) -> None:
    assert parked.maybe_urls(other) is None


@pytest.mark.parametrize("response", [b'{"action":"decline"}', b'{"action":"cancel"}', b"{}", b'{"action":1}'])
def test_only_consent_is_consent(response: bytes) -> None:
    assert parked.declines(response)
    assert not parked.declines(b'{"action":"accept"}')


def test_what_failed() -> None:
    assert parked.is_failure(answer(error={"code": 1, "message": "m"}))
    assert parked.is_failure(answer(result={"content": [], "isError": True}))
    assert not parked.is_failure(answer(result={"content": [], "isError": False}))
    assert not parked.is_failure(answer(result={"content": [{"type": "text", "text": "isError"}]}))
