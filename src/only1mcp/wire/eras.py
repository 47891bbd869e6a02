"""Carries one plain request and its answer between the eras (handshake, stateless), byte for byte where both agree.

Sources: MCP 2026-07-28 "Base protocol" (`_meta`, `resultType`), "Caching", and 2025-11-25 for the handshake era.
Same era on both sides changes nothing but the id, the name or URI, and the progress token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from only1mcp._fast import ERROR, members, mentions, pick, splice
from only1mcp.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BackendAnswerError,
    HeadersRefused,
    ProtocolError,
)
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.jsonrpc import Edit, Span, replace_id
from only1mcp.wire.mcp import HANDSHAKE, STATELESS, Era

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

_HTTP_STATUS = {
    METHOD_NOT_FOUND: 404,
    INVALID_PARAMS: 400,
    -32600: 400,
    -32700: 400,
    mcp.HEADER_MISMATCH: 400,
    mcp.MISSING_CAPABILITY: 400,
    mcp.UNSUPPORTED_VERSION: 400,
}
NO_STAMP = b"{}"
_PROGRESS_TOKEN = (b"progressToken",)
# How the JSON text of a string or a number begins: the two types of a progress token.
_TOKEN_STARTS = b'"-0123456789'
# Of a backend's message that becomes part of an error of ours.
MAX_MESSAGE_CHARS = 1000
# Outside the handshake era's vocabulary: codes that the stateless revision reserves for its own meanings.
_STATELESS_CODES = range(-32099, -32019)


class Outbound:
    """A request ready for a backend; `progress_token` is the client's own token, to be put back into progress."""

    __slots__ = ("message", "progress_token")

    def __init__(self, message: bytes, progress_token: bytes | None) -> None:
        self.message = message
        self.progress_token = progress_token


@dataclass(frozen=True, slots=True)
class Caller:
    """Who speaks to a backend: what a stateless request carries in `_meta`, as JSON texts."""

    client_info: bytes
    capabilities: bytes = b"{}"


def to_backend(
    request: Envelope,
    id: bytes,
    client: Era,
    backend: Era,
    revision: str,
    caller: Caller,
    replace: Edit | None = None,
    level: bytes | None = None,
) -> Outbound:
    """Return the request as this backend must see it: our id, its own name or URI (`replace`), its era's `_meta`.

    `revision` is the backend's, `level` (a JSON text) the log level that a handshake client has set for its session. A
    progress token becomes the id, so that two clients' tokens never meet in one session.
    """
    data = request.data
    edits: list[Edit] = [] if replace is None else [replace]
    assert request.id_span is not None
    edits.append((*request.id_span, id))
    token = _progress_token(data, request.meta)
    put: dict[str, bytes] = {} if token is None else {"progressToken": id}
    drop: tuple[str, ...] = ()
    if client is HANDSHAKE and backend is STATELESS:
        put.update(stateless_meta(revision, caller))
        if level is None:
            drop = (mcp.META_LOG_LEVEL,)
        else:
            put[mcp.META_LOG_LEVEL] = level
    elif client is STATELESS and backend is HANDSHAKE:
        drop = mcp.STATELESS_REQUEST_META
    if put or drop:
        edits.append(_meta_edit(data, request, put, drop))
    return Outbound(splice(data, edits), token)


def stateless_meta(revision: str, caller: Caller) -> dict[str, bytes]:
    """Return the members that every stateless request carries in `params._meta`."""
    return {
        mcp.META_VERSION: orjson.dumps(revision),
        mcp.META_CAPABILITIES: caller.capabilities,
        mcp.META_CLIENT_INFO: caller.client_info,
    }


def own_params(era: Era, revision: str, caller: Caller, fields: dict[str, bytes]) -> bytes:
    """Return the params of a request that the proxy makes itself; `fields` maps members to JSON texts."""
    parts = [orjson.dumps(key) + b":" + value for key, value in fields.items()]
    if era is STATELESS:
        meta = b",".join(orjson.dumps(k) + b":" + v for k, v in stateless_meta(revision, caller).items())
        parts.append(b'"_meta":{' + meta + b"}")
    return b"{" + b",".join(parts) + b"}"


def to_client(
    answer: Envelope, id: bytes, method: str, uri: str | None, client: Era, backend: Era, server_info: bytes
) -> tuple[int, bytes]:
    """Return HTTP status and body of the answer for a client of era `client`; `server_info` is from `stamp_of`.

    Raise `BackendAnswerError` for a result that this client's era cannot express, or that two readers could read
    differently, `HeadersRefused` for a tool call whose headers did not fit: those are ours to mend.
    """
    try:
        if answer.kind == ERROR:
            return _error_to_client(answer, id=id, method=method, uri=uri, client=client, backend=backend)
        if client is backend and (answer.typed or client is HANDSHAKE):
            return 200, replace_id(answer, id)
        assert answer.result is not None
        fields = members(answer.data, *answer.result)
        if client is backend:
            if "resultType" in fields:
                return 200, replace_id(answer, id)
            value = _complete_result(answer.data, answer.result, fields, method)
        elif client is STATELESS:
            value = _stateless_result(answer.data, answer.result, fields, method, server_info)
        else:
            value = _handshake_result(answer.data, answer.result, fields)
        return 200, jsonrpc.result(id, value)
    except ProtocolError as error:
        raise BackendAnswerError(f"the backend's answer cannot be used: {error.message}") from error


def stamp_of(server_info: dict[str, Any]) -> bytes:
    """Return what a backend said that it is (an `Implementation`), `{}` where the name or the version is missing."""
    whole = all(isinstance(server_info.get(key), str) for key in ("name", "version"))
    return orjson.dumps(server_info) if whole else NO_STAMP


def http_status(code: int, client: Era) -> int:
    """Return the HTTP status that goes with a JSON-RPC error code (2026-07-28 transports, "Error handling")."""
    return _HTTP_STATUS.get(code, 200) if client is STATELESS else 200


def _progress_token(data: bytes, meta: Span | None) -> bytes | None:
    """Return the client's token; what is neither string nor number is none and stays where it is."""
    if meta is None:
        return None
    if not mentions(data, meta, b"progressToken"):
        return None
    (span,) = pick(data, meta, _PROGRESS_TOKEN)
    return None if span is None or data[span[0]] not in _TOKEN_STARTS else data[slice(*span)]


def _meta_edit(data: bytes, request: Envelope, put: dict[str, bytes], drop: tuple[str, ...]) -> Edit:
    if request.meta is not None:
        return (*request.meta, jsonrpc.edit_object(data, request.meta, put=put, drop=drop))
    meta = b'"_meta":' + jsonrpc.edit_object(b"{}", (0, 2), put=put)
    if request.params is None:
        at = data.rindex(b"}")
        return (at, at, b',"params":{' + meta + b"}")
    start, end = request.params
    empty = not data[start + 1 : end - 1].strip()
    return (start + 1, start + 1, meta if empty else meta + b",")


def _stateless_result(data: bytes, span: Span, fields: dict[str, Span], method: str, server_info: bytes) -> bytes:
    put: dict[str, bytes] = {"resultType": b'"complete"'}
    if method in mcp.CACHEABLE:
        put["ttlMs"] = b"0"
        put["cacheScope"] = b'"private"'
    meta = fields.get("_meta")
    stamp = {} if server_info == NO_STAMP else {mcp.META_SERVER_INFO: server_info}
    if meta is not None and data[meta[0] : meta[0] + 1] == b"{":
        # Who the backend is it has said to us, whatever it says here.
        put["_meta"] = jsonrpc.edit_object(data, meta, put=stamp, drop=(mcp.META_SERVER_INFO,))
    elif stamp:
        put["_meta"] = jsonrpc.edit_object(b"{}", (0, 2), put=stamp)
    return jsonrpc.edit_object(data, span, put=put, drop=("_meta",))


def _complete_result(data: bytes, span: Span, fields: dict[str, Span], method: str) -> bytes:
    """Return a result that does not say that it is complete (it may leave that out, we may not) as one that does."""
    put = {"resultType": b'"complete"'}
    if method in mcp.CACHEABLE:
        put |= {name: text for name, text in (("ttlMs", b"0"), ("cacheScope", b'"private"')) if name not in fields}
    return jsonrpc.edit_object(data, span, put=put)


def _handshake_result(data: bytes, span: Span, fields: dict[str, Span]) -> bytes:
    kind = jsonrpc.decode(data, fields["resultType"]) if "resultType" in fields else "complete"
    if kind != "complete":
        raise BackendAnswerError(
            f"the backend answered with resultType {kind!r:.40}, which a client of the handshake era cannot be given"
        )
    drop = ["resultType", "ttlMs", "cacheScope"]
    put: dict[str, bytes] = {}
    structured = fields.get("structuredContent")
    if structured is not None and data[structured[0] : structured[0] + 1] != b"{":
        drop.append("structuredContent")  # any JSON value in 2026-07-28, an object before
        content = fields.get("content")
        if content is None or not data[content[0] + 1 : content[1] - 1].strip():
            # Nothing else says it.
            text = data[structured[0] : structured[1]].decode()
            put["content"] = b'[{"type":"text","text":' + orjson.dumps(text) + b"}]"
    return jsonrpc.edit_object(data, span, put=put, drop=drop)


def _error_to_client(
    answer: Envelope, *, id: bytes, method: str, uri: str | None, client: Era, backend: Era
) -> tuple[int, bytes]:
    assert answer.error is not None
    span = answer.error
    fields = members(answer.data, *span)
    code = jsonrpc.decode(answer.data, fields["code"]) if "code" in fields else None
    if not isinstance(code, int) or isinstance(code, bool):
        raise BackendAnswerError("the backend's error has no integer code")
    original = code
    if code == mcp.HEADER_MISMATCH and backend is STATELESS and method == "tools/call":
        raise HeadersRefused(_message(answer.data, fields))
    put: dict[str, bytes] = {}
    if "message" not in fields or answer.data[fields["message"][0]] != ord('"'):
        put["message"] = b'"the backend gave no reason"'
    if client is STATELESS:
        if code == mcp.RESOURCE_NOT_FOUND:
            code = INVALID_PARAMS
            if uri is not None and not _names_uri(answer.data, fields):
                put["data"] = _data_with_uri(answer.data, fields, uri)
        elif code == mcp.URL_ELICITATION_REQUIRED or (code in _STATELESS_CODES and not _may_pass(code, backend)):
            code = INTERNAL_ERROR
    elif backend is STATELESS:
        if code in _STATELESS_CODES:
            code = INTERNAL_ERROR
        elif code == INVALID_PARAMS and method == "resources/read" and _names_uri(answer.data, fields):
            code = mcp.RESOURCE_NOT_FOUND
    body = answer.data[span[0] : span[1]]
    if code != original:
        put["code"] = b"%d" % code
    if put:
        body = jsonrpc.edit_object(answer.data, span, put=put)
    return http_status(code, client), b'{"jsonrpc":"2.0","id":' + id + b',"error":' + body + b"}"


def _names_uri(data: bytes, fields: dict[str, Span]) -> bool:
    """Return whether the data of an error names a resource: how the stateless era says that there is none."""
    span = fields.get("data")
    return span is not None and data[span[0] : span[0] + 1] == b"{" and "uri" in members(data, *span)


def _data_with_uri(data: bytes, fields: dict[str, Span], uri: str) -> bytes:
    """Return the data of an error with the URI; data that is no object stays beside it."""
    span, put = fields.get("data"), {"uri": orjson.dumps(uri)}
    if span is None:
        return jsonrpc.edit_object(b"{}", (0, 2), put=put)
    if data[span[0] : span[0] + 1] == b"{":
        return jsonrpc.edit_object(data, span, put=put)
    put["data"] = data[span[0] : span[1]]
    return jsonrpc.edit_object(b"{}", (0, 2), put=put)


def _message(data: bytes, fields: dict[str, Span]) -> str:
    text = jsonrpc.decode(data, fields["message"]) if "message" in fields else None
    return text[:MAX_MESSAGE_CHARS] if isinstance(text, str) else "the backend gave no reason"


def _may_pass(code: int, backend: Era) -> bool:
    # A header or version mismatch between us and the backend is our fault, never the client's.
    return backend is STATELESS and code not in (mcp.HEADER_MISMATCH, mcp.UNSUPPORTED_VERSION)
