"""The message scanner: what it finds, what it refuses, and that it reads JSON exactly as orjson does."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.json_texts import NUMBERS, STRINGS, STRUCTURES, json_texts, messages, mutated, objects

from only1mcp import _fast
from only1mcp._fast.json_walk import MAX_MEMBERS
from only1mcp.errors import ProtocolError

ATTRIBUTES = (
    "kind", "id", "id_span", "method", "method_span", "params", "name", "uri", "meta", "result", "error", "typed"
)  # fmt: skip


def outcome(scan: Any, data: bytes, max_depth: int = 64) -> tuple[Any, ...]:
    """Everything that scanning `data` tells, an error included; any exception but `ProtocolError` escapes."""
    try:
        envelope = scan(data, max_depth)
    except ProtocolError as error:
        return ("refused", error.code, error.id, error.message, error.http_status)
    assert envelope.data is data
    return ("accepted", *(getattr(envelope, attribute) for attribute in ATTRIBUTES))


def code(scan: Any, data: bytes, max_depth: int = 64) -> int | None:
    """The code of the refusal, None when `data` is accepted."""
    result = outcome(scan, data, max_depth)
    return result[1] if result[0] == "refused" else None


def is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def text(data: bytes, span: tuple[int, int] | None) -> bytes | None:
    return None if span is None else data[slice(*span)]


# --- what it finds ---------------------------------------------------------------------------------------------------


def test_request(fast: Any) -> None:
    data = (
        b' { "jsonrpc" : "2.0", "method":"tools/call" ,"params": {"_meta":{"progressToken":1}, "name":"a\\u0062",'
        b'"arguments":{"name":1,"uri":[2]},"uri":"u"}\n,"id":"x-\\"1" } '
    )
    envelope = fast.scan(data)
    assert (envelope.kind, envelope.id, envelope.method) == (_fast.REQUEST, b'"x-\\"1"', "tools/call")
    assert text(data, envelope.id_span) == envelope.id
    assert text(data, envelope.method_span) == b'"tools/call"'
    assert text(data, envelope.params) == data[data.index(b'{"_meta"') : data.index(b"\n")]
    assert text(data, envelope.name) == b'"a\\u0062"'
    assert text(data, envelope.uri) == b'"u"'
    assert text(data, envelope.meta) == b'{"progressToken":1}'
    assert (envelope.result, envelope.error) == (None, None)


def test_notification(fast: Any) -> None:
    envelope = fast.scan(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert (envelope.kind, envelope.id, envelope.id_span, envelope.params) == (_fast.NOTIFICATION, None, None, None)
    assert envelope.method == "notifications/initialized"


@pytest.mark.parametrize("value", [b"{}", b"null", b'[1,{"a":"]}"}]', b'"s"', b"-0.50E+2", b"true"])
def test_result(fast: Any, value: bytes) -> None:
    data = b'{"id":-7,"result":' + value + b',"jsonrpc":"2.0"}'
    envelope = fast.scan(data)
    assert (envelope.kind, envelope.id, envelope.method, envelope.params) == (_fast.RESULT, b"-7", None, None)
    assert text(data, envelope.result) == value


@pytest.mark.parametrize(("id", "expected"), [(b"", None), (b'"id":null,', None), (b'"id":3,', b"3")])
def test_error(fast: Any, id: bytes, expected: bytes | None) -> None:
    data = b"{" + id + b'"jsonrpc":"2.0","error":{"code":1}}'
    envelope = fast.scan(data)
    assert (envelope.kind, envelope.id) == (_fast.ERROR, expected)
    assert text(data, envelope.id_span) == expected
    assert text(data, envelope.error) == b'{"code":1}'


def test_a_response_may_have_members_that_nobody_knows(fast: Any) -> None:
    data = b'{"jsonrpc":"2.0","id":1,"result":{},"x":1,"x":2,"params":{"name":1,"Name":2}}'
    envelope = fast.scan(data)
    assert (envelope.kind, envelope.params, envelope.name) == (_fast.RESULT, None, None)


@pytest.mark.parametrize(
    ("result", "typed"),
    [
        (b"{}", False),
        (b'{"resultType":"complete"}', True),
        (b'{ "content":[ {"x":1} ] ,\n "resultType" : 7 , "resultType":8}', True),
        (b'{"content":{"resultType":"complete"}}', False),
        (b'{"content":"\\"resultType\\":1"}', False),
        (b'{"resulttype":"complete","resultTypes":1,"\\"resultType":1}', False),
        (b'{"result\\u0054ype":"complete"}', False),
        (b'[{"resultType":1}]', False),
        (b'"resultType"', False),
        (b"null", False),
    ],
)
def test_whether_a_result_says_what_it_is(fast: Any, result: bytes, typed: bool) -> None:
    envelope = fast.scan(b'{"jsonrpc":"2.0","result":' + result + b',"id":1}')
    assert envelope.typed is typed
    assert text(envelope.data, envelope.result) == result


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_results_are_as_deep_as_other_values(fast: Any, depth: int) -> None:
    result = b'{"a":' * depth + b"1" + b"}" * depth
    data = b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}"
    assert code(fast.scan, data, depth + 1) is None
    assert code(fast.scan, data, depth) == -32600


def test_members_of_params_are_looked_for_nowhere_else(fast: Any) -> None:
    data = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":{"name":"x","NAME":1},"method":1,"id":2,"id":3}}'
    envelope = fast.scan(data)
    assert (envelope.name, envelope.uri, envelope.meta) == (None, None, None)


def test_escaped_spelling_of_a_key_is_that_key(fast: Any) -> None:
    data = b'{"\\u006asonrpc":"2\\u002e0","i\\u0064":1,"method":"\\u00e9","params":{"n\\u0061me":"x"}}'
    envelope = fast.scan(data)
    assert (envelope.id, envelope.method, text(data, envelope.name)) == (b"1", "é", b'"x"')


def test_envelope_is_read_only_and_keeps_the_data_out_of_its_repr(fast: Any) -> None:
    envelope = fast.scan(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"secret"}}')
    assert isinstance(envelope, fast.Envelope)
    with pytest.raises(AttributeError):
        envelope.id = b"2"
    with pytest.raises(AttributeError):
        envelope.params = None
    assert "secret" not in repr(envelope)


# --- what it refuses -------------------------------------------------------------------------------------------------

SHAPES = [
    (b"[]", -32600, None),
    (b'[{"jsonrpc":"2.0","id":1,"method":"m"}]', -32600, None),
    (b'"a"', -32600, None),
    (b"7", -32600, None),
    (b"null", -32600, None),
    (b"{}", -32600, None),
    (b'{"id":1,"method":"m"}', -32600, b"1"),
    (b'{"jsonrpc":"1.0","id":1,"method":"m"}', -32600, b"1"),
    (b'{"jsonrpc":2.0,"id":1,"method":"m"}', -32600, b"1"),
    (b'{"jsonrpc":"2.0 ","id":1,"method":"m"}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":null,"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1.0,"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1e3,"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":true,"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":[1],"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":{},"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":"' + b"a" * 255 + b'","method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":' + b"1" * 257 + b',"method":"m"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":null,"method":"m","error":{}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","result":{}}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","error":{}}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":null}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","x":1}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","":1}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","method":"m","_meta":{}}', -32600, None),
    (b'{"jsonrpc":"2.0","result":{}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":null,"result":{}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1,"error":"boom"}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"error":null}', -32600, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":[]}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":null}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":"{}"}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":1}}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":null}}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"uri":["u"]}}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":null}}', -32602, b"1"),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":"{}"}}', -32602, b"1"),
]


@pytest.mark.parametrize(("data", "expected", "id"), SHAPES)
def test_shape(fast: Any, data: bytes, expected: int, id: bytes | None) -> None:
    result = outcome(fast.scan, data)
    assert result[:3] == ("refused", expected, id)


def test_the_longest_ids_that_are_allowed(fast: Any) -> None:
    for id in (b'"' + b"a" * 254 + b'"', b"1" * 256, b"-0", b'""', b"0"):
        assert fast.scan(b'{"jsonrpc":"2.0","id":' + id + b',"method":"m"}').id == id


TOP = {"jsonrpc": b'"2.0"', "id": b"1", "method": b'"m"', "params": b"{}"}
RESPONSE = {"jsonrpc": b'"2.0"', "id": b"1", "result": b"{}"}
ERROR_RESPONSE = {"jsonrpc": b'"2.0"', "id": b"1", "error": b"{}"}
INNER = {"name": b'"n"', "uri": b'"u"', "_meta": b"{}"}


def spellings(name: str) -> list[bytes]:
    """Keys that some reader takes for `name`: itself, other case, look-alikes under case folding, as is and escaped."""
    texts = [name, name.upper(), name[:-1] + name[-1].upper(), name[0].upper() + name[1:]]
    texts += [name.replace("s", "\u017f")] if "s" in name else []
    keys = [orjson.dumps(key) for key in texts]
    keys += [b'"' + b"".join(b"\\u%04x" % ord(c) for c in key) + b'"' for key in texts]
    keys += [b'"' + b"".join(b"\\u%04X" % ord(c) for c in key) + b'"' for key in texts]
    return keys


def with_double(message: dict[str, bytes], key: bytes, value: bytes, first: bool) -> bytes:
    parts = [orjson.dumps(name) + b":" + text for name, text in message.items()]
    parts.insert(0 if first else len(parts), key + b":" + value)
    return b"{" + b",".join(parts) + b"}"


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("message", [TOP, RESPONSE, ERROR_RESPONSE])
def test_doubles_at_the_top_level(fast: Any, message: dict[str, bytes], first: bool) -> None:
    for name, own in message.items():
        for key in spellings(name):
            for value in (own, b"0", b"null", b"[[]]", b'{"a":{}}'):
                result = outcome(fast.scan, with_double(message, key, value, first))
                assert result[:3] == ("refused", -32600, None if name == "id" else b"1"), (key, value)


@pytest.mark.parametrize("first", [False, True])
def test_doubles_in_params(fast: Any, first: bool) -> None:
    for name, value in INNER.items():
        for key in spellings(name):
            params = with_double(INNER, key, value, first)
            data = b'{"jsonrpc":"2.0","params":' + params + b',"id":1,"method":"m"}'
            assert outcome(fast.scan, data)[:3] == ("refused", -32600, b"1"), key


@pytest.mark.parametrize("name", [*TOP, "result", "error"])
def test_other_case_alone_is_refused_too(fast: Any, name: str) -> None:
    for key in spellings(name)[1:4]:
        message = {"jsonrpc": b'"2.0"', "id": b"1", "method": b'"m"'}
        message.pop(name, None)
        assert code(fast.scan, with_double(message, key, b'"2.0"', False)) == -32600


def test_no_other_character_of_unicode_folds_into_a_name(fast: Any) -> None:
    names = [*TOP, "result", "error", *INNER]
    folding = {
        chr(point) for point in range(0x80, sys.maxunicode + 1) if any(chr(point).casefold() in name for name in names)
    }
    assert folding == {"\u017f"}  # and U+212A, the Kelvin sign, should a name ever have a k
    for key in ("ıd", "İd", "i\u0307d", "ｉｄ", "id\u200b", "\ufeffid", "id ", "id\x00", "ρarams", "nаme", "ìd"):
        assert unicodedata.name(key[0], "") is not None
        data = b'{"jsonrpc":"2.0","id":1,"result":{},' + orjson.dumps(key) + b":2}"
        assert fast.scan(data).id == b"1", key


def test_depth(fast: Any) -> None:
    def nested(depth: int, opener: bytes = b"[", closer: bytes = b"]") -> bytes:
        return b'{"jsonrpc":"2.0","id":1,"result":' + opener * depth + closer * depth + b"}"

    assert code(fast.scan, nested(63)) is None
    assert outcome(fast.scan, nested(64))[:3] == ("refused", -32600, b"1")
    assert code(fast.scan, nested(4), 5) is None
    assert code(fast.scan, nested(4), 4) == -32600
    assert code(fast.scan, b'{"jsonrpc":"2.0","method":"m"}', 1) is None
    assert code(fast.scan, b'{"jsonrpc":"2.0","method":"m"}', 0) == -32600
    assert code(fast.scan, b'{"jsonrpc":"2.0","method":"m","params":{"_meta":{}}}', 2) == -32600
    assert code(fast.scan, b'{"jsonrpc":"2.0","method":"m","params":{"_meta":{}}}', 3) is None
    # Beyond orjson's own limit no wish for more depth is heard.
    assert code(fast.scan, nested(1023), 10**6) is None
    assert code(fast.scan, nested(1024), 10**6) == -32600


@pytest.mark.parametrize("bomb", [b"[" * 100_000, b'{"a":' * 100_000, b'[{"a":' * 100_000, b"[" * 10**5 + b"]" * 10**5])
def test_bombs(fast: Any, bomb: bytes) -> None:
    assert code(fast.scan, bomb) == -32600
    assert outcome(fast.scan, b'{"jsonrpc":"2.0","id":"a","method":"m","params":' + bomb)[:3] == (
        "refused", -32600, b'"a"'
    )  # fmt: skip
    with pytest.raises(ProtocolError):
        fast.members(bomb, 0, len(bomb))
    with pytest.raises(ProtocolError):
        fast.elements(bomb, 0, len(bomb))


# --- it reads JSON as orjson does ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [*NUMBERS, *STRINGS, *STRUCTURES], ids=lambda value: repr(value)[:50])
def test_reads_json_as_orjson_does(fast: Any, value: bytes) -> None:
    for data in (
        value,
        b'{"jsonrpc":"2.0","id":1,"result":' + value + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":[' + value + b"]}}",
    ):
        assert (code(fast.scan, data) == -32700) == (not is_json(data))
    as_key = b'{"jsonrpc":"2.0","id":1,"result":{},' + value + b":1}"
    assert (code(fast.scan, as_key) == -32700) == (not is_json(as_key))


HALF_A_PAIR = "a string in the message has half a surrogate pair"
BEYOND_A_DOUBLE = "a number in the message is too large for a double"
NOT_JSON = "the message is not valid JSON"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'"\\ud800"', HALF_A_PAIR),
        (b'"x\\udfffx"', HALF_A_PAIR),
        (b'"\\uD83D\\uD83D\\uDE00"', HALF_A_PAIR),
        (b'{"\\udc00":1}', HALF_A_PAIR),
        (b'[["\\ud800\\n"]]', HALF_A_PAIR),
        (b'"\\ud800', HALF_A_PAIR),
        (b'"\\ud80', NOT_JSON),
        (b'"a" "\\ud800"', NOT_JSON),
        (b'{"a" "\\ud800":1}', NOT_JSON),
        (b"9" * 309, BEYOND_A_DOUBLE),
        (b"-1e309", BEYOND_A_DOUBLE),
        (b'[{"a":[1e99999]}]', BEYOND_A_DOUBLE),
        (b"9" * 309 + b".", NOT_JSON),
        (b"9" * 309 + b"e", NOT_JSON),
        (b"1e309.5", BEYOND_A_DOUBLE),
        (b"0" + b"9" * 309, NOT_JSON),
    ],
)
def test_says_why_json_by_the_grammar_is_refused(fast: Any, value: bytes, reason: str) -> None:
    for data in (
        b'{"jsonrpc":"2.0","method":"m","id":' + value + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":' + value + b"}}",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":' + value + b"}}",
        b'{"jsonrpc":"2.0","id":1,"result":[' + value + b"]}",
        value,
    ):
        assert outcome(fast.scan, data)[:4] == ("refused", -32700, None, reason)
    for function, text in ((fast.members, b'{"a":' + value + b"}"), (fast.elements, b"[" + value + b"]")):
        with pytest.raises(ProtocolError, match=reason):
            function(text, 0, len(text))


MESSAGE = (
    b'{"jsonrpc":"2.0","id":"\\u00e9-1","method":"tools/call","params":{"_meta":{"a/b":[1,-2.5e3,true,false,null,{}]},'
    b'"name":"caf\xc3\xa9 \xf0\x9f\x98\x80 \\ud83d\\ude00",'
    b'"arguments":{"deep":[[[{"x":""}]]],"big":18446744073709551616}}}'
)


def test_truncated_at_every_byte(fast: Any) -> None:
    assert code(fast.scan, MESSAGE) is None
    for end in range(len(MESSAGE)):
        assert code(fast.scan, MESSAGE[:end]) == -32700


def test_every_byte_changed(fast: Any) -> None:
    for place in range(len(MESSAGE)):
        for byte in (*range(0, 256, 5), *b'"\\{}[]:,\x00\x1f\x20/0aeE+-.\x7f\x80\xff', MESSAGE[place] ^ 0x20):
            data = MESSAGE[:place] + bytes((byte,)) + MESSAGE[place + 1 :]
            assert (code(fast.scan, data) == -32700) == (not is_json(data)), data


def test_other_encodings(fast: Any) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1"):
        assert code(fast.scan, MESSAGE.decode().replace("\U0001f600", "").encode(encoding)) == -32700


def test_takes_bytes_only(fast: Any) -> None:
    for data in (None, "{}", 7):
        with pytest.raises((TypeError, AttributeError)):
            fast.scan(data)


@given(st.one_of(json_texts, messages(), mutated(json_texts), mutated(messages()), st.binary(max_size=60)))
def test_both_twins_and_orjson_agree(both: Any, data: bytes) -> None:
    oracle, compiled = both
    result = outcome(oracle.scan, data, 1024)
    assert outcome(compiled.scan, data, 1024) == result
    assert (result[:2] == ("refused", -32700)) == (not is_json(data))
    assert outcome(compiled.scan, data, 2) == outcome(oracle.scan, data, 2)


@given(mutated(json_texts))
def test_any_value_in_any_place(both: Any, value: bytes) -> None:
    oracle, compiled = both
    data = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"n","arguments":' + value + b"}}"
    result = outcome(oracle.scan, data)
    assert outcome(compiled.scan, data) == result
    assert (result[:2] == ("refused", -32700)) == (not is_json(data))


@given(messages())
def test_spans_hold_what_orjson_reads(both: Any, data: bytes) -> None:
    for fast in both:
        try:
            envelope = fast.scan(data)
        except ProtocolError:
            continue
        whole = orjson.loads(data)
        for name, span in (
            ("id", envelope.id_span),
            ("method", envelope.method_span),
            ("result", envelope.result),
            ("error", envelope.error),
            ("params", envelope.params),
        ):
            if span is not None:
                assert orjson.loads(data[slice(*span)]) == whole[name]
            elif name != "params":  # those of a response are of no interest
                assert whole.get(name) is None
        assert envelope.method == whole.get("method")
        if envelope.params is not None:
            for name, span in (("name", envelope.name), ("uri", envelope.uri), ("_meta", envelope.meta)):
                assert (name in whole["params"]) == (span is not None)
                assert span is None or orjson.loads(data[slice(*span)]) == whole["params"][name]


# --- members and elements --------------------------------------------------------------------------------------------


def test_members(fast: Any) -> None:
    data = b'..{"a":1 , "\\u0062\xc3\xa9": [ {"a":2} ],"":"" }..'
    assert fast.members(data, 2, len(data) - 2) == {"a": (7, 8), "bé": (23, 34), "": (38, 40)}
    assert list(fast.members(data, 2, len(data) - 2)) == ["a", "bé", ""]
    assert fast.members(b" {} ", 0, 4) == {}


def test_elements(fast: Any) -> None:
    data = b'..[1, "]" ,[2],{"a":[]}]..'
    assert [data[slice(*span)] for span in fast.elements(data, 2, len(data) - 2)] == [b"1", b'"]"', b"[2]", b'{"a":[]}']
    assert fast.elements(b"[ ]", 0, 3) == []


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"":1,"b":[],"":1}'])
def test_members_refuses_repeated_keys(fast: Any, data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        fast.members(data, 0, len(data))
    assert caught.value.code == -32600


@pytest.mark.parametrize("spare", [0, 1])
def test_objects_that_are_looked_into_are_bounded(fast: Any, spare: int) -> None:
    data = b"{" + b",".join(b'"%x":0' % number for number in range(MAX_MEMBERS + spare)) + b"}"
    if not spare:
        assert len(fast.members(data, 0, len(data))) == MAX_MEMBERS
        return
    with pytest.raises(ProtocolError, match="more than 16384 members") as caught:
        fast.members(data, 0, len(data))
    assert caught.value.code == -32600


def test_members_and_elements_want_their_type(fast: Any) -> None:
    for data in (b"", b"1", b'"a"', b"null", b" "):
        for function in (fast.members, fast.elements):
            with pytest.raises(ProtocolError):
                function(data, 0, len(data))
    with pytest.raises(ProtocolError):
        fast.members(b"[]", 0, 2)
    with pytest.raises(ProtocolError):
        fast.elements(b"{}", 0, 2)


def test_members_and_elements_stay_in_the_data(fast: Any) -> None:
    for function in (fast.members, fast.elements):
        for span in ((-1, 2), (0, 3), (2, 1), (3, 3)):
            with pytest.raises(IndexError):
                function(b"[]", *span)


@given(objects(json_texts), st.lists(json_texts, max_size=5))
def test_members_and_elements_hold_what_orjson_reads(both: Any, an_object: bytes, values: list[bytes]) -> None:
    for fast in both:
        if is_json(an_object):
            try:
                spans = fast.members(b"x" + an_object, 1, len(an_object) + 1)
            except ProtocolError as error:
                assert error.code == -32600
            else:
                read = {key: orjson.loads(an_object[start - 1 : end - 1]) for key, (start, end) in spans.items()}
                assert list(read.items()) == list(orjson.loads(an_object).items())
        array = b"[" + b" ,\t".join(values) + b"]"
        if is_json(array):
            read_values = [array[slice(*span)] for span in fast.elements(array, 0, len(array))]
            assert read_values == values


@given(mutated(json_texts), st.integers(0, 5), st.integers(0, 5))
def test_members_and_elements_agree_on_anything(both: Any, data: bytes, left: int, right: int) -> None:
    oracle, compiled = both
    span = (min(left, len(data)), max(min(left, len(data)), len(data) - right))
    for name in ("members", "elements"):
        results = []
        for fast in (oracle, compiled):
            try:
                results.append(getattr(fast, name)(data, *span))
            except ProtocolError as error:
                results.append((error.code, error.message))
        assert results[0] == results[1]
