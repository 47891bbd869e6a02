"""What `calls.pyx` does, in plain Python: a plain call of a tool is read, and written as a whole HTTP message.

Plain is what needs no decision but where it goes. Everything else is not looked at any closer here, since the ordinary
way takes every request, and says what is wrong with it.
"""

from __future__ import annotations

from only1mcp._fast.framing_reference import finish_message
from only1mcp._fast.json_walk import Span
from only1mcp._fast.reference import REQUEST, RESULT, Envelope, members, scan
from only1mcp._fast.spans_reference import splice
from only1mcp.errors import ProtocolError

_VERSION = b'"2.0"'
_METHOD = b'"tools/call"'


class CallText:
    """A `tools/call` as it came: its octets are `data` from `start` on."""

    __slots__ = ("_message", "data", "start")

    def __init__(self, data: bytes, start: int, message: Envelope) -> None:
        self.data = data
        self.start = start
        self._message = message

    def id(self) -> bytes:
        """Return the id as it is spelled."""
        assert self._message.id is not None
        return self._message.id

    def name(self) -> bytes:
        """Return the name of the tool; it is ASCII."""
        assert self._message.name is not None
        return self._message.data[self._message.name[0] + 1 : self._message.name[1] - 1]

    def names(self, name: bytes) -> bool:
        """Return whether that is the name of the tool."""
        return self.name() == name

    def named_at(self, start: int, end: int) -> bool:
        """Return whether the octets of `data` from `start` to `end` are the name of the tool."""
        if not 0 <= start <= end <= len(self.data):
            raise IndexError(f"span {start}:{end} of {len(self.data)} bytes")
        return self.name() == self.data[start:end]

    def meta_span(self) -> Span | None:
        """Return where `params._meta` stands in `data`, None where there is none."""
        meta = self._message.meta
        return None if meta is None else (meta[0] + self.start, meta[1] + self.start)

    def has_meta(self, text: bytes) -> bool:
        """Return whether there is a `params._meta` of just these octets."""
        span = self.meta_span()
        return span is not None and self.data[slice(*span)] == text

    def request(self, head: bytes, id: int, renamed: bytes | None) -> bytes:
        """Return the HTTP request that brings the call to a backend.

        `head` is its head but for Content-Length and the empty line, `id` not negative, `renamed` the JSON text of the
        name there, None where it is the same.
        """
        message = self._message
        assert message.id_span is not None
        assert message.name is not None
        edits = [(*message.id_span, b"%d" % id)]
        if renamed is not None:
            edits.append((*message.name, renamed))
        return finish_message(head, splice(message.data, edits))

    def answer(self, head: bytes, response: bytes, start: int, id: int, typed: bool) -> bytes | None:
        """Return the HTTP response that brings the client its answer: the octets of `response` from `start` on.

        None where these are not a result with that id, whole, valid and unambiguous as `scan` has it; and where it has
        no `resultType` although it must be `typed`.
        """
        try:
            message = scan(response[start:])
        except ProtocolError:
            return None
        if message.kind != RESULT or message.id != b"%d" % id or not _is_plain_version(message.data):
            return None
        if typed and not message.typed:
            return None
        assert message.id_span is not None
        return finish_message(head, splice(message.data, [(*message.id_span, self.id())]))


def maybe_call(data: bytes, start: int, max_depth: int) -> CallText | None:
    """Return the message that `data` is from `start` on if it is a plain `tools/call`, else None.

    Plain is a valid request, in the sense of `scan`, of which `jsonrpc`, the method and the name of the tool are
    spelled without escapes, the name in ASCII, and that has no progress token.
    """
    if not 0 <= start <= len(data):
        raise IndexError(f"position {start} of {len(data)} bytes")
    try:
        message = scan(data[start:], max_depth)
    except ProtocolError:
        return None
    text = message.data
    if message.kind != REQUEST or message.name is None or message.method_span is None:
        return None
    if text[slice(*message.method_span)] != _METHOD or not _is_plain_version(text):
        return None
    name = text[slice(*message.name)]
    if b"\\" in name or not name.isascii() or b"\x7f" in name:
        return None
    if message.meta is not None:
        meta = text[slice(*message.meta)]
        if b"\\" in meta or b"progressToken" in meta:
            return None
    return CallText(data, start, message)


def _is_plain_version(text: bytes) -> bool:
    return text[slice(*members(text, 0, len(text))["jsonrpc"])] == _VERSION
