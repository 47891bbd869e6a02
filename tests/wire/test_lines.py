"""Splitting at newlines, with a limit, however the bytes are cut; and whose answer a lost line was."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.wire.lines import KEPT_BYTES, LineSplitter, Overlong, answered_id, asks, is_asking

LIMIT = 16


def split(pieces: list[bytes]) -> list[bytes | tuple[bytes, int]]:
    splitter = LineSplitter(LIMIT)
    lines = [line for piece in pieces for line in splitter.receive_data(piece)] + splitter.receive_eof()
    # With a limit below KEPT_BYTES the head is as long as what came in time.
    return [(line.tail, line.size) if isinstance(line, Overlong) else line for line in lines]


def expected(data: bytes) -> list[bytes | tuple[bytes, int]]:
    lines: list[bytes | tuple[bytes, int]] = []
    *complete, last = data.split(b"\n")
    for line in complete + ([last] if last else []):
        if len(line) > LIMIT:
            lines.append((line[-KEPT_BYTES:], len(line)))
        else:
            lines.append(line.removesuffix(b"\r"))
    return lines


@given(
    st.lists(st.binary(max_size=24).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.lists(st.integers(0, 200), max_size=12),
    st.booleans(),
)
def test_any_cut_gives_the_same_lines(lines: list[bytes], cuts: list[int], ends: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    single_bytes = [data[i : i + 1] for i in range(len(data))]
    assert split([data]) == split(pieces) == split(single_bytes) == expected(data)


def test_only_both_ends_of_an_overlong_line_are_kept() -> None:
    splitter = LineSplitter(4096)
    line = b"head" + b"x" * 1_000_000 + b"tail"
    lines: list[bytes | Overlong] = []
    for start in range(0, len(line), 1000):
        lines += splitter.receive_data(line[start : start + 1000])
        held = sum(map(len, splitter._parts)) + sum(map(len, splitter._overlong or ()))
        assert held <= 4096 + 1000
    lines += splitter.receive_data(b"\nnext\n")
    (overlong, after) = lines
    assert isinstance(overlong, Overlong)
    assert (overlong.head[:4], overlong.tail[-4:], overlong.size) == (b"head", b"tail", len(line))
    assert len(overlong.head) == len(overlong.tail) == KEPT_BYTES
    assert after == b"next"


TRAPS = ['","id":5}', '{"jsonrpc":"2.0","id":6,"result":', '\\","id":7,"jsonrpc":"2.0"}', '"id":8}']
MEMBERS = {
    "first": lambda id, value: {"jsonrpc": "2.0", "id": id, "result": value},
    "id first": lambda id, value: {"id": id, "jsonrpc": "2.0", "error": value},
    "last": lambda id, value: {"result": value, "jsonrpc": "2.0", "id": id},
    "last but one": lambda id, value: {"error": value, "id": id, "jsonrpc": "2.0"},
    "around": lambda id, value: {"jsonrpc": "2.0", "result": value, "id": id},
}


@pytest.mark.parametrize("order", MEMBERS)
@given(
    id=st.one_of(st.integers(0, 2**53), st.text("abc-_0:/", max_size=20)),
    value=st.recursive(
        st.one_of(st.integers(), st.text(max_size=8), st.sampled_from(TRAPS)).filter(
            lambda value: not isinstance(value, int) or -(2**63) <= value < 2**63
        ),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(["id", "x", *TRAPS]), inner)),
    ),
)
def test_the_id_of_an_answer_is_found_and_nothing_else(order: str, id: int | str, value: object) -> None:
    message = orjson.dumps(MEMBERS[order](id, value))
    assert answered_id(message[:KEPT_BYTES], message[-KEPT_BYTES:]) in (orjson.dumps(id), None)
    if len(message) < KEPT_BYTES:
        assert answered_id(message, message) == orjson.dumps(id)
    assert not is_asking(message)


@pytest.mark.parametrize(
    "head",
    [
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"id":1,',
        b'{"method":"x","jsonrpc":"2.0","id":1}',
        b' { "jsonrpc" : "2.0" , "id" : 3 , "method" : "roots/list"',
        b'{"id":"a","method":"x"}',
    ],
)
def test_what_asks_answers_nobody(head: bytes) -> None:
    assert is_asking(head)
    assert answered_id(head, head) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"text", b'{"id":1}', b'{"x":1,"id":1,"result":2}', b'{"result":1,"x":{"id":1}}', b'[{"result":1,"id":2}]'],
)
def test_doubt_is_no_answer(line: bytes) -> None:
    assert answered_id(line, line) is None
    assert not is_asking(line)


def test_a_whole_line_tells_for_sure_whether_it_asks() -> None:
    assert asks(b'{"jsonrpc":"2.0","surplus":1,"id":1,"method":"ping"}')
    assert not asks(b'{"jsonrpc":"2.0","id":1,"result":{"method":"ping"}}')
    assert not asks(b'["method"]')
    assert asks(b'{"method":"ping","id":1,')
    assert not asks(b'{"id":1,"result":{"method":"ping"},')
