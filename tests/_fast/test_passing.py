"""The passing scanner: accepts what the whole scanner accepts as the result of a call, however the bytes are cut."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.json_texts import NUMBERS, STRINGS, STRUCTURES, json_texts, messages, mutated
from tests.bytes_feed import cut_at, places, segmentations

from only1mcp._fast import RESULT, passing_reference, reference
from only1mcp.errors import ProtocolError

ID, OTHER_ID = b"1", b'"the client\'s"'


def passing(*names: str) -> list[Any]:
    compiled = pytest.importorskip("only1mcp._fast.passing", reason="the compiled parts are not built: make build")
    return [{"reference": passing_reference, "compiled": compiled}[name].PassingScanner for name in names]


@pytest.fixture(params=["reference", "compiled"], scope="session")
def scanner(request: pytest.FixtureRequest) -> Any:
    return passing(request.param)[0]


@pytest.fixture(scope="session")
def scanners() -> list[Any]:
    return passing("reference", "compiled")


def expected(data: bytes, id: bytes = ID, max_depth: int = 64) -> bytes | ProtocolError | None:
    """What the whole scanner makes of it: the message with its id replaced, its refusal, or None for no such result."""
    try:
        envelope = reference.scan(data, max_depth)
    except ProtocolError as error:
        return error
    if envelope.kind != RESULT or envelope.id != id or envelope.id_span is None:
        return None
    start, end = envelope.id_span
    return data[:start] + OTHER_ID + data[end:]


def passed(
    scanner: Any, pieces: list[bytes], id: bytes = ID, max_depth: int = 64
) -> tuple[bytes, ProtocolError | None]:
    """What passes of the pieces, and the error that stops them."""
    subject = scanner(id, OTHER_ID, max_depth)
    out = b""
    try:
        for piece in pieces:
            out += b"".join(subject.receive_data(piece))
        complete = subject.complete
        subject.receive_eof()
    except ProtocolError as error:
        return out, error
    assert complete
    return out, None


def check(scanner: Any, data: bytes, pieces: list[bytes], id: bytes = ID, max_depth: int = 64) -> ProtocolError | None:
    whole = expected(data, id, max_depth)
    out, error = passed(scanner, pieces, id, max_depth)
    if isinstance(whole, bytes):
        assert error is None, (data, error)
        assert out == whole
    else:
        assert error is not None, data
    return error


def result(value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":' + value + b"}"


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"a\\n\xc3\xa9"}]}}',
        b'{"result":{},"jsonrpc":"2.0","id":1}',
        b' {\n"id" : 1 , "result" : [ 1, 2.50e1 ,{"id":2}] ,"jsonrpc" : "2.0" } \r\n',
        b'{"jsonrpc":"2\\u002e0","i\\u0064":1,"result":null,"x":1,"x":[],"params":{"Name":1,"name":2}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"jsonrpc":1,"id":[],"error":{},"method":2}}',
        b'{"jsonrpc":"2.0","id":1,"result":-0,"' + b"x" * 5000 + b'":"' + b"y" * 5000 + b'"}',
        result(b'"' + b"\\\\" * 999 + b'"'),
    ],
)
def test_a_result_passes_with_another_id(scanner: Any, data: bytes) -> None:
    for pieces in segmentations(data):
        assert check(scanner, data, pieces) is None


@pytest.mark.parametrize("id", [b'"a string"', b'"\\u0031"', b"-7", b"9" * 256])
def test_the_id_is_compared_as_it_is_written(scanner: Any, id: bytes) -> None:
    for written in (id, b'"a strin"', b'"a string "', b'"1"', b"-70", b"7", b"9" * 257, b"null", b"{}", b"[1]", b"1.0"):
        data = b'{"jsonrpc":"2.0","id":' + written + b',"result":{}}'
        for pieces in segmentations(data):
            check(scanner, data, pieces, id)


def test_pieces_are_not_copied(scanner: Any) -> None:
    first, second = b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * 5000, b"y" * 5000
    subject = scanner(ID, OTHER_ID)
    assert b"".join(subject.receive_data(first)) == first.replace(b":1,", b":" + OTHER_ID + b",")
    out = subject.receive_data(second)
    assert out == [second]
    assert [type(part) for part in out] == [bytes]


def test_compiled_views_are_of_the_piece() -> None:
    (scanner,) = passing("compiled")
    piece = b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * 5000
    *_, rest = scanner(ID, OTHER_ID).receive_data(piece)
    assert isinstance(rest, memoryview)
    assert rest.obj is piece


def test_it_is_known_when_the_result_has_begun(scanner: Any) -> None:
    subject = scanner(ID, OTHER_ID)
    seen = []
    for octet in b'{"jsonrpc":"2.0","result":1':
        subject.receive_data(bytes([octet]))
        seen.append(subject.has_result)
    assert seen.index(True) == len(b'{"jsonrpc":"2.0","result"') - 1
    refusal = scanner(ID, OTHER_ID)
    refusal.receive_data(b'{"jsonrpc":"2.0","id":1,"error":{"result":1')
    assert not refusal.has_result


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{},"id":1}', "'id' occurs twice or in another case"),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"Id":1}', "'id' occurs twice or in another case"),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"re\\u017fult":1}', "'result' occurs twice or in another case"),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', "expected exactly one of method, result and error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","result":{}}', "expected exactly one of method, result and error"),
        (b'{"jsonrpc":"2.0","id":1}', "expected exactly one of method, result and error"),
        (b'{"jsonrpc":"2.1","id":1,"result":{}}', "jsonrpc must be '2.0'"),
        (b'{"jsonrpc":2.0,"id":1,"result":{}}', "jsonrpc must be '2.0'"),
        (b'{"jsonrpc":"2.0' + b" " * 99 + b'","id":1,"result":{}}', "jsonrpc must be '2.0'"),
        (b'{"id":1,"result":{}}', "jsonrpc must be '2.0'"),
        (b'{"jsonrpc":"2.0","result":{}}', "a result must have an id"),
        (result(b'"\xff"'), "the message is not UTF-8"),
        (result(b'"\\x"'), "the message is not valid JSON"),
        (result(b"1e999"), "a number in the message is too large for a double"),
        (result(b'"\\ud800x"'), "a string in the message has half a surrogate pair"),
        (result(b'"\\ud800\\u12x"'), "a string in the message has half a surrogate pair"),
        (result(b'"\\udc00"'), "a string in the message has half a surrogate pair"),
        (result(b"[" * 64 + b"]" * 64), "the message is nested deeper than 64 levels"),
        (b"[]", "batches are not supported: send one message at a time"),
        (b'"text"', "expected a JSON object"),
        (b"<html>", "the message is not valid JSON"),
        (b"", "the message is not valid JSON"),
        (result(b"{}") + b"{}", "the message is not valid JSON"),
        (result(b"{}")[:-1], "the message is not valid JSON"),
    ],
)
def test_a_single_fault_is_named_as_by_the_whole_scanner(scanner: Any, data: bytes, reason: str) -> None:
    whole = expected(data)
    assert isinstance(whole, ProtocolError)
    assert whole.message == reason
    for pieces in segmentations(data):
        error = check(scanner, data, pieces)
        assert error is not None
        assert (error.message, error.code) == (whole.message, whole.code)


def test_other_messages_are_not_results_of_the_call(scanner: Any) -> None:
    for data, reason in [
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}', "expected a result"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m"}', "expected a result"),
        (b'{"jsonrpc":"2.0","id":2,"result":{}}', "the id is not the one of the request"),
        (b'{"jsonrpc":"2.0","id":"1","result":{}}', "the id is not the one of the request"),
    ]:
        for pieces in segmentations(data):
            error = check(scanner, data, pieces)
            assert error is not None
            assert error.message == reason


def test_what_has_passed_before_a_fault_is_the_beginning_of_the_message(scanner: Any) -> None:
    data = result(b'{"a":["text",{}]}')
    faulty = data[:-3] + b"!}}"
    for pieces in segmentations(faulty):
        out, error = passed(scanner, pieces)
        assert error is not None
        assert data.replace(b":1,", b":" + OTHER_ID + b",").startswith(out)


@pytest.mark.parametrize("depth", [-1, 0, 1, 2, 3, 1024, 10_000])
def test_depth(scanner: Any, depth: int) -> None:
    for levels in (0, 1, 2, 3, 1022, 1023, 1024):
        for opener, closer in ((b"[", b"]"), (b'{"a":', b"}")):
            data = result(opener * levels + b"0" + closer * levels)
            check(scanner, data, [data], max_depth=depth)


@pytest.mark.parametrize("value", [*NUMBERS, *STRINGS, *STRUCTURES], ids=repr)
def test_corners_of_json(scanners: list[Any], value: bytes) -> None:
    for data in (result(value), value, result(b"[[" + value + b"]]"), result(b'{"a":{"b":' + value + b"}}")):
        cuts = segmentations(data) if len(data) < 2000 else [[data], cut_at(data, [40, 41, 500, 999, 60_000])]
        for scanner in scanners:
            for pieces in cuts:
                check(scanner, data, pieces)


@given(data=messages(), places=places)
def test_messages(scanners: list[Any], data: bytes, places: list[int]) -> None:
    for scanner in scanners:
        check(scanner, data, cut_at(data, places))


@given(data=mutated(messages()), places=places)
def test_mutated_messages(scanners: list[Any], data: bytes, places: list[int]) -> None:
    for scanner in scanners:
        check(scanner, data, cut_at(data, places))


@given(value=json_texts | mutated(json_texts), places=places, max_depth=st.integers(1, 8))
def test_results(scanners: list[Any], value: bytes, places: list[int], max_depth: int) -> None:
    data = result(value)
    for scanner in scanners:
        check(scanner, data, cut_at(data, places), max_depth=max_depth)


@given(parts=st.lists(st.text() | st.sampled_from(["x" * 63, "x" * 200, "é" * 9, "\n", '"', "\\"])), places=places)
def test_long_strings(scanners: list[Any], parts: list[str], places: list[int]) -> None:
    data = result(orjson.dumps("".join(parts)))
    for scanner in scanners:
        assert check(scanner, data, cut_at(data, places)) is None


@given(data=st.binary(max_size=200), places=places)
def test_octets_inside_a_string(scanners: list[Any], data: bytes, places: list[int]) -> None:
    data = result(b'"' + data + b'"')
    for scanner in scanners:
        check(scanner, data, cut_at(data, places))
