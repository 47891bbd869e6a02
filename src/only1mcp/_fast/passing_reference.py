"""The plain-Python twin of `passing.pyx`, and what both share: the members of the result that passes."""

from __future__ import annotations

import codecs
import re
from typing import Final

import orjson

from only1mcp._fast.json_walk import MAX_DEPTH
from only1mcp.errors import INVALID_REQUEST, PARSE_ERROR, ProtocolError

# What the longest name takes with each letter as \uXXXX, and its quotes. A longer key is none of the names.
MAX_KEY_OCTETS: Final = 44
MAX_VERSION_OCTETS: Final = 20

_NAMES: Final = frozenset(("jsonrpc", "id", "method", "params", "result", "error"))
_KINDS: Final = frozenset(("method", "result", "error"))

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_TEXT: Final = re.compile(
    _PLAIN + rb'(?:\\(?:["\\/bfnrt]|u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    rb"|(?![dD][89a-fA-F])[0-9a-fA-F]{4}))" + _PLAIN + rb")*+"
)
_HALF_A_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UNFINISHED: Final = re.compile(
    rb"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?)?"
)
_NUMBER_OCTETS: Final = re.compile(rb"[-+.eE0-9]*+")
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_LITERALS: Final = {b"t": b"rue", b"f": b"alse", b"n": b"ull"}
_CLOSERS: Final = {b"{": b"}", b"[": b"]"}


class Message:
    """The top-level members of one response, as they come: `begin_member` with the key, `end_member` with the value.

    Of a key or a `wanted` value the first `room` octets are enough.
    """

    def __init__(self, id: bytes, replacement: bytes) -> None:
        self._id = id
        self._replacement = replacement
        self._seen: set[str] = set()
        self._member = ""

    @property
    def has_result(self) -> bool:
        return "result" in self._seen

    @property
    def in_id(self) -> bool:
        return self._member == "id"

    @property
    def wanted(self) -> bool:
        return self._member in ("id", "jsonrpc")

    @property
    def room(self) -> int:
        """One octet more than the longest token that matters."""
        return 1 + {"id": len(self._id), "jsonrpc": MAX_VERSION_OCTETS}.get(self._member, MAX_KEY_OCTETS)

    def begin_member(self, token: bytes) -> None:
        key = "" if len(token) > MAX_KEY_OCTETS else orjson.loads(token)
        name = key.casefold()
        if name in _NAMES:
            if name != key or name in self._seen:
                raise ProtocolError(f"'{name}' occurs twice or in another case")
            self._seen.add(name)
            if len(self._seen & _KINDS) > 1:
                raise ProtocolError("expected exactly one of method, result and error")
        self._member = name

    def begin_value(self, first: int) -> None:
        """Take the first octet of a wanted value."""
        if self._member == "id" and first != self._id[0]:
            raise _foreign()
        if self._member == "jsonrpc" and first != 0x22:
            raise _other_version()

    def end_member(self, token: bytes) -> bytes | None:
        """Take a wanted value; return what passes in its place, None for itself."""
        member, self._member = self._member, ""
        if member == "id":
            if token != self._id:
                raise _foreign()
            return self._replacement
        if len(token) > MAX_VERSION_OCTETS or orjson.loads(token) != "2.0":
            raise _other_version()
        return None

    def check(self) -> None:
        """Raise unless the message that ends here is a result."""
        if "jsonrpc" not in self._seen:
            raise _other_version()
        if not self._seen & _KINDS:
            raise ProtocolError("expected exactly one of method, result and error")
        if not self.has_result:
            raise ProtocolError("expected a result")
        if "id" not in self._seen:
            raise ProtocolError("a result must have an id")

    @staticmethod
    def no_object(first: int) -> ProtocolError:
        """Return the error for a message that begins with this octet."""
        if first == ord("["):
            return ProtocolError("batches are not supported: send one message at a time")
        return ProtocolError("expected a JSON object") if first in b'"-0123456789tfn' else broken()


class PassingScanner:
    """Validates one JSON-RPC result while it passes, and puts `replacement` in the place of its id.

    What is accepted is what `scan` accepts as a result whose id is the JSON text `id`; errors are those of `scan`, but
    reported where they are met, so that of several faults it may be another one that is named.
    """

    def __init__(self, id: bytes, replacement: bytes, max_depth: int = 64) -> None:
        self._message = Message(id, replacement)
        self._limit = min(max_depth, MAX_DEPTH)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._state = "top"
        self._closers: list[bytes] = []
        self._in_key = False
        # The top-level token that is being kept.
        self._token: bytes | None = None
        self._withheld = False
        self._number = bytearray()
        self._literal = b""
        # An escape that the end of the piece cut; has passed already.
        self._carry = b""

        self._text = b""
        self._at = 0
        self._passed = 0
        self._out: list[bytes | memoryview] = []

    @property
    def has_result(self) -> bool:
        """Whether the member `result` has begun: the message is no error."""
        return self._message.has_result

    @property
    def complete(self) -> bool:
        """Whether the message is valid and complete; only space may follow."""
        return self._state == "end"

    def receive_data(self, data: bytes) -> list[bytes | memoryview]:
        """Return what may leave now, parts of `data` mostly; raise `ProtocolError`, after which nothing more is asked.

        All but the id passes at once, also what turns out later to belong to no valid message.
        """
        try:
            self._utf8.decode(data)
        except UnicodeDecodeError:
            raise not_utf8() from None
        self._text = self._carry + data
        self._at = 0
        self._passed = len(self._carry)
        self._out = []
        while self._at < len(self._text) and self._step():
            pass
        self._carry = self._text[self._at :]
        if not self._withheld:
            self._let_pass(len(self._text))
        return self._out

    def receive_eof(self) -> None:
        """Nothing follows; raise `ProtocolError` when the message is not complete."""
        try:
            self._utf8.decode(b"", final=True)
        except UnicodeDecodeError:
            raise not_utf8() from None
        if self._state != "end":
            raise broken()

    def _step(self) -> bool:
        """Take one token, or as much of it as is here; False when nothing more can be taken."""
        if self._state == "string":
            return self._take_text()
        if self._state == "number":
            self._take_number()
            return True
        if self._state == "literal":
            self._take_literal()
            return True
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        if self._at < len(self._text):
            self._take_mark(self._text[self._at : self._at + 1])
        return True

    def _take_mark(self, mark: bytes) -> None:
        state = self._state
        start = self._at
        if state in ("value", "value or closer") and mark != b"]":
            self._begin_value(mark)
            return
        self._at += 1
        if state == "top":
            if mark != b"{":
                raise Message.no_object(mark[0])
            self._open(mark)
        elif state in ("key", "key or closer") and mark == b'"':
            self._in_key = True
            self._state = "string"
            if len(self._closers) == 1:
                self._keep(start, self._at)
        elif state == "colon" and mark == b":":
            self._state = "value"
        elif state == "next" and mark == b",":
            self._state = "key" if self._closers[-1] == b"}" else "value"
        elif state in ("next", "key or closer", "value or closer") and mark == self._closers[-1]:
            self._closers.pop()
            self._end_value()
        else:
            raise broken()

    def _begin_value(self, mark: bytes) -> None:
        start = self._at
        if len(self._closers) == 1 and self._message.wanted:
            self._message.begin_value(mark[0])
            self._token = b""
            if self._message.in_id:
                self._let_pass(start)
                self._withheld = True
        if mark in b"-0123456789":
            self._state = "number"
            self._number.clear()
            return
        self._advance(start + 1)
        if mark == b'"':
            self._state = "string"
        elif mark in _CLOSERS:
            self._open(mark)
        elif mark in _LITERALS:
            self._state = "literal"
            self._literal = _LITERALS[mark]
        else:
            raise broken()

    def _open(self, opener: bytes) -> None:
        if len(self._closers) >= self._limit:
            raise too_deep(self._limit)
        self._closers.append(_CLOSERS[opener])
        self._state = "key or closer" if opener == b"{" else "value or closer"

    def _take_text(self) -> bool:
        match = _TEXT.match(self._text, self._at)
        assert match is not None
        self._advance(match.end())
        mark = self._text[self._at : self._at + 1]
        if not mark or (mark == b"\\" and _UNFINISHED.fullmatch(self._text, self._at)):
            return False
        if mark != b'"':
            raise lone_surrogate() if _HALF_A_PAIR.match(self._text, self._at) else broken()
        self._advance(self._at + 1)
        if not self._in_key:
            self._end_value()
            return True
        self._in_key = False
        self._state = "colon"
        if self._token is not None:
            token, self._token = self._token, None
            self._message.begin_member(token)
        return True

    def _take_number(self) -> None:
        match = _NUMBER_OCTETS.match(self._text, self._at)
        assert match is not None
        self._number += match[0]
        self._advance(match.end())
        if self._at < len(self._text):
            if _NUMBER.fullmatch(self._number) is None:
                raise broken()
            if float(self._number) in (float("inf"), float("-inf")):
                raise too_large()
            self._end_value()

    def _take_literal(self) -> None:
        part = self._text[self._at : self._at + len(self._literal)]
        if not self._literal.startswith(part):
            raise broken()
        self._literal = self._literal[len(part) :]
        self._advance(self._at + len(part))
        if not self._literal:
            self._end_value()

    def _end_value(self) -> None:
        self._state = "next" if self._closers else "end"
        if not self._closers:
            self._message.check()
        if len(self._closers) == 1 and self._token is not None:
            token, self._token = self._token, None
            replacement = self._message.end_member(token)
            if replacement is not None:
                self._withheld = False
                self._passed = self._at
                self._out.append(replacement)

    def _advance(self, end: int) -> None:
        if self._token is not None:
            self._keep(self._at, end)
        self._at = end

    def _keep(self, start: int, end: int) -> None:
        """Add a part of the token, as far as it makes a difference."""
        token = self._token or b""
        self._token = token + self._text[start : min(end, start + max(0, self._message.room - len(token)))]

    def _let_pass(self, end: int) -> None:
        if end > self._passed:
            self._out.append(self._text[self._passed : end])
            self._passed = end


def broken() -> ProtocolError:
    return ProtocolError("the message is not valid JSON", code=PARSE_ERROR)


def not_utf8() -> ProtocolError:
    return ProtocolError("the message is not UTF-8", code=PARSE_ERROR)


def lone_surrogate() -> ProtocolError:
    return ProtocolError("a string in the message has half a surrogate pair", code=PARSE_ERROR)


def too_large() -> ProtocolError:
    return ProtocolError("a number in the message is too large for a double", code=PARSE_ERROR)


def too_deep(limit: int) -> ProtocolError:
    return ProtocolError(f"the message is nested deeper than {limit} levels", code=INVALID_REQUEST)


def _foreign() -> ProtocolError:
    return ProtocolError("the id is not the one of the request")


def _other_version() -> ProtocolError:
    return ProtocolError("jsonrpc must be '2.0'")
