"""What an answer says: judges the bytes of one response against the request they should answer."""

from __future__ import annotations

from typing import Final

import orjson

from only1mcp._fast import ERROR, RESULT, Envelope, members, scan
from only1mcp.errors import ProtocolError
from only1mcp.loadgen.failure import BAD_ANSWER, HTTP, INPUT_REQUIRED, RPC_ERROR, TOOL_ERROR, Failure
from only1mcp.wire import jsonrpc
from only1mcp.wire.http1_events import ResponseHead

SSE: Final = b"text/event-stream"
JSON: Final = b"application/json"
EXAMPLE_CHARS: Final = 200
_BRACE: Final = ord("{")


def media_type(head: ResponseHead) -> bytes:
    """Return the media type in lower case; raise `ProtocolError` when it is there twice or the body is encoded."""
    coding = head.get(b"content-encoding")
    if coding is not None and coding.strip().lower() not in (b"", b"identity"):
        raise ProtocolError("the answer has a content coding nobody asked for")
    media = head.get(b"content-type")
    if media == JSON:  # as nearly always
        return media
    return (media or b"").partition(b";")[0].strip().lower()


def judge_body(head: ResponseHead, body: bytes, id: bytes) -> Envelope | Failure:
    """Return the message that a body of JSON holds, or what is wrong with it."""
    try:
        media = media_type(head)
        if media == SSE:
            raise ProtocolError("the event stream ended without the answer")
        message = scan(body) if media == JSON else None
    except ProtocolError as error:
        return refused(head) if head.status >= 300 else Failure(BAD_ANSWER, error.message, error.message)
    if message is None:
        if head.status != 200:
            return refused(head)
        shown = media.decode("ascii", "replace")[:60]
        return Failure(BAD_ANSWER, "neither JSON nor an event stream", f"content type {shown!r}")
    found = judge_message(message, id)
    if found is None or (head.status >= 300 and message.kind != ERROR):
        return refused(head) if head.status >= 300 else Failure(BAD_ANSWER, "no response", "a request or notification")
    return found


def judge_message(message: Envelope, id: bytes) -> Envelope | Failure | None:
    """Return the message if it is the response with this id, a failure for another's, None for what is no response."""
    if message.kind not in (RESULT, ERROR):
        return None
    if message.id == id:
        return message
    if message.kind == ERROR and message.id is None:  # how servers refuse what they have not read
        return message
    shown = "none" if message.id is None else message.id[:40].decode(errors="replace")
    return Failure(BAD_ANSWER, "wrong id", f"asked with id {id.decode()}, answered with id {shown}")


def failure_of(message: Envelope, status: int) -> Failure | None:
    """Return what is wrong with a response: an error, a tool that failed, input that is required; None for nothing."""
    data = message.data
    if message.kind == ERROR:
        assert message.error is not None
        return _rpc_failure(data, message.error, status)
    assert message.result is not None
    if data[message.result[0]] != _BRACE:
        return Failure(BAD_ANSWER, "the result is no object", "the result is no object")
    # A key can be spelled with escapes; nearly all answers hold neither and are not taken apart.
    if b'"isError"' not in data and b'"input_required"' not in data and b"\\u" not in data:
        return None
    try:
        fields = members(data, *message.result)
    except ProtocolError as error:
        return Failure(BAD_ANSWER, error.message, error.message)
    flag = fields.get("isError")
    if flag is not None and data[slice(*flag)] == b"true":
        return Failure(TOOL_ERROR, "", _tool_text(data, fields.get("content")))
    kind = fields.get("resultType")
    if kind is not None and orjson.loads(data[slice(*kind)]) == "input_required":
        return Failure(INPUT_REQUIRED, "", "the server asked for input, which nobody gives here")
    return None


def refused(head: ResponseHead) -> Failure:
    """Return the failure that a status alone tells."""
    location = head.get_all(b"location")
    message = f"HTTP status {head.status}"
    if 300 <= head.status < 400 and location:
        where = location[0][:EXAMPLE_CHARS].decode("ascii", "replace")
        message += f", a redirect to {where}, which is not followed"
    return Failure(HTTP, str(head.status), message)


def _rpc_failure(data: bytes, span: tuple[int, int], status: int) -> Failure:
    try:
        error = jsonrpc.decode(data, span)
    except orjson.JSONDecodeError:
        error = {}
    code, text = error.get("code"), error.get("message")
    what = str(code) if isinstance(code, int) else "without a code"
    message = text[:EXAMPLE_CHARS] if isinstance(text, str) else "without a message"
    return Failure(RPC_ERROR, what, message if status == 200 else f"{message} (HTTP {status})")


def _tool_text(data: bytes, span: tuple[int, int] | None) -> str:
    content = jsonrpc.decode(data, span) if span is not None else None
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            text: str = block["text"]
            return text[:EXAMPLE_CHARS]
    return ""
