"""Which era an HTTP request belongs to, and whether its mirrored headers agree with its body.

MCP 2026-07-28 "Streamable HTTP" (routing headers, compatibility) and 2025-11-25 "Protocol Version Header".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from only1mcp._fast import members, pick, says, string_at
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.http1_events import RequestHead
from only1mcp.wire.jsonrpc import Span
from only1mcp.wire.mcp import (
    CAPABILITY_OF,
    HANDSHAKE,
    HEADER_METHOD,
    HEADER_NAME,
    HEADER_VERSION,
    NAMED_BY,
    STATELESS_REVISIONS,
    Era,
)
from only1mcp.wire.mirror import MAX_VALUE_BYTES, decode_header

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

_REVISIONS = {revision.encode(): revision for revision in STATELESS_REVISIONS}
_METHODS = {method.encode(): method for method in CAPABILITY_OF}
_BRACE = ord("{")
_META = (mcp.META_VERSION.encode(), mcp.META_CAPABILITIES.encode())


def era_of_headers(head: RequestHead) -> Era | None:
    """Return the era that the headers alone decide, None where the body of a POST must."""
    if head.repeats(HEADER_VERSION):
        raise _mismatch("MCP-Protocol-Version must be sent once")
    version = head.get(HEADER_VERSION)
    if version is not None:
        return mcp.era_of(version.decode("latin-1"))
    if head.method != b"POST" or head.get(mcp.HEADER_SESSION) is not None:
        return HANDSHAKE
    return None


def era_of_message(message: Envelope) -> Era:
    """Return the era of a POST without version header and session; -32020 for a stateless client that forgot it."""
    if message.meta is not None and mcp.META_VERSION in members(message.data, *message.meta):
        raise _mismatch("a request with a protocol version in _meta needs the MCP-Protocol-Version header")
    return HANDSHAKE


class Routing:
    """The headers in which a stateless request says again what its body says: version, method and name."""

    __slots__ = ("method", "name", "named_by", "plain_method", "plain_name", "revision", "version")

    def __init__(self, version: bytes | None, method: bytes | None, name: bytes | None) -> None:
        self.version = version
        self.method = method
        self.name = name
        # What can be held against the body octet by octet; None where it takes a closer look.
        self.revision = None if version is None else _REVISIONS.get(version)
        self.plain_method = None if method is None else _METHODS.get(method)
        self.named_by = None if self.plain_method is None else NAMED_BY.get(self.plain_method)
        # A value that begins so may be in base64; one with blanks around it is not what the body says.
        plain = name is not None and len(name) <= MAX_VALUE_BYTES and not name.startswith(b"=?")
        self.plain_name = name if plain else None


def routing_of(head: RequestHead) -> Routing:
    """Return the routing headers; raise `ProtocolError` (-32020) for one that is sent twice."""
    for name in (HEADER_METHOD, HEADER_NAME):
        if head.repeats(name):
            raise _mismatch(f"{name.decode()} must be sent once")
    return Routing(head.get(HEADER_VERSION), head.get(HEADER_METHOD), head.get(HEADER_NAME))


def check_stateless(routing: Routing, message: Envelope) -> str:
    """Return the revision of a stateless request, whose headers `routing_of` has read.

    Raise `ProtocolError` in the order that the revision's own checks have: -32602 for missing
    `_meta`, -32020 where header and body differ, -32022 for a revision that we do not speak.
    """
    data, meta = message.data, message.meta
    span, capabilities = (None, None) if meta is None else pick(data, meta, _META)
    revision = None if span is None else _maybe_plain(routing, message, span)
    if revision is not None and capabilities is not None and data[capabilities[0]] == _BRACE:
        return revision
    version = None if span is None else string_at(data, span)
    if not isinstance(version, str):
        raise ProtocolError(f"params._meta must hold {mcp.META_VERSION!r}", code=INVALID_PARAMS)
    if capabilities is None or data[capabilities[0] : capabilities[0] + 1] != b"{":
        raise ProtocolError(f"params._meta must hold {mcp.META_CAPABILITIES!r}, an object", code=INVALID_PARAMS)
    method = message.method or ""
    _compare(HEADER_VERSION, routing.version, version)
    _compare(HEADER_METHOD, routing.method, method)
    named_by = NAMED_BY.get(method)
    if named_by is not None:
        span = _named(message, named_by)
        if span is None:
            raise ProtocolError(f"params.{named_by} must be a string", code=INVALID_PARAMS)
        _compare(HEADER_NAME, routing.name, jsonrpc.decode_string(data, span))
    if version not in STATELESS_REVISIONS:
        raise ProtocolError(
            "unsupported protocol version",
            code=mcp.UNSUPPORTED_VERSION,
            data={"supported": list(mcp.STATELESS_REVISIONS), "requested": version},
        )
    return version


def _maybe_plain(routing: Routing, message: Envelope, version: Span) -> str | None:
    """Return the revision when headers and body agree octet for octet, None when that has to be looked at closely."""
    data, revision, method = message.data, routing.revision, routing.plain_method
    if revision is None or method is None or message.method != method:
        return None
    assert routing.version is not None
    if not says(data, version, routing.version):
        return None
    named_by = routing.named_by
    if named_by is not None:
        span = message.name if named_by == "name" else message.uri
        if routing.plain_name is None or span is None or not says(data, span, routing.plain_name):
            return None
    return revision


def _named(message: Envelope, named_by: str) -> Span | None:
    if named_by == "name":
        return message.name
    if named_by == "uri":
        return message.uri
    return None if message.params is None else members(message.data, *message.params).get(named_by)


def _compare(name: bytes, value: bytes | None, expected: str) -> None:
    if value is None:
        raise _mismatch(f"the header {name.decode()} is missing")
    text = decode_header(value) if name == HEADER_NAME else value.decode("latin-1")
    if text != expected:
        raise _mismatch(f"the header {name.decode()} does not match the request body")


def _mismatch(text: str) -> ProtocolError:
    return ProtocolError(text, code=mcp.HEADER_MISMATCH)
