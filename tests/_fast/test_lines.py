"""Lines of plain values are what an encoder would have written; whatever is not plain is left to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp._fast import event_line as chosen
from only1mcp._fast import lines_reference
from only1mcp._fast.lines_reference import MAX_LINE_BYTES

Maker = Callable[..., bytes | None]
TWINS = pytest.mark.parametrize("event_line", [chosen, lines_reference.event_line], ids=["chosen", "reference"])
HOSTILE = (
    "a\nb",
    "\x1b[31m",
    "\x7f",
    "\x00",
    'a"b',
    "a\\b",
    "é",
    "\u202e",
    "\ud800",
    b"\xff",
    b"\n",
    "x" * MAX_LINE_BYTES,
)
ODD = (-1, 1 << 63, -0.5, 0.0, 0.0005, 1e300, math.nan, math.inf, True, [1])
NUMBERS = st.integers(-(2**70), 2**70) | st.integers(0, 5000)
DECIMALS = st.integers(0, 10**16).map(lambda number: number / 1000) | st.floats()
PLAIN_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F))
VALUES = (
    st.none() | NUMBERS | DECIMALS | PLAIN_TEXT | st.text() | st.binary() | PLAIN_TEXT.map(str.encode) | st.booleans()
)


@TWINS
def test_a_line_has_the_fields_that_there_are(event_line: Maker) -> None:
    names, values = (b',"a":', b',"b":', b',"c":', b',"d":'), ("x y", None, 200, 12.5)
    assert event_line(b'{"e":1', names, values, b"}\n", True) == b'{"e":1,"a":"x y","c":200,"d":12.5}\n'
    names = (b" a=", b" b=", b" c=")
    assert event_line(b"e", names, (b"/mcp", None, 0), b"\n", False) == b"e a=/mcp c=0\n"


@TWINS
@pytest.mark.parametrize("value", [*HOSTILE, *ODD], ids=ascii)
@pytest.mark.parametrize("quoted", [True, False])
def test_what_is_not_plain_is_left_to_the_encoder(event_line: Maker, quoted: bool, value: object) -> None:
    assert event_line(b"", (b"a", b"b"), ("plain", value), b"\n", quoted) is None


@TWINS
@pytest.mark.parametrize("value", ["", "a b", "a=b"])
def test_without_quotation_marks_a_value_must_be_one_word(event_line: Maker, value: str) -> None:
    assert event_line(b"", (b" a=",), (value,), b"\n", False) is None
    assert event_line(b"", (b'"a":',), (value,), b"\n", True) == b'"a":"%s"\n' % value.encode()


@TWINS
def test_a_line_may_be_as_long_as_it_says(event_line: Maker) -> None:
    room = MAX_LINE_BYTES - len(b"sn\n")
    assert event_line(b"s", (b"n",), ("x" * room,), b"\n", False) == b"sn" + b"x" * room + b"\n"
    assert event_line(b"s", (b"n",), ("x" * (room + 1),), b"\n", False) is None
    assert event_line(b"s", (b"n",), ("x" * (MAX_LINE_BYTES + 1),), b"\n", False) is None


@TWINS
def test_names_and_values_belong_together(event_line: Maker) -> None:
    with pytest.raises(ValueError, match=r"values|zip"):
        event_line(b"", (b"a",), (), b"", True)


@TWINS
@given(value=st.integers(0, 2**63 - 1) | st.integers(1, 10**15 - 1).map(lambda number: number / 1000) | PLAIN_TEXT)
def test_what_is_written_is_what_the_encoder_writes(event_line: Maker, value: Any) -> None:
    line = event_line(b"[", (b"",), (value,), b"]", True)
    assert line in (None, b"[%s]" % orjson.dumps(value))
    assert line is not None or isinstance(value, str)


@given(st.lists(VALUES, max_size=6), st.booleans())
def test_the_twins_agree(values: list[Any], quoted: bool) -> None:
    names = tuple(b" %d:" % number for number in range(len(values)))
    args = (b"start", names, tuple(values), b"end", quoted)
    assert chosen(*args) == lines_reference.event_line(*args)
