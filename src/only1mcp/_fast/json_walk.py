"""Walks over JSON (RFC 8259) without decoding it and without recursion; the plain-Python twin of json_walk.pxd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from only1mcp.errors import PARSE_ERROR, ProtocolError

Span = tuple[int, int]

# The nesting at which orjson, which decodes what we forward, gives up.
MAX_DEPTH: Final = 1024
# Ten megabytes of the smallest members, taken apart, cost seconds and hundreds of megabytes. No object that is looked
# into has as many.
MAX_MEMBERS: Final = 16384


class TooDeep(Exception):
    """The nesting passed the limit."""


_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING_START: Final = (
    rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    rb"|(?![dD][89a-fA-F])[0-9a-fA-F]{4})))*+"
)
_NUMBER_PATTERN: Final = rb"-?(?:0|[1-9][0-9]*+)(?![0-9])(?:\.[0-9]++|(?!\.))(?:[eE][+-]?[0-9]++|(?![eE]))"
_STRING: Final = re.compile(_STRING_START + b'"')
_SCALAR: Final = re.compile(_STRING_START + rb'"|(' + _NUMBER_PATTERN + rb")|true|false|null")
_LONE_SURROGATE: Final = re.compile(_STRING_START + rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_CLOSER: Final = {b"[": b"]", b"{": b"}"}


class Walker:
    """A position in one JSON text, and the ways forward from it; `ProtocolError` where the text is not JSON."""

    def __init__(self, data: bytes, position: int, limit: int) -> None:
        self.data = data
        self.position = position
        self.limit = limit
        self.depth = 0

    def space(self) -> None:
        match = _SPACE.match(self.data, self.position)
        assert match is not None
        self.position = match.end()

    def peek(self) -> bytes:
        return self.data[self.position : self.position + 1]

    def broken(self) -> ProtocolError:
        return ProtocolError("the message is not valid JSON", code=PARSE_ERROR)

    def finish(self) -> None:
        """Raise unless nothing but space is left."""
        self.space()
        if self.position != len(self.data):
            raise self.broken()

    def members(self) -> Iterator[tuple[bytes, Span]]:
        """Yield the key token and the value's span of each member of the object at `position`."""
        more = self._open(b"{")
        while more:
            token = self._key()
            start = self.position
            self.value()
            yield token, (start, self.position)
            more = self._next(b"}")

    def elements(self) -> Iterator[Span]:
        """Yield the span of each element of the array at `position`."""
        more = self._open(b"[")
        while more:
            start = self.position
            self.value()
            yield start, self.position
            more = self._next(b"]")

    def value(self) -> None:
        """Move past the value at `position`."""
        closers: list[bytes] = []
        while True:
            opener = self.peek()
            if opener in _CLOSER:
                if self._open(opener):
                    closers.append(_CLOSER[opener])
                    if opener == b"{":
                        self._key()
                    continue
            else:
                self._scalar()
            while closers:
                if self._next(closers[-1]):
                    if closers[-1] == b"}":
                        self._key()
                    break
                closers.pop()
            else:
                return

    def _open(self, opener: bytes) -> bool:
        """Enter the container at `position`; return whether it has a first item, and leave it again if not."""
        if self.depth >= self.limit:
            raise TooDeep
        self.depth += 1
        self.position += 1
        self.space()
        if self.peek() != _CLOSER[opener]:
            return True
        self.position += 1
        self.depth -= 1
        return False

    def _next(self, closer: bytes) -> bool:
        """Move past the comma after an item and return True, or past the closer and return False."""
        self.space()
        mark = self.peek()
        self.position += 1
        if mark == b",":
            self.space()
            return True
        if mark != closer:
            raise self.broken()
        self.depth -= 1
        return False

    def _key(self) -> bytes:
        match = _STRING.match(self.data, self.position)
        if match is None:
            raise self._unreadable()
        self.position = match.end()
        self.space()
        if self.peek() != b":":
            raise self.broken()
        self.position += 1
        self.space()
        return match[0]

    def _scalar(self) -> None:
        match = _SCALAR.match(self.data, self.position)
        if match is None:
            raise self._unreadable()
        if match[1] is not None and float(match[1]) in (float("inf"), float("-inf")):
            raise ProtocolError("a number in the message is too large for a double", code=PARSE_ERROR)
        self.position = match.end()

    def _unreadable(self) -> ProtocolError:
        if _LONE_SURROGATE.match(self.data, self.position):
            return ProtocolError("a string in the message has half a surrogate pair", code=PARSE_ERROR)
        return self.broken()
