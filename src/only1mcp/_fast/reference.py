"""The plain-Python twin of the scanner: oracle in tests, type stub for mypy, fallback without a compiler.

The twins of the other compiled parts are in `framing_reference`, `lru_reference`, `ring_reference` and
`counters_reference`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import orjson

from only1mcp._fast.json_walk import MAX_DEPTH, MAX_MEMBERS, Span, TooDeep, Walker
from only1mcp.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, ProtocolError

REQUEST: Final = 1
NOTIFICATION: Final = 2
RESULT: Final = 3
ERROR: Final = 4

# An id is echoed, logged and kept as a key: a longer one is an attempt to make us store the sender's data.
MAX_ID_OCTETS: Final = 256

_INTEGER: Final = re.compile(rb"-?[0-9]+")
_MEMBERS: Final = frozenset(("jsonrpc", "id", "method", "params", "result", "error"))
_PARAMS_MEMBERS: Final = frozenset(("name", "uri", "_meta"))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Envelope:
    """One JSON-RPC message: its bytes, and where in them the parts are that a proxy reads or replaces.

    Spans are half-open byte offsets into `data`; the span of a string includes its quotes. `name`, `uri` and `meta` are
    those of `params`. `typed`: the result has a member `resultType`, spelled without escapes.
    """

    data: bytes
    kind: int
    id: bytes | None
    id_span: Span | None
    method: str | None
    method_span: Span | None
    params: Span | None
    name: Span | None
    uri: Span | None
    meta: Span | None
    result: Span | None
    error: Span | None
    typed: bool

    def __repr__(self) -> str:
        return f"<Envelope kind={self.kind} method={self.method!r} id={self.id!r} {len(self.data)} bytes>"


def scan(data: bytes, max_depth: int = 64) -> Envelope:
    """Validate one JSON-RPC 2.0 message and return its envelope (MCP "Base Protocol", "Messages").

    Raises `ProtocolError`: -32700 for what is not one JSON text in UTF-8 (RFC 8259; numbers beyond a double and lone
    surrogates included), -32600 for nesting beyond `max_depth` (at most 1024), batches, and whatever two parsers could
    read differently, -32602 for params of the wrong type. Its `id` is set wherever the id could be read.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("the message is not UTF-8", code=PARSE_ERROR) from None
    walker = Walker(data, 0, min(max_depth, MAX_DEPTH))
    walker.space()
    opener = walker.peek()
    found = _Found(_MEMBERS)
    try:
        if opener == b"{":
            for token, span in walker.members():
                found.add(token, span)
        else:
            walker.value()
    except TooDeep:
        raise ProtocolError(
            f"the message is nested deeper than {walker.limit} levels", id=_readable_id(data, found)
        ) from None
    walker.finish()
    if opener == b"[":
        raise ProtocolError("batches are not supported: send one message at a time")
    if opener != b"{":
        raise ProtocolError("expected a JSON object")
    return _envelope(data, found)


def members(data: bytes, start: int, end: int) -> dict[str, Span]:
    """Return the spans of the values of the JSON object at `start:end`.

    Raise `ProtocolError` for a repeated key, and for more than `MAX_MEMBERS`.

    The bytes must have passed `scan` (or orjson): anything else raises `ProtocolError` or yields spans of values that
    are not UTF-8. `IndexError` when the span is not one of `data`.
    """
    walker = _enter(data, start, end)
    if walker.peek() != b"{":
        raise ProtocolError("expected a JSON object")
    spans: dict[str, Span] = {}
    try:
        for token, (value_start, value_end) in walker.members():
            key = _decode(token)
            if key in spans:
                raise ProtocolError("an object has the same key twice")
            if len(spans) == MAX_MEMBERS:
                raise ProtocolError(f"an object has more than {MAX_MEMBERS} members")
            spans[key] = (start + value_start, start + value_end)
    except TooDeep:
        raise walker.broken() from None
    walker.finish()
    return spans


def elements(data: bytes, start: int, end: int) -> list[Span]:
    """Return the spans of the elements of the JSON array at `start:end`; the bytes as for `members`."""
    walker = _enter(data, start, end)
    if walker.peek() != b"[":
        raise ProtocolError("expected a JSON array")
    try:
        spans = [(start + value_start, start + value_end) for value_start, value_end in walker.elements()]
    except TooDeep:
        raise walker.broken() from None
    walker.finish()
    return spans


def _enter(data: bytes, start: int, end: int) -> Walker:
    if not 0 <= start <= end <= len(data):
        raise IndexError(f"span {start}:{end} of {len(data)} bytes")
    walker = Walker(data[start:end], 0, MAX_DEPTH)
    walker.space()
    return walker


class _Found:
    """The members of one object that matter, each at its first place, and whether a reader could mistake them."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.spans: dict[str, Span] = {}
        self.ambiguous: str | None = None  # the first name that is repeated or spelled in another case
        self.ambiguous_id = False
        self.unknown = False

    def add(self, token: bytes, span: Span) -> None:
        key = _decode(token)
        name = key.casefold()
        if name not in self.names:
            self.unknown = True
        elif name != key or name in self.spans:
            self.ambiguous = self.ambiguous or name
            self.ambiguous_id = self.ambiguous_id or name == "id"
        else:
            self.spans[name] = span


def _decode(token: bytes) -> str:
    """Return the text of a valid JSON string token."""
    try:
        text: str = orjson.loads(token)
    except orjson.JSONDecodeError:
        raise ProtocolError("the message is not UTF-8", code=PARSE_ERROR) from None
    return text


def _readable_id(data: bytes, found: _Found) -> bytes | None:
    """Return the token of the id when there is exactly one and it is of a kind that may be echoed."""
    if found.ambiguous_id or "id" not in found.spans:
        return None
    start, end = found.spans["id"]
    token = data[start:end]
    if len(token) > MAX_ID_OCTETS or not (token[:1] == b'"' or _INTEGER.fullmatch(token)):
        return None
    return token


def _envelope(data: bytes, found: _Found) -> Envelope:
    """Check the shape of a valid JSON object against JSON-RPC 2.0 and return its envelope."""
    spans = found.spans
    id = _readable_id(data, found)

    def refused(message: str, code: int = INVALID_REQUEST) -> ProtocolError:
        return ProtocolError(message, code=code, id=id)

    def first(name: str) -> bytes:
        start = spans[name][0]
        return data[start : start + 1]

    if found.ambiguous is not None:
        raise refused(f"'{found.ambiguous}' occurs twice or in another case")
    version = spans.get("jsonrpc")
    if version is None or orjson.loads(data[version[0] : version[1]]) != "2.0":
        raise refused("jsonrpc must be '2.0'")
    if "id" in spans and id is None and not ("error" in spans and "method" not in spans and first("id") == b"n"):
        raise refused(f"id must be a string or an integer of at most {MAX_ID_OCTETS} octets")
    if ("method" in spans) + ("result" in spans) + ("error" in spans) != 1:
        raise refused("expected exactly one of method, result and error")

    method = params = name = uri = meta = None
    if "method" in spans:
        if found.unknown:
            raise refused("a request has only the members jsonrpc, id, method and params")
        if first("method") != b'"':
            raise refused("method must be a string")
        method = _decode(data[slice(*spans["method"])])
        kind = NOTIFICATION if id is None else REQUEST
        params = spans.get("params")
        if params is not None:
            if first("params") != b"{":
                raise refused("params must be an object", INVALID_PARAMS)
            inner = _Found(_PARAMS_MEMBERS)
            for token, span in Walker(data, params[0], MAX_DEPTH).members():
                inner.add(token, span)
            if inner.ambiguous is not None:
                raise refused(f"'{inner.ambiguous}' occurs twice or in another case in params")
            name, uri, meta = (inner.spans.get(key) for key in ("name", "uri", "_meta"))
            if name is not None and data[name[0]] != 0x22:
                raise refused("params.name must be a string", INVALID_PARAMS)
            if uri is not None and data[uri[0]] != 0x22:
                raise refused("params.uri must be a string", INVALID_PARAMS)
            if meta is not None and data[meta[0]] != 0x7B:
                raise refused("params._meta must be an object", INVALID_PARAMS)
    elif "result" in spans:
        if id is None:
            raise refused("a result must have an id")
        kind = RESULT
    else:
        if first("error") != b"{":
            raise refused("error must be an object")
        kind = ERROR
    return Envelope(
        data=data,
        kind=kind,
        id=id,
        id_span=None if id is None else spans["id"],
        method=method,
        method_span=spans.get("method"),
        params=params,
        name=name,
        uri=uri,
        meta=meta,
        result=spans.get("result"),
        error=spans.get("error"),
        typed=kind == RESULT and _is_typed(data, spans["result"]),
    )


def _is_typed(data: bytes, result: Span) -> bool:
    if data[result[0]] != 0x7B:
        return False
    walker = Walker(data, result[0], MAX_DEPTH + 1)
    return any(token == b'"resultType"' for token, _ in walker.members())
