"""Octets that are judged eight or sixty-four at a time: the same verdict as octet by octet, wherever a word begins."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from only1mcp.errors import ProtocolError

BEFORE, AFTER = b'{"jsonrpc":"2.0","id":1,"result":', b"}"
# Beyond two blocks of 64, with the words between and behind them.
LENGTHS = (*range(26), 63, 64, 65, 71, 72, 73, 136, 150)
# Among them the neighbours of what is special, and what a borrow from the octet before it would mark.
OCTETS = [
    *(bytes([octet]) for octet in (0x00, 0x1F, 0x20, 0x21, 0x23, 0x5B, 0x5D, 0x7E, 0x7F, 0x80, 0xA2, 0xDC, 0xFF)),
    *(b'"', b"\\", b'\\"', b"\\\\", b"\\n", b"\\x", b"\\u00e9", b"\\ud83d\\ude00", b"\\ud83d"),
    *(b'!"', b'" ', b"\\]", b" \x1f", b"\x1f ", b"!\\", b'#"', b"\xa2\\"),
    *("\u00e9".encode(), "\u20ac".encode(), "\U0001f600".encode(), b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82"),
]


def is_json(token: bytes) -> bool:
    try:
        orjson.loads(token)
    except ValueError:
        return False
    return True


def accepts(fast: Any, data: bytes) -> bool:
    try:
        fast.scan(data)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("octets", OCTETS, ids=repr)
def test_scanning_at_every_place_of_a_word(fast: Any, octets: bytes) -> None:
    verdicts = {}
    for length in LENGTHS:
        for place in {*range(min(length, 18) + 1), max(0, length - 9), length}:
            text = b"x" * place + octets + b"y" * (length - place)
            for token in (b'"%b"' % text, b'"%b' % text, b'{"%b":1}' % text):
                verdicts[token] = is_json(token)
    # Where the message begins in a word differs by the spaces before it.
    for number, (token, verdict) in enumerate(verdicts.items()):
        assert accepts(fast, b" " * (number % 8) + BEFORE + token + AFTER) == verdict, token


@pytest.mark.parametrize("octets", OCTETS, ids=repr)
@pytest.mark.parametrize("module", ["passing_reference", "passing"])
def test_passing_at_every_place_of_a_word(module: str, octets: bytes) -> None:
    scanner = pytest.importorskip(f"only1mcp._fast.{module}", reason="not built: make build").PassingScanner
    for length in LENGTHS:
        for place in {*range(min(length, 18) + 1), max(0, length - 9), length}:
            token = b'"%b%b%b"' % (b"x" * place, octets, b"y" * (length - place))
            subject = scanner(b"1", b"2")
            verdict = True
            try:
                # Inside containers strings are walked over by another function than at the top.
                value = token if length % 2 else b"[[%b]]" % token
                subject.receive_data(b" " * (place % 8) + BEFORE + value + AFTER)
                subject.receive_eof()
            except ProtocolError:
                verdict = False
            assert verdict == is_json(token), token
