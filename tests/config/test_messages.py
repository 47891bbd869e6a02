"""How problems are worded, ordered and kept printable."""

import msgspec.inspect as mi
import pytest

from only1mcp.config.messages import Mark, Problems, expected, join_path, listed, shown, unknown_key
from only1mcp.config.schema import Config


def test_problems_are_ordered_by_file_and_place_and_told_once():
    problems = Problems()
    problems.add(Mark("b", 3, 1), "x", "late")
    problems.add(Mark("a", 1, 1), "y", "other file")
    problems.add(Mark("b", 2, 9), "x", "early")
    problems.add(Mark("b", 2, 9), "x", "early")
    problems.add(Mark("VARIABLE"), "", "no place")
    assert problems.error().problems == [
        "b:2:9: x: early",
        "b:3:1: x: late",
        "a:1:1: y: other file",
        "VARIABLE: no place",
    ]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("timeout-ms", "timeout_ms"),
        ("timeoutMs", "timeout_ms"),
        ("TIMEOUT_MS", "timeout_ms"),
        ("comand", "command"),
        ("token", "token_env"),
        ("entirely_else", None),
        ("", None),
        ("\x1b[2J" * 1000, None),
    ],
)
def test_the_nearest_known_key(key, near):
    text, found = unknown_key(key, ["timeout_ms", "command", "token_env", "url"])
    assert found == near
    assert text.isprintable()
    assert len(text) < 200


def test_paths():
    assert join_path("", "a") == "a"
    assert join_path(join_path("servers", 1), "timeout_ms") == "servers[1].timeout_ms"
    assert join_path("env", "a.b\n") == "env['a.b\\n']"
    assert len(join_path("env", "k" * 5000)) < 100


def test_values_are_shortened_and_escaped():
    assert shown("a\n\x1b") == "'a\\n\\x1b'"
    assert len(shown("x" * 5000)) < 70


def test_lists():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a or b"
    assert listed(["a", "b", "c"], "and") == "a, b and c"


def every_type(wanted: mi.Type):
    yield wanted
    match wanted:
        case mi.StructType():
            for one in wanted.fields:
                yield from every_type(one.type)
        case mi.UnionType():
            for one in wanted.types:
                yield from every_type(one)
        case mi.VarTupleType():
            yield from every_type(wanted.item_type)
        case mi.DictType():
            yield from every_type(wanted.key_type)
            yield from every_type(wanted.value_type)


def test_every_type_of_the_schema_has_words():
    for wanted in every_type(mi.type_info(Config)):
        if not isinstance(wanted, mi.NoneType):
            assert expected(wanted)
