"""`${NAME}` in values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.config.variables import VariableError, expand

ENV = {"A": "1", "EMPTY": "", "NESTED": "${A}", "_x9": "y"}


@pytest.mark.parametrize(
    ("text", "result", "whole"),
    [
        ("plain", "plain", False),
        ("", "", False),
        ("${A}", "1", True),
        ("x${A}", "x1", False),
        ("${A}x", "1x", False),
        ("${A}${A}", "11", False),
        ("${_x9}", "y", True),
        ("${EMPTY}", "", True),
        ("${EMPTY:-d}", "d", True),
        ("${NONE:-d}", "d", True),
        ("${NONE:-}", "", True),
        ("${NONE:-a:-b}", "a:-b", True),
        ("${NONE:-a b\nc}", "a b\nc", True),
        ("${A:-d}", "1", True),
        ("${NESTED}", "${A}", True),
        ("$${A}", "${A}", False),
        ("$$${A}", "$${A}", False),
        ("$A $ $$ {A} $(A)", "$A $ $$ {A} $(A)", False),
        ("$${A} ${A}", "${A} 1", False),
    ],
)
def test_expansion(text, result, whole):
    expanded = expand(text, ENV)
    assert expanded.text == result
    assert expanded.whole is whole


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1A}", "${A-b}", "${A:?x}", "${A B}", "${NONE:-${A}}", "${é}"])
def test_malformed(text):
    with pytest.raises(VariableError) as caught:
        expand(text, ENV)
    assert not caught.value.unset


def test_unset_names_the_variable():
    with pytest.raises(VariableError, match="NONE is not set") as caught:
        expand("a${NONE}b", ENV)
    assert caught.value.unset


@given(st.text(alphabet="${}:-A \n"))
def test_any_text(text):
    try:
        expand(text, ENV)
    except VariableError:
        pass
