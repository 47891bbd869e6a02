"""Plain calls: the compiled reader takes what the readable one takes, and writes the same octets."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp._fast import calls_reference, scan
from only1mcp.errors import ProtocolError

calls = pytest.importorskip("only1mcp._fast.calls", reason="the compiled parts are not built")

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"
PLAIN = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":[1]},"_meta":{"x":{}}}}'
)

# Messages that are plain calls, or nearly.
IDS = [b"0", b"7", b"-7", b'"a"', b'"\\u0061"', b'""', b"1.5", b"null", b"[]", b"9" * 300, b'"' + b"a" * 300 + b'"']
METHODS = [b'"tools/call"', b'"tools\\/call"', b'"tools/cal"', b'"tools/Call"', b"7"]
NAMES = [b'"echo"', b'""', b'"a b"', b'"\\u0061"', '"é"'.encode(), b'"a\x7f"', b"7", b"null"]
METAS = [
    b"{}",
    b'{"a":1}',
    b'{"progressToken":1}',
    b'{"a":"progressToken"}',
    b'{"p":"\\u0070"}',
    b"[]",
    b"{",
    b'{"pp":2}',
]
URIS = [b'"a"', b'""', b"7", b"null", b"{}"]
VERSIONS = [b'"2.0"', b'"2\\u002e0"', b'"1.0"', b"2.0"]


@pytest.fixture(params=[calls_reference, calls], ids=["reference", "compiled"])
def made(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return JSON-RPC of which everything is in order, or little is not."""
    params = [b'"name":' + draw(st.sampled_from(NAMES)), b'"arguments":' + orjson.dumps(draw(VALUES))]
    if draw(st.booleans()):
        params.append(b'"_meta":' + draw(st.sampled_from(METAS)))
    if draw(st.booleans()):
        params.append(b'"uri":' + draw(st.sampled_from(URIS)))
    members = [
        b'"jsonrpc":' + draw(st.sampled_from(VERSIONS[: draw(st.integers(1, len(VERSIONS)))])),
        b'"id":' + draw(st.sampled_from(IDS)),
        b'"method":' + draw(st.sampled_from(METHODS[: draw(st.integers(1, len(METHODS)))])),
        b'"params":{' + b",".join(draw(st.permutations(params))) + b"}",
    ]
    members = draw(st.permutations(members))
    extra = draw(st.sampled_from([b"", b"", b"", b'"x":1', b'"ID":1', b'"id":7', b'"result":{}', b'"method":"m"']))
    space = draw(st.sampled_from([b"", b" ", b"\n\t"]))
    return space + b"{" + (b"," + space).join([*members, *([extra] if extra else [])]) + space + b"}" + space


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=6,
)


def seen(call: Any) -> Any:
    """Return all that a call tells of itself."""
    if call is None:
        return None
    meta = call.meta_span()
    return call.start, call.id(), call.name(), None if meta is None else call.data[slice(*meta)]


@given(messages(), st.binary(max_size=3))
def test_both_take_the_same_messages(message: bytes, before: bytes) -> None:
    data = before + message
    one = calls_reference.maybe_call(data, len(before), 64)
    other = calls.maybe_call(data, len(before), 64)
    assert seen(one) == seen(other)
    if one is not None:
        for renamed in (None, b'"b0 \\u0065cho"', b'""'):
            for id in (0, 9, 10, 2**53):
                assert one.request(HEAD, id, renamed) == other.request(HEAD, id, renamed)


@given(messages())
def test_what_is_taken_is_a_valid_call_and_changes_nothing_else(message: bytes) -> None:
    call = calls.maybe_call(message, 0, 64)
    if call is None:
        return
    envelope = scan(message, 64)
    assert envelope.method == "tools/call"
    assert envelope.id == call.id()
    head, _, body = call.request(HEAD, 41, b'"there"').partition(b"\r\n\r\n")
    assert head == HEAD + b"content-length: %d" % len(body)
    sent, told = orjson.loads(body), orjson.loads(message)
    assert (sent.pop("id"), sent["params"].pop("name")) == (41, "there")
    told.pop("id")
    told["params"].pop("name")
    assert sent == told


@given(st.binary(max_size=40) | messages().map(lambda m: m[:-2]) | st.text(max_size=20).map(str.encode))
def test_rubbish_is_declined(data: bytes) -> None:
    assert seen(calls_reference.maybe_call(data, 0, 64)) == seen(calls.maybe_call(data, 0, 64))


def test_at_every_cut(made: ModuleType) -> None:
    for end in range(len(PLAIN)):
        assert made.maybe_call(PLAIN[:end], 0, 64) is None
    assert made.maybe_call(PLAIN, 0, 64) is not None
    assert made.maybe_call(PLAIN + b" ", 0, 64) is not None
    assert made.maybe_call(PLAIN + b"x", 0, 64) is None


def test_depth(made: ModuleType) -> None:
    deep = PLAIN.replace(b"[1]", b"[" * 61 + b"]" * 61)
    assert made.maybe_call(deep, 0, 64) is not None
    assert made.maybe_call(deep, 0, 63) is None


@pytest.mark.parametrize("start", [-1, len(PLAIN) + 1])
def test_position_outside_the_data(made: ModuleType, start: int) -> None:
    with pytest.raises(IndexError):
        made.maybe_call(PLAIN, start, 64)


def test_what_a_call_says(made: ModuleType) -> None:
    call = made.maybe_call(b"head" + PLAIN, 4, 64)
    assert (call.id(), call.name()) == (b"7", b"echo")
    assert call.names(b"echo")
    assert not any(call.names(name) for name in (b"ech", b"echo2", b"", b"Echo"))
    assert call.has_meta(b'{"x":{}}')
    assert not any(call.has_meta(meta) for meta in (b"", b"{}", b'{"x":{}} '))
    without = made.maybe_call(PLAIN.replace(b',"_meta":{"x":{}}', b""), 0, 64)
    assert without.meta_span() is None
    assert not without.has_meta(b"")


RESULT = b'{"jsonrpc":"2.0","id":41,"result":{"content":[],"n":1.0}}'


@pytest.mark.parametrize(
    "answer",
    [
        RESULT,
        b" " + RESULT.replace(b",", b" , ") + b"\n",
        b'{"result":{},"id":41,"jsonrpc":"2.0","more":[1]}',
        b'{"result":7,"id":41,"jsonrpc":"2.0","params":{"name":1,"name":2}}',
    ],
)
def test_results_get_the_id_of_the_client(made: ModuleType, answer: bytes) -> None:
    call = made.maybe_call(PLAIN.replace(b'"id":7', b'"id":"the client\'s"'), 0, 64)
    message = call.answer(b"HTTP/1.1 200 OK\r\n", b"HEAD" + answer, 4, 41, False)
    head, _, body = message.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: %d" % len(body)
    assert body == answer.replace(b"41", b'"the client\'s"')


@pytest.mark.parametrize(
    "answer",
    [
        RESULT.replace(b"41", b"42"),
        RESULT.replace(b"41", b"4"),
        RESULT.replace(b"41", b'"41"'),
        RESULT.replace(b"41", b"41.0"),
        RESULT.replace(b"41", b"null"),
        RESULT.replace(b'"id"', b'"ID"'),
        RESULT.replace(b'"result"', b'"error"'),
        RESULT.replace(b'"result"', b'"Result"'),
        RESULT[:-1] + b',"result":{}}',
        RESULT[:-1] + b',"error":{}}',
        RESULT[:-1] + b',"method":"m"}',
        RESULT.replace(b"2.0", b"2.1"),
        RESULT.replace(b'"2.0"', b'"2\\u002e0"'),
        RESULT[:-1],
        RESULT + b"x",
        b"[" + RESULT + b"]",
        b"",
        b"\xff",
        RESULT.replace(b"[]", b'"\xff"'),
        RESULT.replace(b"[]", b"[" * 70 + b"]" * 70),
    ],
)
def test_anything_else_is_no_plain_answer(made: ModuleType, answer: bytes) -> None:
    assert made.maybe_call(PLAIN, 0, 64).answer(b"", answer, 0, 41, False) is None


@pytest.mark.parametrize(
    ("result", "is_typed"),
    [
        (b'{"resultType":"complete"}', True),
        (b'{"a":1,"resultType":1}', True),
        (b"{}", False),
        (b'{"a":{"resultType":1}}', False),
        (b'{"result\\u0054ype":1}', False),
        (b"[]", False),
    ],
)
def test_results_that_must_say_that_they_are_complete(made: ModuleType, result: bytes, is_typed: bool) -> None:
    answer = b'{"jsonrpc":"2.0","id":41,"result":' + result + b"}"
    call = made.maybe_call(PLAIN, 0, 64)
    assert call.answer(b"", answer, 0, 41, False) is not None
    assert (call.answer(b"", answer, 0, 41, True) is not None) == is_typed


@given(st.binary(max_size=30) | VALUES.map(lambda v: b'{"jsonrpc":"2.0","id":41,"result":' + orjson.dumps(v) + b"}"))
def test_both_write_the_same_answers(answer: bytes) -> None:
    one, other = calls_reference.maybe_call(PLAIN, 0, 64), calls.maybe_call(PLAIN, 0, 64)
    assert one is not None
    message = other.answer(b"HTTP/1.1 200 OK\r\n", answer, 0, 41, False)
    assert one.answer(b"HTTP/1.1 200 OK\r\n", answer, 0, 41, False) == message
    try:
        envelope = scan(answer)
    except ProtocolError:
        assert message is None
    else:
        assert (message is not None) == (envelope.id == b"41" and envelope.result is not None)
