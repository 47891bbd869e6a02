"""What a stateless client carries of a call that waits for its input: the token in `requestState`, and its answers.

MCP 2026-07-28 "Multi Round-Trip Requests"; 2025-11-25 "URL Elicitation Required Error" (-32042).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from only1mcp._fast import members, mentions, scan, string_at
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.asks import MAX_ASKS, RETRY_MEMBERS, Ask

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

# Arguments that are longer must come back as they came first, octet for octet: decoded they cost a second, and thirty
# times their size.
MAX_CANONICAL_BYTES: Final = 256 * 1024
_TOKEN: Final = struct.Struct(">BQH16s")
_TASK: Final = "task"
# How the JSON text of an object begins.
_OBJECT: Final = b"{"


@dataclass(frozen=True, slots=True)
class Token:
    """Which call is meant, in which of its rounds, and the digest of the request that it was made for."""

    worker: int
    serial: int
    round: int
    digest: bytes

    def packed(self) -> bytes:
        return _TOKEN.pack(self.worker, self.serial, self.round, self.digest)


def token_of(packed: bytes) -> Token | None:
    """Return what `Token.packed` made, None for anything else."""
    return Token(*_TOKEN.unpack(packed)) if len(packed) == _TOKEN.size else None


@dataclass(frozen=True, slots=True)
class Retry:
    """What a request adds to the one that it repeats; without `state` it repeats none."""

    state: str | None
    responses: dict[str, bytes]


def maybe_retry(request: Envelope) -> Retry | None:
    """Return what makes the request a retry, None for one with neither of the members that retries have.

    Raise `ProtocolError` (-32602) where one of them is not of its type.
    """
    span = request.params
    if span is None or not any(mentions(request.data, span, name.encode()) for name in RETRY_MEMBERS):
        return None
    data = request.data
    fields = members(data, *span)
    if not any(name in fields for name in RETRY_MEMBERS):
        return None
    state = jsonrpc.decode_string(data, fields["requestState"]) if "requestState" in fields else None
    responses: dict[str, bytes] = {}
    if "inputResponses" in fields and state is not None:
        start, end = fields["inputResponses"]
        if data[start : start + 1] != _OBJECT:
            raise ProtocolError("params.inputResponses must be an object", code=INVALID_PARAMS)
        for key, (begin, stop) in members(data, start, end).items():
            if data[begin : begin + 1] != _OBJECT:
                raise ProtocolError(f"params.inputResponses[{key!r:.40}] must be an object", code=INVALID_PARAMS)
            responses[key] = data[begin:stop]
    return Retry(state, responses)


def wants_task(request: Envelope) -> bool:
    """Return whether a request asks for a task as clients of 2025-11-25 do, which means nothing here."""
    span = request.params
    if span is None or not mentions(request.data, span, _TASK.encode()):
        return False
    return _TASK in members(request.data, *span)


def as_first(request: Envelope) -> Envelope:
    """Return the request as it would be if it were the first, and without the wish for a task."""
    assert request.params is not None
    params = jsonrpc.edit_object(request.data, request.params, put={}, drop=(*RETRY_MEMBERS, _TASK))
    return scan(jsonrpc.splice(request.data, [(*request.params, params)]))


def digest_of(request: Envelope) -> bytes:
    """Return 16 octets that are the same for a request and its retries, in whatever order their members are."""
    kept = {}
    if request.params is not None:
        for key, span in members(request.data, *request.params).items():
            if key not in ("_meta", _TASK, *RETRY_MEMBERS):
                kept[key] = _canonical(request.data[slice(*span)])
    hashed = blake2b(digest_size=16)
    for part in (
        (request.method or "").encode(),
        *(part for key in sorted(kept) for part in (key.encode(), kept[key])),
    ):
        hashed.update(b"%d:" % len(part))
        hashed.update(part)
    return hashed.digest()


def _canonical(text: bytes) -> bytes:
    if len(text) > MAX_CANONICAL_BYTES:
        return text
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # what orjson cannot read must come as it came before
        return text


def declared(request: Envelope) -> dict[str, Any]:
    """Return the client capabilities that a stateless request declares."""
    if request.meta is None:
        return {}
    span = members(request.data, *request.meta).get(mcp.META_CAPABILITIES)
    value = None if span is None else jsonrpc.decode(request.data, span)
    return value if isinstance(value, dict) else {}


def progress_token(request: Envelope) -> bytes | None:
    """Return the progress token (a JSON text) that a request sets."""
    if request.meta is None:
        return None
    span = members(request.data, *request.meta).get("progressToken")
    if span is None or request.data[span[0]] not in b'"-0123456789':
        return None
    return request.data[slice(*span)]


def maybe_urls(answer: Envelope) -> list[Ask] | None:
    """Return the URL elicitations of a -32042 error as they are asked of a stateless client, None for other answers.

    An error of this kind that does not say what it needs is like any other.
    """
    if answer.error is None or b"-32042" not in answer.data:
        return None
    try:
        error = orjson.loads(answer.data[slice(*answer.error)])
    except orjson.JSONDecodeError:
        return None
    data = error.get("data")
    listed = data.get("elicitations") if isinstance(data, dict) else None
    if error.get("code") != mcp.URL_ELICITATION_REQUIRED or not isinstance(listed, list):
        return None
    asks = []
    for each in listed[:MAX_ASKS]:
        if not isinstance(each, dict) or not isinstance(each.get("url"), str):
            return None
        message = each.get("message")
        params = {"mode": "url", "message": message if isinstance(message, str) else "", "url": each["url"]}
        asks.append(Ask("", "elicitation/create", orjson.dumps(params)))
    return asks or None


def declines(response: bytes) -> bool:
    """Return whether an answer to an elicitation is anything but the user's consent."""
    try:
        span = members(response, 0, len(response)).get("action")
    except ProtocolError:
        return True
    return span is None or string_at(response, span) != "accept"


def is_failure(answer: Envelope) -> bool:
    """Return whether an answer is an error, or the result of a tool that failed."""
    if answer.result is None:
        return True
    if not mentions(answer.data, answer.result, b"isError"):
        return False
    span = members(answer.data, *answer.result).get("isError")
    return span is not None and answer.data[slice(*span)] == b"true"
