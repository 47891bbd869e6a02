"""JSON texts for the scanner's tests: tables of the corners, and Hypothesis strategies for everything else."""

from __future__ import annotations

import orjson
from hypothesis import strategies as st

# The greatest integer that is still a double once rounded, and the least that is not.
_LEAST_INFINITE = str(2**1024 - 2**970).encode()
_GREATEST_FINITE = str(2**1024 - 2**970 - 1).encode()

NUMBERS = [
    b"0", b"-0", b"0.0", b"-0.0e0", b"1E5", b"1e+5", b"1e-5", b"10", b"18446744073709551616", b"-9223372036854775809",
    b"9" * 308, b"9" * 309, b"1" + b"0" * 308, b"1" + b"0" * 309, b"9" * 100_000, b"-" + b"9" * 100_000,
    b"0." + b"9" * 100_000, b"1." + b"0" * 400, b"1e308", b"1e309", b"-1e309", b"1e-9999999999999999999999",
    b"1e99999", b"1e" + b"9" * 100_000, b"0e" + b"9" * 100, b"0.000e999999", b"0." + b"0" * 400 + b"1e500",
    b"0." + b"0" * 400 + b"1e709", b"0." + b"0" * 400 + b"1e710", b"1" * 400 + b"e-92", b"1" * 400 + b"e-91",
    b"1" * 400 + b"e-90", b"1.7976931348623157e308", b"1.7976931348623158e308", b"1.7976931348623159e308",
    b"17976931348623159e292", b"0.17976931348623159e309", _GREATEST_FINITE, _LEAST_INFINITE, _GREATEST_FINITE + b".9",
    _GREATEST_FINITE + b"." + b"9" * 800, _LEAST_INFINITE + b".0",
    _LEAST_INFINITE[:1] + b"." + _LEAST_INFINITE[1:] + b"e308",
    _GREATEST_FINITE[:1] + b"." + _GREATEST_FINITE[1:] + b"e308",
    _LEAST_INFINITE[:100] + b"." + _LEAST_INFINITE[100:-1] + b"e209", b"0.0" + _LEAST_INFINITE + b"e310",
    b"0.0" + _GREATEST_FINITE + b"e310", b"0.0" + _LEAST_INFINITE + b"e309",
    _LEAST_INFINITE.rstrip(b"0")[:-1] + b"e20", b"00", b"01", b"-01", b"-", b"+1", b".5", b"1.", b"1.e1", b"1e",
    b"1e+", b"1e1.5", b"0x10", b"1_0", b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"1f", b"--1", b"1-",
    b"\xd9\xa1",
]  # fmt: skip
STRINGS = [
    b'""', b'"\\""', b'"\\\\"', b'"\\/\\b\\f\\n\\r\\t"', b'"\\u0000"', b'"\\u00eg"', b'"\\U0041"', b'"\\x41"',
    b'"\\a"', b'"\\\'"', b'"\\ud83d\\ude00"', b'"\\uD83D\\uDE00"', b'"\\ud800"', b'"\\udc00"', b'"\\ud800x"',
    b'"\\ud800\\n"', b'"\\ud800\\u0041"', b'"\\ud800\\ud800\\udc00"', b'"\\udc00\\ud800"', b'"\\ud800\\u"',
    b'"\\ud800\\udc0"', b'"\\u"', b'"\\u1"', b'"\\u12"', b'"\\u123"', b'"\\', b'"\\"', b'"', b'"a', b'"\x00"',
    b'"\x01"', b'"\x1f"', b'"\x7f"', b'"\t"', b'"\n"', b"'a'", b'"\xc2\x80"', b'"\xdf\xbf"', b'"\xe0\xa0\x80"',
    b'"\xed\x9f\xbf"', b'"\xee\x80\x80"', b'"\xef\xbf\xbf"', b'"\xf0\x90\x80\x80"', b'"\xf4\x8f\xbf\xbf"', b'"\x80"',
    b'"\xbf"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x9f\xbf"', b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"',
    b'"\xf0\x8f\xbf\xbf"', b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xff"', b'"\xe2\x82"', b'"\xf0\x9f\x98"',
    b'"\xe2\x28\xa1"', b'"\xf0\x28\x8c\xbc"', b'"\xe2', b'"1234567\x01"', b'"12345678\\', b'"1234567\xc3\xa9"',
    b'"' + b"x" * 1000 + b'\x1f"', b'"\\u\xd9\xa1\xd9\xa1"',
]  # fmt: skip
STRUCTURES = [
    b"", b" ", b"[]", b"{}", b"[ ]", b"{ }", b"[1,]", b"[,]", b"[,1]", b"[1,,2]", b"[1 2]", b"[1", b"[", b"]", b"{",
    b"}", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{,}", b'{"a":1 "b":2}', b"{a:1}", b"{1:1}", b'{"a":1]', b"[1}",
    b'{"a":1,"a":2}', b'{"a" : [ { } , [ ] ] }', b"true", b"false", b"null", b"tru", b"True", b"nul", b"nullx",
    b"truefalse", b"[true false]", b"1 1", b"[]]", b"{}{}", b"[] x", b"/**/1", b"1//", b"#1", b"\x0b1", b"\x0c1",
    b"\xa01", b"\xc2\xa01", b"\xe2\x80\xa81", b"1\x00", b"\x001", b"\xef\xbb\xbf1", b"\xff\xfe1\x00",
    b"\xfe\xff\x001", b"[1,\n\t\r 2]", b'{"\\ud800":1}', b'{"a":01}',
]  # fmt: skip


whitespace = st.text(" \t\r\n", max_size=3).map(str.encode)
numbers = st.one_of(
    st.integers().map(lambda n: str(n).encode()),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda f: repr(f).encode()),
    st.from_regex(rb"-?(0|[1-9][0-9]{0,330})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
)
escapes = st.sampled_from([b'\\"', b"\\\\", b"\\/", b"\\n", b"\\u0041", b"\\ud83d\\ude00", b"\\u017f", b"\\u0000"])
strings = st.lists(
    st.one_of(st.text(max_size=12).map(lambda s: orjson.dumps(s)[1:-1]), escapes), max_size=5
).map(lambda parts: b'"' + b"".join(parts) + b'"')  # fmt: skip
NAMES = ("jsonrpc", "id", "method", "params", "result", "error", "name", "uri", "_meta")
names = st.sampled_from([f'"{name}"'.encode() for name in NAMES])


def spaced(value: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda a, b, c: a + b + c, whitespace, value, whitespace)


def objects(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    pairs = st.builds(lambda key, value: key + b":" + value, spaced(names | strings), spaced(values))
    return st.lists(pairs, max_size=5).map(lambda pairs: b"{" + b",".join(pairs) + b"}")


json_texts = st.recursive(
    st.one_of(numbers, strings, st.sampled_from([b"true", b"false", b"null", b"[]", b"{}"])),
    lambda inner: (
        st.lists(spaced(inner), max_size=5).map(lambda parts: b"[" + b",".join(parts) + b"]") | objects(inner)
    ),
    max_leaves=12,
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Messages, most of them valid or nearly so."""
    values = {
        "jsonrpc": st.just(b'"2.0"'),
        "id": st.one_of(st.sampled_from([b"1", b'"a"', b"null", b"1.0"]), numbers, strings),
        "method": strings,
        "params": st.one_of(objects(json_texts), json_texts),
        "result": json_texts,
        "error": objects(json_texts),
    }
    keys = ["jsonrpc", *draw(st.lists(st.sampled_from(sorted(values)), max_size=4, unique_by=lambda key: key))]
    pairs = [f'"{key}":'.encode() + draw(values[key]) for key in draw(st.permutations(sorted(set(keys))))]
    return b"{" + b",".join(pairs) + b"}"


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["cut", "drop", "put", "double"]))
        if change == "cut":
            del data[place:]
        elif change == "drop":
            del data[place : place + draw(st.integers(1, 4))]
        elif change == "put":
            data[place:place] = draw(
                st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b","])
            )
        else:
            data[place:place] = data[max(0, place - draw(st.integers(1, 12))) : place]
    return bytes(data)
