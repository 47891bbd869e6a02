"""The scanner against orjson, exhaustively where that can be done and at random where it cannot."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests._fast.json_texts import messages, mutated, whitespace
from tests._fast.test_envelope import MESSAGE, code, is_json, outcome, text

LEAST_INFINITE = 2**1024 - 2**970


def agree(fast: Any, texts: Iterable[bytes]) -> None:
    """See that a text is refused as no JSON exactly when orjson refuses it."""
    for data in texts:
        assert (code(fast.scan, data, 1024) == -32700) == (not is_json(data)), data


def all_texts(alphabet: str, length: int) -> Iterable[bytes]:
    for size in range(1, length + 1):
        for characters in itertools.product(alphabet.encode(), repeat=size):
            yield bytes(characters)


def test_every_short_text_of_structure(both: Any) -> None:
    agree(both[1], all_texts('{}[]",:1\\ ', 5))
    agree(both[0], all_texts('{}[]",:1', 4))


def test_every_short_spelling_of_a_number(both: Any) -> None:
    agree(both[1], all_texts("-+01.e", 6))
    agree(both[1], (b'{"a":[' + number + b"]}" for number in all_texts("-+09.E", 5)))
    agree(both[0], all_texts("-+01.e", 4))


def test_every_short_end_of_a_string(both: Any) -> None:
    agree(both[1], (b'"1234567' + end for end in all_texts('"\\u0dn\x1f ', 5)))
    agree(both[0], (b'"' + end for end in all_texts('"\\un\x1f', 4)))


@pytest.mark.parametrize("spelling", ["\\u%04x", "\\u%04X"])
def test_every_escape(both: Any, spelling: str) -> None:
    escapes = [(spelling % unit).encode() for unit in range(0x10000)]
    agree(both[1], (b'"' + escape + b'"' for escape in escapes))
    agree(both[1], (b'{"\\ud83d' + escape + b'":1}' for escape in escapes))
    agree(both[1], (b'["' + escape + b'\\udc00"]' for escape in escapes))
    agree(both[0], (b'"' + escape + b'"' for escape in escapes[::97] + escapes[0xD7F0:0xE010]))


def test_every_pair_of_surrogates_and_their_neighbours(fast: Any) -> None:
    units = [b"\\u%04x" % unit for unit in (0x41, 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000)]
    parts = [*units, b"\\n", b"x", b"\\u", b"\\ud8", b""]
    agree(fast, (b'"' + b"".join(some) + b'"' for some in itertools.product(parts, repeat=3)))


BAD_UTF_8 = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2\x20", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe1\x80",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xef\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff",
]  # fmt: skip
GOOD_UTF_8 = [b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xf4\x8f\xbf\xbf"]


@pytest.mark.parametrize("octets", [*BAD_UTF_8, *GOOD_UTF_8, b"\x00", b"\x7f", b"\xef\xbb\xbf"])
def test_any_octets_at_every_place(fast: Any, octets: bytes) -> None:
    agree(fast, (MESSAGE[:place] + octets + MESSAGE[place:] for place in range(len(MESSAGE) + 1)))
    agree(fast, (MESSAGE[:place] + octets + MESSAGE[place + 1 :] for place in range(len(MESSAGE))))


# What opens, what closes, how many levels it adds, and how many its own neighbours need.
CONTAINERS = {"[": ("]", 1, 0), '{"a":': ("}", 1, 0), '[1,{"b":[2],"a":': ("}]", 2, 1), "[[],": ("]", 1, 1)}


@settings(max_examples=60)
@given(
    st.sampled_from([64, 1024]),
    st.lists(st.sampled_from(sorted(CONTAINERS)), min_size=8, max_size=30),
    st.integers(-2, 2),
)
def test_nesting_at_the_limit(both: Any, limit: int, pattern: list[str], off: int) -> None:
    openers: list[str] = []
    deep = deepest = 0
    while deep < limit + off - 3:
        opener = pattern[len(openers) % len(pattern)]
        openers.append(opener)
        deep += CONTAINERS[opener][1]
        deepest = max(deepest, deep + CONTAINERS[opener][2])
    while deepest < limit + off - 1:
        openers.append("[")
        deep += 1
        deepest = max(deepest, deep)
    closers = [CONTAINERS[opener][0] for opener in reversed(openers)]
    data = b'{"jsonrpc":"2.0","id":1,"result":' + "".join([*openers, "0", *closers]).encode() + b"}"
    expected = -32600 if deepest + 1 > limit else None
    for fast in both:
        assert code(fast.scan, data, limit) == expected
        assert expected is None or outcome(fast.scan, data, limit)[2] == b"1"
    if limit == 1024:
        assert is_json(data) == (expected is None)


@given(st.integers(-3, 3), st.integers(0, 330), st.integers(0, 400), st.sampled_from([b"", b"0" * 50, b"9" * 50]))
def test_the_greatest_numbers_however_they_are_written(
    both: Any, off: int, point: int, zeros: int, more: bytes
) -> None:
    digits = b"%d" % (LEAST_INFINITE + off) + more
    whole, fraction = digits[:point].lstrip(b"0") or b"0", digits[point:] or b"0"
    exponent = 309 - min(point, len(digits))
    texts = [
        digits,
        b"-%b.%be%d" % (whole, fraction, exponent),
        b"%b.%bE+%d" % (whole, fraction, exponent) if exponent >= 0 else b"1e%d" % exponent,
        b"0.%b%be%d" % (b"0" * zeros, digits, 309 + zeros),
        digits + b"0" * zeros + b"e-%d" % (zeros + len(more)),
    ]
    for fast in both:
        agree(fast, texts)


@st.composite
def crossed(draw: st.DrawFn) -> bytes:
    """The beginning of one message and the end of another, perhaps with bits flipped."""
    first, second = draw(messages()), draw(messages())
    data = bytearray(first[: draw(st.integers(0, len(first)))] + second[draw(st.integers(0, len(second))) :])
    for _ in range(draw(st.integers(0, 2)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@settings(max_examples=300)
@given(st.one_of(crossed(), mutated(messages()), messages()), whitespace, whitespace)
def test_what_is_accepted_is_what_orjson_reads(both: Any, data: bytes, before: bytes, after: bytes) -> None:
    data = before + data + after
    oracle, compiled = both
    result = outcome(oracle.scan, data)
    assert outcome(compiled.scan, data) == result
    assert (result[:2] == ("refused", -32700)) == (not is_json(data))
    if result[0] == "refused":
        if result[2] is not None:
            assert orjson.loads(result[2]) == orjson.loads(data)["id"]
        return
    envelope, whole = compiled.scan(data), orjson.loads(data)
    spans = {
        "id": envelope.id_span,
        "method": envelope.method_span,
        "params": envelope.params,
        "result": envelope.result,
        "error": envelope.error,
    }
    for name, span in spans.items():
        assert span is None or orjson.loads(data[slice(*span)]) == whole[name]
    assert envelope.id == text(data, envelope.id_span)
    if envelope.params is not None:
        inner = {"name": envelope.name, "uri": envelope.uri, "_meta": envelope.meta}
        for name, span in inner.items():
            assert span is None or envelope.params[0] < span[0] < span[1] < envelope.params[1]
            assert (None if span is None else orjson.loads(data[slice(*span)])) == whole["params"].get(name)
