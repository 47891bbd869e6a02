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
_METHODS = {method: method.encode() for method in CAPABILITY_OF}
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


def check_stateless(head: RequestHead, message: Envelope) -> str:
    """Return the revision of a stateless request.

    Raise `ProtocolError` in the order that the revision's own checks have: -32020 for doubled headers, -32602 for
    missing `_meta`, -32020 where header and body differ, -32022 for a revision that we do not speak.
    """
    for name in (HEADER_METHOD, HEADER_NAME):
        if head.repeats(name):
            raise _mismatch(f"{name.decode()} must be sent once")
    data, meta = message.data, message.meta
    span, capabilities = (None, None) if meta is None else pick(data, meta, _META)
    revision = None if span is None else _maybe_plain(head, message, span)
    if revision is not None and capabilities is not None and data[capabilities[0]] == _BRACE:
        return revision
    version = None if span is None else string_at(data, span)
    if not isinstance(version, str):
        raise ProtocolError(f"params._meta must hold {mcp.META_VERSION!r}", code=INVALID_PARAMS)
    if capabilities is None or data[capabilities[0] : capabilities[0] + 1] != b"{":
        raise ProtocolError(f"params._meta must hold {mcp.META_CAPABILITIES!r}, an object", code=INVALID_PARAMS)
    method = message.method or ""
    _compare(head, HEADER_VERSION, version)
    _compare(head, HEADER_METHOD, method)
    named_by = NAMED_BY.get(method)
    if named_by is not None:
        span = message.name if named_by == "name" else message.uri
        if span is None:
            raise ProtocolError(f"params.{named_by} must be a string", code=INVALID_PARAMS)
        _compare(head, HEADER_NAME, jsonrpc.decode_string(data, span))
    if version not in STATELESS_REVISIONS:
        raise ProtocolError(
            "unsupported protocol version",
            code=mcp.UNSUPPORTED_VERSION,
            data={"supported": list(mcp.STATELESS_REVISIONS), "requested": version},
        )
    return version


def _maybe_plain(head: RequestHead, message: Envelope, version: Span) -> str | None:
    """Return the revision when headers and body agree octet for octet, None when that has to be looked at closely."""
    data, method = message.data, message.method or ""
    value = head.get(HEADER_VERSION) or b""
    revision = _REVISIONS.get(value)
    if revision is None or not says(data, version, value) or head.get(HEADER_METHOD) != _METHODS.get(method):
        return None
    named_by = NAMED_BY.get(method)
    if named_by is not None:
        name = head.get(HEADER_NAME)
        span = message.name if named_by == "name" else message.uri
        # A value that begins so may be in base64; one with blanks around it is not what the body says.
        if name is None or span is None or name.startswith(b"=?") or not says(data, span, name):
            return None
        if len(name) > MAX_VALUE_BYTES:
            return None
    return revision


def _compare(head: RequestHead, name: bytes, expected: str) -> None:
    value = head.get(name)
    if value is None:
        raise _mismatch(f"the header {name.decode()} is missing")
    text = decode_header(value) if name == HEADER_NAME else value.decode("latin-1")
    if text != expected:
        raise _mismatch(f"the header {name.decode()} does not match the request body")


def _mismatch(text: str) -> ProtocolError:
    return ProtocolError(text, code=mcp.HEADER_MISMATCH)
