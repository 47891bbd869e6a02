"""Requests and answers between the eras: what changes is what must, every other byte stays as it was."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.json_texts import json_texts, objects

from only1mcp._fast import members, scan
from only1mcp.errors import BackendAnswerError, ProtocolError
from only1mcp.wire import eras, jsonrpc, mcp
from only1mcp.wire.eras import Caller
from only1mcp.wire.jsonrpc import Edit
from only1mcp.wire.mcp import META_LOG_LEVEL, Era

H, S = Era.HANDSHAKE, Era.STATELESS
CALLER = Caller(client_info=b'{"name":"us"}')
STAMP = b'{"io.modelcontextprotocol/serverInfo":{"name":"backend"}}'
INFO = b'{"name":"backend"}'
STATELESS_META = {
    mcp.META_VERSION: "2026-07-28",
    mcp.META_CAPABILITIES: {},
    mcp.META_CLIENT_INFO: {"name": "us"},
}


def is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


values = json_texts.filter(is_json)


def to_backend(data: bytes, client: Era, backend: Era, replace: Edit | None = None) -> eras.Outbound:
    revision = "2026-07-28" if backend is S else "2025-11-25"
    return eras.to_backend(
        scan(data), id=b"99", client=client, backend=backend, revision=revision, caller=CALLER, replace=replace
    )


def request(params: bytes | None, id: bytes = b"1") -> bytes:
    return jsonrpc.request(id, "tools/call", params)


def params_of(outbound: eras.Outbound) -> Any:
    return orjson.loads(outbound.message)["params"]


# Requests.

TRACE = b'"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" , "tracestate":"a=1","baggage":"k=v"'


@pytest.mark.parametrize("client", Era)
@pytest.mark.parametrize("backend", Era)
@pytest.mark.parametrize("token", [b"", b',"progressToken":"p"'])
def test_the_trace_of_a_call_goes_on_as_it_is(client: Era, backend: Era, token: bytes) -> None:
    """No span is made here, so that the one that called is the parent of what the backend does."""
    sent = to_backend(request(b'{"name":"x","_meta":{' + TRACE + token + b"}}"), client, backend).message
    meta = orjson.loads(sent)["params"]["_meta"]
    assert {key: meta[key] for key in ("traceparent", "tracestate", "baggage")} == orjson.loads(b"{" + TRACE + b"}")
    if client is backend and not token:
        assert TRACE in sent


SAME_ERA = [
    pytest.param(None, id="no params"),
    pytest.param(b"{}", id="empty params"),
    pytest.param(b'{ "name" : "a", "arguments":{"x":1.0e0,"y":"\\u0041"} }', id="spelling"),
    pytest.param(b'{"_meta":{"x":1,"x":2}}', id="double keys in _meta that nobody here reads"),
    pytest.param(b'{"arguments":{"a":1,"a":2}}', id="double keys in arguments"),
    pytest.param(b'{"_meta":{"io.modelcontextprotocol/protocolVersion":"9"}}', id="reserved keys"),
    pytest.param(b'{"arguments":{"_meta":{"progressToken":5}}}', id="a token that is an argument"),
]


@pytest.mark.parametrize("params", SAME_ERA)
@pytest.mark.parametrize("era", [H, S])
@pytest.mark.parametrize("id", [b"1", b'"\\u0031"'])
def test_the_same_era_changes_the_id_alone(params: bytes | None, era: Era, id: bytes) -> None:
    outbound = to_backend(request(params, id), era, era)
    assert (outbound.message, outbound.progress_token) == (request(params, b"99"), None)


def test_replaces_the_name() -> None:
    data = b'{"id":1,"params":{"arguments":{"name":"x"},"name" : "pub\\u006cic"},"method":"tools/call","jsonrpc":"2.0"}'
    envelope = scan(data)
    assert envelope.name is not None
    outbound = to_backend(data, H, H, (*envelope.name, b'"own"'))
    assert outbound.message == data.replace(b'"id":1', b'"id":99').replace(b'"pub\\u006cic"', b'"own"')


@pytest.mark.parametrize("token", [b'"t"', b"7", b"-1", b"1.5", b'"\\u0041"'])
@pytest.mark.parametrize("key", [b'"progressToken"', b'"progress\\u0054oken"'])
@pytest.mark.parametrize("eras_", [(H, H), (S, S), (H, S), (S, H)])
def test_a_progress_token_becomes_our_id(token: bytes, key: bytes, eras_: tuple[Era, Era]) -> None:
    outbound = to_backend(request(b'{"_meta":{"a":1,' + key + b":" + token + b"}}"), *eras_)
    assert outbound.progress_token == token
    meta = params_of(outbound)["_meta"]
    assert (meta["progressToken"], meta["a"]) == (99, 1)
    assert outbound.message.count(b"Token") == 1


@pytest.mark.parametrize("token", [b"null", b"true", b"false", b'{"a":1}', b"[]"])
def test_what_is_no_token_stays(token: bytes) -> None:
    data = request(b'{"_meta":{"progressToken":' + token + b"}}")
    outbound = to_backend(data, H, H)
    assert (outbound.message, outbound.progress_token) == (data.replace(b'"id":1', b'"id":99'), None)


def test_a_doubled_progress_token_is_refused() -> None:
    with pytest.raises(ProtocolError):
        to_backend(request(b'{"_meta":{"progressToken":1,"progress\\u0054oken":2}}'), H, H)


@pytest.mark.parametrize(
    "params",
    [
        None,
        b"{}",
        b"{ }",
        b'{"name":"x"}',
        b'{"_meta":{}}',
        b'{"_meta" : { } , "name":"x"}',
        b'{"arguments":{"_meta":1}}',
    ],
)
def test_a_stateless_backend_learns_who_speaks(params: bytes | None) -> None:
    sent = params_of(to_backend(request(params), H, S))
    assert sent.pop("_meta") == STATELESS_META
    expected = {} if params is None else orjson.loads(params)
    expected.pop("_meta", None)
    assert sent == expected


def test_a_handshake_client_cannot_speak_for_the_proxy() -> None:
    """What a client puts under the reserved keys must not reach a backend as our own word."""
    forged = dict.fromkeys(mcp.STATELESS_REQUEST_META, "forged") | {"traceparent": "00-1-2-01"}
    sent = params_of(to_backend(request(orjson.dumps({"_meta": forged})), H, S))["_meta"]
    assert sent == STATELESS_META | {"traceparent": "00-1-2-01"}
    escaped = request(b'{"_meta":{"io.modelcontextprotocol\\/protocolVersion":"forged","\\u0061":1}}')
    assert params_of(to_backend(escaped, H, S))["_meta"] == STATELESS_META | {"a": 1}


def test_a_handshake_backend_gets_nothing_of_the_stateless_era() -> None:
    meta = {key: {"x": 1} for key in mcp.STATELESS_REQUEST_META} | {"traceparent": "t", "progressToken": "p"}
    outbound = to_backend(request(orjson.dumps({"name": "x", "_meta": meta})), S, H)
    assert params_of(outbound) == {"name": "x", "_meta": {"progressToken": 99, "traceparent": "t"}}


@given(
    before=st.dictionaries(st.text(max_size=5), values, max_size=3),
    meta=st.none() | st.dictionaries(st.sampled_from(["a", "é", "progressToken", *mcp.STATELESS_REQUEST_META]), values),
    after=st.dictionaries(st.text(max_size=5), values, max_size=3),
    eras_=st.sampled_from([(H, H), (S, S), (H, S), (S, H)]),
    space=st.sampled_from([b"", b" ", b"\n\t"]),
)
def test_bytes_outside_of_id_and_meta_are_the_same(
    before: dict[str, bytes],
    meta: dict[str, bytes] | None,
    after: dict[str, bytes],
    eras_: tuple[Era, Era],
    space: bytes,
) -> None:
    def pairs(fields: dict[str, bytes]) -> list[bytes]:
        return [orjson.dumps(key) + space + b":" + value + space for key, value in fields.items()]

    taken = {"name", "uri", "_meta"}
    first = {key: value for key, value in before.items() if key.casefold() not in taken}
    last = {key: value for key, value in after.items() if key.casefold() not in taken and key not in first}
    middle = [] if meta is None else [b'"_meta":{' + b",".join(pairs(meta)) + b"}"]
    params = b"{" + space + b",".join([*pairs(first), *middle, *pairs(last)]) + b"}"
    data = b'{"params":' + params + b',"jsonrpc":"2.0","method":"x",' + space + b'"id":"\\u0031"}' + space
    envelope = scan(data, 500)
    sent = scan(to_backend(data, *eras_).message, 500)
    assert sent.id == b"99"
    assert sent.params is not None
    assert envelope.params is not None
    if envelope.meta is not None:
        # Everything up to `_meta`, and from its end on but for the id.
        assert sent.meta is not None
        assert sent.data[: sent.meta[0]] == data[: envelope.meta[0]]
        rest = data[envelope.meta[1] :].replace(b'"id":"\\u0031"', b'"id":99')
    else:
        rest = data[envelope.params[0] + 1 :].replace(b'"id":"\\u0031"', b'"id":99')
    assert sent.data.endswith(rest)
    # And the members of _meta that have nothing to do with the eras keep their bytes too.
    if meta is not None and sent.meta is not None:
        found = {key: sent.data[slice(*span)] for key, span in members(sent.data, *sent.meta).items()}
        for key in ("a", "é"):
            assert found.get(key) == meta.get(key)


# Answers.


def to_client(
    answer: bytes, client: Era, backend: Era, method: str = "tools/call", uri: str | None = None
) -> tuple[int, bytes]:
    return eras.to_client(
        scan(answer), id=b'"c"', method=method, uri=uri, client=client, backend=backend, server_info=INFO
    )


def error(body: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":99,"error":' + body.encode() + b"}"


@pytest.mark.parametrize("era", [H, S])
@given(value=values)
def test_the_same_era_gets_the_answer_with_its_own_id(era: Era, value: bytes) -> None:
    if era is S:
        value = b'{"a": ' + value + b' ,"resultType":"complete", "a":1}'
    answer = b'{ "result" :' + value + b',"extra":[1.0], "id":99 ,"jsonrpc":"2.0"}'
    scan(answer, 500)
    expected = b'{ "result" :' + value + b',"extra":[1.0], "id":"c" ,"jsonrpc":"2.0"}'
    assert to_client(answer, era, era) == (200, expected)


@given(fields=st.dictionaries(st.text(max_size=6), values, max_size=4))
def test_every_result_of_the_stateless_era_is_complete_and_stamped(fields: dict[str, bytes]) -> None:
    body = b"{" + b",".join(orjson.dumps(key) + b":" + value for key, value in fields.items()) + b"}"
    status, sent = to_client(jsonrpc.result(b"99", body), S, H, "resources/read")
    envelope = scan(sent, 500)
    assert (status, envelope.id) == (200, b'"c"')
    assert envelope.result is not None
    found = {key: sent[slice(*span)] for key, span in members(sent, *envelope.result).items()}
    for key in ("resultType", "ttlMs", "cacheScope", "_meta"):
        fields.pop(key, None)
    assert orjson.loads(found.pop("_meta"))[mcp.META_SERVER_INFO] == {"name": "backend"}
    assert found == fields | {"resultType": b'"complete"', "ttlMs": b"0", "cacheScope": b'"private"'}


@pytest.mark.parametrize(("client", "backend"), [(H, S), (S, H), (S, S), (H, H)])
@given(
    fields=st.dictionaries(st.text(max_size=6), values, max_size=4),
    structured=objects(values).filter(is_json),
    data=values,
)
def test_whoever_asks_other_members_of_an_answer_keep_their_bytes(
    client: Era, backend: Era, fields: dict[str, bytes], structured: bytes, data: bytes
) -> None:
    fields |= {"content": b"[ ]", "structuredContent": structured, "resultType": b'"complete"', "ttlMs": b"5"}
    body = b"{" + b" ,".join(orjson.dumps(key) + b"\t:" + value for key, value in fields.items()) + b"}"
    _, sent = to_client(jsonrpc.result(b"99", body), client, backend)
    span = members(sent, 0, len(sent))["result"]
    found = {key: sent[slice(*place)] for key, place in members(sent, *span).items()}
    translated = {"resultType", "ttlMs", "cacheScope", "_meta"}
    assert {key: found[key] for key in fields if key not in translated} == {
        key: value for key, value in fields.items() if key not in translated
    }
    failed = b'{"code": -32603 ,"message":"\\u0078", "data" : ' + data + b"}"
    _, sent = to_client(error(failed.decode()), client, backend)
    assert sent == b'{"jsonrpc":"2.0","id":"c","error":' + failed + b"}"
    recoded = b'{"code":-32042,"message":"\\u0078", "data" : ' + data + b"}"
    _, sent = to_client(error(recoded.decode()), client, backend)
    place = members(sent, *members(sent, 0, len(sent))["error"])["data"]
    assert sent[slice(*place)] == data


def test_only_cacheable_results_say_how_long_they_hold() -> None:
    _, sent = to_client(b'{"jsonrpc":"2.0","id":99,"result":{"content":[]}}', S, H)
    assert orjson.loads(sent)["result"] == {
        "resultType": "complete",
        "content": [],
        "_meta": {mcp.META_SERVER_INFO: {"name": "backend"}},
    }


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ('{"a":1.0}', b'{"io.modelcontextprotocol/serverInfo":{"name":"backend"},"a":1.0}'),
        ('{"io.modelcontextprotocol/serverInfo":"forged"}', STAMP),
        ("null", STAMP),
        ("[1]", STAMP),
        ('"x"', STAMP),
    ],
)
def test_stamps_whatever_meta_is(meta: str, expected: bytes) -> None:
    _, sent = to_client(b'{"jsonrpc":"2.0","id":99,"result":{"_meta":' + meta.encode() + b"}}", S, H)
    assert b'"_meta":' + expected in sent


def test_a_handshake_backend_cannot_ask_for_input_in_a_result() -> None:
    _, sent = to_client(b'{"jsonrpc":"2.0","id":99,"result":{"resultType":"input_required","inputRequests":{}}}', S, H)
    assert orjson.loads(sent)["result"]["resultType"] == "complete"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ('{"resultType":"complete","content":[1.0]}', b'{"content":[1.0]}'),
        ('{"resultType":"\\u0063omplete","content":[]}', b'{"content":[]}'),
        ('{"content":[],"ttlMs":5,"cacheScope":"public"}', b'{"content":[]}'),
        ('{"structuredContent":{"a":1.0}}', b'{"structuredContent":{"a":1.0}}'),
        ('{"structuredContent":[1],"content":[1]}', b'{"content":[1]}'),
        # What only the structured part says is said in the way that every client reads.
        ('{"structuredContent":[1.0 ],"content":[ ]}', b'{"content":[{"type":"text","text":"[1.0 ]"}]}'),
        ('{"structuredContent":"a\\"b"}', b'{"content":[{"type":"text","text":"\\"a\\\\\\"b\\""}]}'),
        ('{"structuredContent":null}', b'{"content":[{"type":"text","text":"null"}]}'),
        ("{}", b"{}"),
    ],
)
def test_a_handshake_client_gets_no_stateless_members(result: str, expected: bytes) -> None:
    answer = b'{"jsonrpc":"2.0","id":99,"result":' + result.encode() + b"}"
    assert to_client(answer, H, S) == (200, b'{"jsonrpc":"2.0","id":"c","result":' + expected + b"}")


@pytest.mark.parametrize(
    "kind", ['"input_required"', '"task"', '"Complete"', "null", "1", '{"complete":1}', '"' + "x" * 999 + '"']
)
def test_a_handshake_client_cannot_be_given_other_results(kind: str) -> None:
    with pytest.raises(BackendAnswerError) as caught:
        to_client(b'{"jsonrpc":"2.0","id":99,"result":{"resultType":' + kind.encode() + b"}}", H, S)
    assert len(caught.value.message) < 200


UNUSABLE = [
    pytest.param(b'{"jsonrpc":"2.0","id":99,"result":{"a":1,"a":2}}', id="a key twice"),
    pytest.param(
        b'{"jsonrpc":"2.0","id":99,"result":{"resultType":"complete","result\\u0054ype":1}}', id="escaped twice"
    ),
    pytest.param(b'{"jsonrpc":"2.0","id":99,"result":5}', id="a number"),
    pytest.param(b'{"jsonrpc":"2.0","id":99,"result":null}', id="null"),
    pytest.param(b'{"jsonrpc":"2.0","id":99,"result":[{}]}', id="an array"),
    pytest.param(error('{"code":-32000,"code":-32602,"message":"x"}'), id="two codes"),
    pytest.param(error('{"message":"x"}'), id="no code"),
    pytest.param(error('{"code":"-32602","message":"x"}'), id="a code in quotes"),
    pytest.param(error('{"code":true,"message":"x"}'), id="a boolean code"),
    pytest.param(error('{"code":1.5,"message":"x"}'), id="a fraction as code"),
    pytest.param(error('{"code":null,"message":"x"}'), id="a null code"),
    pytest.param(error("{}"), id="an empty error"),
]


@pytest.mark.parametrize("answer", UNUSABLE)
@pytest.mark.parametrize("eras_", [(H, S), (S, H)])
def test_an_unusable_answer_is_the_backends_fault(answer: bytes, eras_: tuple[Era, Era]) -> None:
    with pytest.raises(BackendAnswerError) as caught:
        to_client(answer, *eras_)
    assert (caught.value.source, caught.value.http_status) == ("backend", 502)


@pytest.mark.parametrize("answer", [UNUSABLE[0], *UNUSABLE[5:]])
def test_a_double_key_in_the_same_era(answer: bytes) -> None:
    """A result passes as it is; an error is read for its code, so it has to have one."""
    if b'"result"' in answer:
        assert to_client(answer, H, H)[0] == 200
    else:
        with pytest.raises(BackendAnswerError):
            to_client(answer, H, H)


ERRORS = [
    # client, backend, method, error, HTTP status, error for the client
    (H, H, "tools/call", '{"code":-32602,"message":"x"}', 200, '{"code":-32602,"message":"x"}'),
    (H, H, "tools/call", '{"code":-32042,"message":"x","data":1.0}', 200, '{"code":-32042,"message":"x","data":1.0}'),
    (S, S, "tools/call", '{"code":-32602 , "message":"x"}', 400, '{"code":-32602 , "message":"x"}'),
    (S, S, "tools/call", '{"code":-32601,"message":"x"}', 404, '{"code":-32601,"message":"x"}'),
    (S, S, "tools/call", '{"code":-32603,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, S, "tools/call", '{"code":7,"message":"x"}', 200, '{"code":7,"message":"x"}'),
    # What the client lacks it must hear; what we did wrong towards the backend is no fault of its own.
    (S, S, "tools/call", '{"code":-32021,"message":"x"}', 400, '{"code":-32021,"message":"x"}'),
    (S, S, "prompts/get", '{"code":-32020,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, S, "tools/call", '{"code":-32022,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, H, "tools/call", '{"code":-32021,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, H, "tools/call", '{"code":-32099,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, H, "tools/call", '{"code":-32042,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, S, "tools/call", '{"code":-32042,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (S, H, "tools/call", '{"code":-32019,"message":"x"}', 200, '{"code":-32019,"message":"x"}'),
    (S, H, "resources/read", '{"code":-32002,"message":""}', 400, '{"code":-32602,"message":"","data":{"uri":"a:b"}}'),
    (S, S, "resources/read", '{"code":-32002,"message":"x","data":5}', 400,
     '{"code":-32602,"message":"x","data":{"uri":"a:b","data":5}}'),
    (S, H, "resources/read", '{"code":-32002,"message":"x","data":{"a":1}}', 400,
     '{"code":-32602,"message":"x","data":{"uri":"a:b","a":1}}'),
    (S, H, "resources/read", '{"code":-32002,"message":"x","data":{"uri":"c:d"}}', 400,
     '{"code":-32602,"message":"x","data":{"uri":"c:d"}}'),
    (H, S, "tools/call", '{"code":-32021,"message":"x"}', 200, '{"code":-32603,"message":"x"}'),
    (H, S, "resources/read", '{"code":-32602,"message":"x","data":{"uri":"a:b"}}', 200,
     '{"code":-32002,"message":"x","data":{"uri":"a:b"}}'),
    (H, S, "resources/read", '{"code":-32602,"message":"x","data":{}}', 200, '{"code":-32602,"message":"x","data":{}}'),
    (H, S, "resources/read", '{"code":-32602,"message":"x"}', 200, '{"code":-32602,"message":"x"}'),
    (H, S, "tools/call", '{"code":-32602,"message":"x","data":{}}', 200, '{"code":-32602,"message":"x","data":{}}'),
    # Every error has a message.
    (H, H, "tools/call", '{"code":1}', 200, '{"code":1,"message":"the backend gave no reason"}'),
    (S, H, "tools/call", '{"code":1,"message":null}', 200, '{"code":1,"message":"the backend gave no reason"}'),
    (H, S, "tools/call", '{"code":1,"message":{"a":1}}', 200, '{"code":1,"message":"the backend gave no reason"}'),
]  # fmt: skip


@pytest.mark.parametrize(("client", "backend", "method", "body", "status", "expected"), ERRORS)
def test_errors(client: Era, backend: Era, method: str, body: str, status: int, expected: str) -> None:
    got_status, sent = to_client(error(body), client, backend, method, uri="a:b")
    assert got_status == status
    if scan(error(body)).data == scan(error(expected)).data:
        assert sent == b'{"jsonrpc":"2.0","id":"c","error":' + body.encode() + b"}"
    assert orjson.loads(sent) == {"jsonrpc": "2.0", "id": "c", "error": orjson.loads(expected)}


@pytest.mark.parametrize("code", [*range(-32099, -32019), -32002, -32042])
def test_no_handshake_backend_makes_us_send_reserved_codes(code: int) -> None:
    _, sent = to_client(error(f'{{"code":{code},"message":"x"}}'), S, H)
    assert orjson.loads(sent)["error"]["code"] in (-32603, -32602)


def test_own_params() -> None:
    fields = {"cursor": b'"c"', "x": b"1.0"}
    assert eras.own_params(H, "2025-11-25", CALLER, fields) == b'{"cursor":"c","x":1.0}'
    assert eras.own_params(H, "2025-11-25", CALLER, {}) == b"{}"
    assert orjson.loads(eras.own_params(S, "2026-07-28", CALLER, fields)) == {
        "cursor": "c",
        "x": 1.0,
        "_meta": STATELESS_META,
    }


@pytest.mark.parametrize(
    ("code", "status"), [(-32601, 404), (-32602, 400), (-32020, 400), (-32603, 200), (-31001, 200)]
)
def test_status_of_a_code(code: int, status: int) -> None:
    assert eras.http_status(code, S) == status
    assert eras.http_status(code, H) == 200


@pytest.mark.parametrize("params", [b"{}", b'{"_meta":{"io.modelcontextprotocol/logLevel":"debug"}}'])
def test_the_level_of_a_session_is_told_to_stateless_backends_alone(params: bytes) -> None:
    message = scan(request(params))
    for backend, told in ((S, "error"), (H, orjson.loads(params).get("_meta", {}).get(META_LOG_LEVEL))):
        sent = eras.to_backend(message, b"99", H, backend, "2026-07-28", CALLER, None, b'"error"')
        assert params_of(sent).get("_meta", {}).get(META_LOG_LEVEL) == told


@pytest.mark.parametrize(
    ("method", "result", "expected"),
    [
        ("tools/call", b'{"content":[],"x":1.50}', b'{"resultType":"complete","content":[],"x":1.50}'),
        ("tools/call", b'{"content":[],"resultType":"complete"}', None),
        ("tools/call", b'{"result\\u0054ype":"input_required"}', None),
        (
            "resources/read",
            b'{"contents":[],"ttlMs":7}',
            b'{"resultType":"complete","cacheScope":"private","contents":[],"ttlMs":7}',
        ),
    ],
)
def test_a_stateless_result_always_says_that_it_is_complete(method: str, result: bytes, expected: bytes | None) -> None:
    answer = scan(jsonrpc.result(b"1", result))
    status, body = eras.to_client(answer, b'"a"', method, None, S, S, b"{}")
    assert (status, body) == (200, jsonrpc.result(b'"a"', result if expected is None else expected))


@pytest.mark.parametrize("info", [{}, {"name": "a"}, {"version": "1"}, {"name": 1, "version": "1"}])
def test_a_backend_without_name_and_version_is_not_named(info: dict[str, Any]) -> None:
    assert eras.stamp_of(info) == b"{}"
    for meta, kept in (
        (b"", None),
        (b',"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"forged"},"a":1}', {"a": 1}),
    ):
        answer = scan(jsonrpc.result(b"1", b'{"content":[]' + meta + b"}"))
        _, body = eras.to_client(answer, b"1", "tools/call", None, S, H, eras.stamp_of(info))
        assert orjson.loads(body)["result"].get("_meta") == kept


def test_a_backend_is_named_as_it_names_itself() -> None:
    info = {"name": "a", "version": "1", "title": "A"}
    assert orjson.loads(eras.stamp_of(info)) == info


def test_a_stateless_result_that_is_no_object_is_none() -> None:
    with pytest.raises(BackendAnswerError):
        eras.to_client(scan(jsonrpc.result(b"1", b"[1]")), b"1", "tools/call", None, S, S, b"{}")
