"""Messages are built as the scanner reads them, and edits leave every byte outside them alone."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests._fast.json_texts import json_texts, objects, strings

from only1mcp._fast import ERROR, NOTIFICATION, REQUEST, RESULT, members, scan
from only1mcp.errors import ProtocolError
from only1mcp.wire import jsonrpc


def is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


values = json_texts.filter(is_json)


@given(
    data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 40), max_size=8), parts=st.lists(st.binary(max_size=5))
)
def test_splice_replaces_the_spans_and_nothing_else(data: bytes, cuts: list[int], parts: list[bytes]) -> None:
    places = sorted(min(cut, len(data)) for cut in cuts)
    edits = [(a, b, new) for (a, b), new in zip(zip(places[0::2], places[1::2], strict=False), parts, strict=False)]
    assume(len({(a, b) for a, b, _ in edits}) == len(edits))
    expected, shift = bytearray(data), 0
    for start, end, new in edits:
        expected[start + shift : end + shift] = new
        shift += len(new) - (end - start)
    assert jsonrpc.splice(data, reversed(edits)) == bytes(expected)


def test_splice_without_edits() -> None:
    assert jsonrpc.splice(b"abc", []) == b"abc"


@pytest.mark.parametrize("id", [b"1", b'"a"', b'"\\u0061"', b"-7"])
@pytest.mark.parametrize("method", ["tools/list", 'q"\\\n', "é\U0001f600"])
def test_builds_what_the_scanner_reads(id: bytes, method: str) -> None:
    asked = scan(jsonrpc.request(id, method, b'{"a":1}'))
    assert (asked.kind, asked.id, asked.method) == (REQUEST, id, method)
    assert asked.params is not None
    assert asked.data[slice(*asked.params)] == b'{"a":1}'
    assert scan(jsonrpc.request(id, method)).params is None
    told = scan(jsonrpc.notification(method, b"{}"))
    assert (told.kind, told.method) == (NOTIFICATION, method)
    assert scan(jsonrpc.notification(method)).params is None
    answered = scan(jsonrpc.result(id, b"[1]"))
    assert (answered.kind, answered.id) == (RESULT, id)


@given(before=values, id=st.sampled_from([b"1", b'"\\u0041"']), new=st.sampled_from([b"22", b'"z"']))
def test_replaces_the_id_alone(before: bytes, id: bytes, new: bytes) -> None:
    text = b' {"result" : ' + before + b' , "id" :\t' + id + b' ,"jsonrpc":"2.0"}\n'
    assert jsonrpc.replace_id(scan(text), new) == text.replace(b'"id" :\t' + id, b'"id" :\t' + new)


def test_replaces_the_id_of_an_error() -> None:
    envelope = scan(b'{"jsonrpc":"2.0","error":{"code":1,"message":"id"},"id":5}')
    assert envelope.kind == ERROR
    assert jsonrpc.replace_id(envelope, b'"a"') == b'{"jsonrpc":"2.0","error":{"code":1,"message":"id"},"id":"a"}'


@given(
    text=objects(values),
    put=st.dictionaries(st.sampled_from(["id", "name", "x", "é", 'q"']), values, max_size=3),
    drop=st.sets(st.sampled_from(["id", "uri", "_meta", "params"])),
)
def test_edit_object_keeps_the_bytes_of_other_values(text: bytes, put: dict[str, bytes], drop: set[str]) -> None:
    try:
        before = members(text, 0, len(text))
    except ProtocolError:
        with pytest.raises(ProtocolError):
            jsonrpc.edit_object(text, (0, len(text)), put=put, drop=drop)
        return
    after_text = jsonrpc.edit_object(text, (0, len(text)), put=put, drop=drop)
    after = members(after_text, 0, len(after_text))
    expected = {key: text[slice(*span)] for key, span in before.items() if key not in drop} | put
    assert {key: after_text[slice(*span)] for key, span in after.items()} == expected
    # The members put come first, the kept ones stay in their order.
    assert list(after) == [*put, *(key for key in before if key not in drop and key not in put)]


def test_edit_object_edits_the_object_at_the_span() -> None:
    data = b'[{"a":1},{"a": 1.0 ,"b":{"a":2}},3]'
    span = (9, 32)
    assert jsonrpc.edit_object(data, span, put={}, drop=["x"]) == b'{"a":1.0,"b":{"a":2}}'
    assert jsonrpc.edit_object(data, span, put={"a": b"5"}) == b'{"a":5,"b":{"a":2}}'


def test_edit_object_knows_an_escaped_key() -> None:
    data = b'{"\\u0061":1,"b":2}'
    assert jsonrpc.edit_object(data, (0, len(data)), put={"a": b"9"}) == b'{"a":9,"b":2}'
    assert jsonrpc.edit_object(data, (0, len(data)), put={}, drop=["a"]) == b'{"b":2}'


@given(strings)
def test_decodes_strings(token: bytes) -> None:
    data = b"[" + token + b"]"
    assert jsonrpc.decode_string(data, (1, len(data) - 1)) == orjson.loads(token)
    assert jsonrpc.decode(data, (0, len(data))) == [orjson.loads(token)]


@pytest.mark.parametrize("token", [b"1", b"null", b"true", b"[]", b'{"a":"b"}'])
def test_decode_string_refuses_other_types(token: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        jsonrpc.decode_string(token, (0, len(token)))
    assert caught.value.code == -32602


@given(st.lists(values, max_size=5), st.sampled_from([b"", b" ", b"\r\n\t"]))
def test_a_batch_falls_into_its_elements(elements: list[bytes], space: bytes) -> None:
    data = space + b"[" + (space + b"," + space).join(elements) + b"]" + space
    assert jsonrpc.begins_batch(data)
    try:
        found = jsonrpc.split_batch(data, 1024)
    except ProtocolError:
        assume(False)  # one of them is no value that a message may hold
    assert found == [element.strip(b" \t\r\n") for element in elements]


@pytest.mark.parametrize(
    "data", [b"", b"[", b"[1", b"[1]]", b'[1],"id":2', b'[1],"x":2', b"[1]}", b"[1,]", b"[" * 70 + b"]" * 70]
)
def test_what_is_no_batch_does_not(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        jsonrpc.split_batch(data)
