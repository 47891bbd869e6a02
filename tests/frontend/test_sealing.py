"""Sealed handles: what they carry, whom and what they open for, and that no altered one opens."""

from __future__ import annotations

import string

import pytest

from only1mcp.frontend.sealing import MAX_SEALED_CHARS, Sealer

KEY = bytes(range(32))


def test_it_opens_for_its_principal_until_it_ends() -> None:
    sealer = Sealer(KEY, "only1mcp.parked")
    token = sealer.seal(b"abc", "p", 100)
    assert sealer.open(token, "p", 99.5) == b"abc"
    assert sealer.open(token, "p", 100) is None
    assert sealer.open(token, "q", 50) is None
    assert sealer.seal(b"", "p", 100) != sealer.seal(b"", "p", 100)
    assert sealer.open(sealer.seal(b"", "p", 100), "p", 50) == b""


def test_another_process_with_the_key_opens_it_for_the_same_purpose_alone() -> None:
    token = Sealer(KEY, "only1mcp.parked").seal(b"abc", "p", 100)
    assert Sealer(KEY, "only1mcp.parked").open(token, "p", 50) == b"abc"
    assert Sealer(KEY, "only1mcp.other").open(token, "p", 50) is None
    assert Sealer(bytes(32), "only1mcp.parked").open(token, "p", 50) is None


def test_no_altered_one_opens() -> None:
    sealer = Sealer(KEY, "only1mcp.parked")
    token = sealer.seal(b"abcd", "p", 100)
    alphabet = string.ascii_letters + string.digits + "-_"
    for position, character in enumerate(token):
        for other in (alphabet[(alphabet.index(character) + 1) % 64], "=", "é", " "):
            assert sealer.open(token[:position] + other + token[position + 1 :], "p", 50) is None
    for last in alphabet.replace(token[-1], ""):
        assert sealer.open(token[:-1] + last, "p", 50) is None
    for suffix in ("-TAMPERED", "=", "A", "\n", "A" * MAX_SEALED_CHARS):
        assert sealer.open(token + suffix, "p", 50) is None
    for end in range(len(token)):
        assert sealer.open(token[:end], "p", 50) is None


def test_the_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(b"short", "x")


def test_another_version_does_not_open() -> None:
    tokens = {version: Sealer(KEY, "only1mcp.x", version).seal(b"abc", "p", 100) for version in (b"", b"\x01", b"\x02")}
    for version in tokens:
        sealer = Sealer(KEY, "only1mcp.x", version)
        opened = {other: sealer.open(token, "p", 50) for other, token in tokens.items()}
        assert opened == {other: b"abc" if other == version else None for other in tokens}
        # Too short to hold what every handle holds.
        assert sealer.open("A" * 38, "p", 50) is None


def test_what_has_expired_can_still_be_told() -> None:
    sealer = Sealer(KEY, "only1mcp.x", b"\x01")
    tokens = [sealer.seal(b"abc", "p", 100) for _ in range(2)]
    opened = [sealer.open_any(token, "p") for token in tokens]
    assert opened[0] is not None
    assert opened[1] is not None
    assert (opened[0].expires_at, opened[0].plain) == (100.0, b"abc")
    assert opened[0].name != opened[1].name
    assert sealer.open_any(tokens[0], "q") is None
