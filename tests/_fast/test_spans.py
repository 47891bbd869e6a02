"""The compiled look-ups and edits in JSON mean what the plain ones do, and refuse what they refuse."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp._fast import spans_reference
from only1mcp.errors import ProtocolError

spans = pytest.importorskip("only1mcp._fast.spans", reason="the compiled parts are not built")

KEYS = st.sampled_from(["a", "b", "progressToken", "é", 'q"', "a\\b", ""]) | st.text(max_size=4)
VALUES = st.none() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(0, 9), max_size=2)
NAMES = (b"a", b"progressToken", "é".encode(), b"")

BROKEN = [b"{", b"{}", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1}x', b"[]"]
EDITS = st.tuples(st.integers(-3, 10), st.integers(-3, 10), st.binary(max_size=2))


def outcome(function: object, *arguments: object) -> object:
    """Return what a call returns, or the kind and message of what it raises."""
    assert callable(function)
    try:
        return function(*arguments)
    except (ProtocolError, IndexError, TypeError, ValueError) as error:
        return type(error), str(error)


@given(st.dictionaries(KEYS, VALUES, max_size=20), st.binary(max_size=3), st.binary(max_size=3))
def test_members_are_found_wherever_the_object_lies(value: dict[str, object], before: bytes, after: bytes) -> None:
    text = orjson.dumps(value)
    data, span = before + text + after, (len(before), len(before) + len(text))
    found = spans.pick(data, span, NAMES)
    assert found == spans_reference.pick(data, span, NAMES)
    for name, place in zip(NAMES, found, strict=True):
        assert (name.decode() in value) == (place is not None)
        if place is not None:
            assert orjson.loads(data[slice(*place)]) == value[name.decode()]


@given(st.lists(st.tuples(KEYS, VALUES), max_size=20))
def test_an_object_with_a_key_twice_is_refused_whichever_key_it_is(pairs: list[tuple[str, object]]) -> None:
    text = b"{" + b",".join(orjson.dumps(key) + b":" + orjson.dumps(value) for key, value in pairs) + b"}"
    found = outcome(spans.pick, text, (0, len(text)), NAMES)
    assert found == outcome(spans_reference.pick, text, (0, len(text)), NAMES)
    assert isinstance(found, tuple) == (len({key for key, _ in pairs}) < len(pairs))


@pytest.mark.parametrize("key", [b'"\\u0061"', b'"\\u0061\\u0062"', b'"p\\u0072ogressToken"'])
def test_a_key_may_be_spelled_with_escapes(key: bytes) -> None:
    text = b'{"x":1,' + key + b":2}"
    assert spans.pick(text, (0, len(text)), NAMES) == spans_reference.pick(text, (0, len(text)), NAMES)
    twice = b'{"a":1,"ab":1,"progressToken":1,' + key + b":2}"
    with pytest.raises(ProtocolError):
        spans.pick(twice, (0, len(twice)), NAMES)


@given(st.binary(max_size=12) | st.sampled_from(BROKEN))
def test_what_is_no_object_is_refused_alike(text: bytes) -> None:
    assert outcome(spans.pick, text, (0, len(text)), NAMES) == outcome(
        spans_reference.pick, text, (0, len(text)), NAMES
    )


@pytest.mark.parametrize("span", [(-1, 2), (0, 99), (2, 1)])
def test_a_span_outside_the_data_is_an_error(span: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        spans.pick(b"{}", span, NAMES)


@given(st.binary(max_size=30), st.data())
def test_edits_replace_their_spans_and_nothing_else(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=40).filter(lambda cuts: len(cuts) % 2 == 0)))
    edits = [(start, end, draw.draw(st.binary(max_size=5))) for start, end in zip(cuts[::2], cuts[1::2], strict=True)]
    shuffled = draw.draw(st.permutations(edits))
    assert spans.splice(data, shuffled) == spans_reference.splice(data, edits)
    assert spans.splice(data, tuple(edits)) == spans_reference.splice(data, edits)


@given(
    st.binary(max_size=8),
    st.lists(EDITS, max_size=3),
)
def test_odd_edits_mean_what_slices_mean(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    assert spans.splice(data, edits) == spans_reference.splice(data, edits)


@given(st.text(max_size=12), st.binary(max_size=14), st.booleans())
def test_a_text_is_said_only_by_its_plain_spelling(text: str, other: bytes, own: bool) -> None:
    token = orjson.dumps(text)
    wanted = text.encode() if own else other
    said = spans.says(token, (0, len(token)), wanted)
    assert said == spans_reference.says(token, (0, len(token)), wanted)
    if said:
        assert text == wanted.decode()


@given(st.text(max_size=12) | VALUES)
def test_values_are_read_as_orjson_reads_them(value: object) -> None:
    token = orjson.dumps(value)
    assert spans.string_at(token, (0, len(token))) == value == spans_reference.string_at(token, (0, len(token)))


@given(st.binary(max_size=8))
def test_what_is_no_value_is_no_string(text: bytes) -> None:
    assert outcome(spans.string_at, b'"' + text + b'"', (0, len(text) + 2)) == outcome(
        spans_reference.string_at, b'"' + text + b'"', (0, len(text) + 2)
    )


@given(st.binary(max_size=20), st.text("ab\\u", max_size=12), st.sampled_from([b"a", b"ab", b"aab", b""]), st.data())
def test_words_are_mentioned_alike(before: bytes, text: str, word: bytes, draw: st.DataObject) -> None:
    data = before + text.encode()
    start = draw.draw(st.integers(-1, len(data) + 1))
    span = (start, draw.draw(st.integers(-1, len(data) + 1)))
    found = outcome(spans.mentions, data, span, word)
    assert found == outcome(spans_reference.mentions, data, span, word)
    if isinstance(found, bool):
        assert found == (word in data[slice(*span)] or b"\\" in data[slice(*span)])
