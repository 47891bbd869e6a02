"""What a server asks a client in the middle of a request, in both eras: its own request, or one of `inputRequests`.

MCP 2026-07-28 "Multi Round-Trip Requests"; 2025-11-25 "Elicitation", "Sampling", "Roots".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from only1mcp._fast import RESULT, elements, members, scan
from only1mcp.errors import INTERNAL_ERROR, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.jsonrpc import Span
from only1mcp.wire.mcp import TASKS_EXTENSION, UI_EXTENSION, UI_SETTINGS, URL_ELICITATION_REQUIRED

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

# A backend that asks for thousands of things at once asks nobody any more.
MAX_ASKS: Final = 32
# What a server may ask, and the client capability that it needs.
CAPABILITY: Final = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
# Requests in the middle of which the stateless era lets a server ask.
MULTI_ROUND: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
# The same in the handshake era, where what belongs to a task is asked in the middle of waiting for its result.
ASKED_WITHIN: Final = MULTI_ROUND | {"tasks/result"}
RETRY_MEMBERS: Final = ("inputResponses", "requestState")
CANCELLED: Final = b'{"action":"cancel"}'
COMPLETE: Final = "notifications/elicitation/complete"
# What the proxy declares to handshake backends, whose sessions many clients share: everything that it can relay. What
# the client of a call has not declared is refused when it is asked for; views of tools no client needs to look at.
RELAYED: Final[dict[str, Any]] = {
    "sampling": {"tools": {}, "context": {}},
    "elicitation": {"form": {}, "url": {}},
    "roots": {},
    "extensions": {UI_EXTENSION: UI_SETTINGS},
}
# The same to a connection that serves one client, whose changes of roots can be passed on.
RELAYED_FOR_ONE: Final[dict[str, Any]] = RELAYED | {"roots": {"listChanged": True}}
# With it in the `_meta` of its request a handshake server names what it asks, as servers of the stateless era do with
# the keys of `inputRequests`: whoever answers without a user knows the question by it.
META_INPUT_KEY: Final = "only1mcp/inputKey"
_INPUT_KEY: Final = re.compile(rb'"[A-Za-z][A-Za-z0-9_.-]{0,63}"')
# The deepest that is ever read (`scan`).
MAX_DEPTH: Final = 1024
_BRACE: Final = ord("{")


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing asked: `key` names it in `inputRequests` (empty where it has no name), `params` is a JSON text."""

    key: str
    method: str
    params: bytes | None


@dataclass(frozen=True, slots=True)
class InputRequired:
    """An `input_required` result: what is asked, and the JSON text of `requestState`, None where there is none."""

    asks: tuple[Ask, ...]
    state: bytes | None


# Asks that stand for the modes of elicitation.
URL: Final = Ask("", "elicitation/create", b'{"mode":"url"}')
_MODES: Final = {"form": Ask("", "elicitation/create", None), "url": URL}


def asked(message: Envelope) -> Ask:
    """Return what a server's request asks."""
    params = None if message.params is None else message.data[slice(*message.params)]
    return Ask("", message.method or "", params)


def maybe_input_required(answer: Envelope) -> InputRequired | None:
    """Return what a result asks for, None for any other answer; raise `ProtocolError` for one that breaks the rules."""
    if answer.kind != RESULT or answer.result is None or b"input_required" not in answer.data:
        return None
    fields = members(answer.data, *answer.result)
    if "resultType" not in fields or jsonrpc.decode(answer.data, fields["resultType"]) != "input_required":
        return None
    state = answer.data[slice(*fields["requestState"])] if "requestState" in fields else None
    if state is not None and state[:1] != b'"':
        raise ProtocolError("requestState is not a string")
    span = fields.get("inputRequests")
    if span is None and state is None:
        raise ProtocolError("an input_required result without inputRequests and without requestState")
    requests = {} if span is None else members(answer.data, *span)
    if len(requests) > MAX_ASKS:
        raise ProtocolError(f"more than {MAX_ASKS} inputs are asked for at once")
    asks = []
    for key, (start, end) in requests.items():
        each = members(answer.data, start, end)
        method = jsonrpc.decode_string(answer.data, each["method"]) if "method" in each else ""
        if method not in CAPABILITY:
            raise ProtocolError(f"input {key!r:.40} asks for {method!r:.40}, which no client can give")
        params = answer.data[slice(*each["params"])] if "params" in each else None
        if params is not None and params[:1] != b"{":
            raise ProtocolError(f"the params of input {key!r:.40} are no object")
        asks.append(Ask(key, method, params))
    return InputRequired(tuple(asks), state)


def requirement(ask: Ask) -> dict[str, Any]:
    """Return the client capabilities that the ask needs, in the form of `data.requiredCapabilities` of -32021."""
    name = CAPABILITY[ask.method]
    parts: dict[str, Any] = {}
    params = {} if ask.params is None else orjson.loads(ask.params)
    if isinstance(params, dict):
        if name == "elicitation" and params.get("mode", "form") == "url":
            parts["url"] = {}
        if name == "sampling" and ("tools" in params or "toolChoice" in params):
            parts["tools"] = {}
    return {name: parts}


def may_ask(ask: Ask, capabilities: Mapping[str, Any], revision: str) -> bool:
    """Return whether a client of this revision that declared `capabilities` can be asked."""
    if ask.method not in CAPABILITY or (ask.method == "elicitation/create" and revision < "2025-06-18"):
        return False
    ((name, parts),) = requirement(ask).items()
    declared = capabilities.get(name)
    if not isinstance(declared, dict):
        return False
    if name == "elicitation" and "url" not in parts:
        return "form" in declared or "url" not in declared  # `{}` is form only
    if "url" in parts and revision < "2025-11-25":
        return False
    return all(part in declared for part in parts)


def input_required(asks: Iterable[Ask], state: str) -> bytes:
    """Return the result (JSON) that asks a stateless client; `state` is the sealed token."""
    entries = []
    for ask in asks:
        params = b"" if ask.params is None else b',"params":' + ask.params
        entries.append(orjson.dumps(ask.key) + b':{"method":' + orjson.dumps(ask.method) + params + b"}")
    head = b'{"resultType":"input_required","inputRequests":{' + b",".join(entries) + b"}"
    return head + b',"requestState":' + orjson.dumps(state) + b"}"


def with_inputs(request: Envelope, responses: Mapping[str, bytes], state: bytes | None) -> Envelope:
    """Return the request as it is sent again, with the answers and the state; spans in front of the end of its params
    stay what they were, so that an edit made for the first round holds for every other."""
    added = []
    if responses:
        pairs = b",".join(orjson.dumps(key) + b":" + value for key, value in responses.items())
        added.append(b'"inputResponses":{' + pairs + b"}")
    if state is not None:
        added.append(b'"requestState":' + state)
    assert request.params is not None
    end = request.params[1] - 1
    text = b"," + b",".join(added) if added else b""
    # The answers are as deep as they may be before they are put into a larger text.
    return scan(jsonrpc.splice(request.data, [(end, end, text)]), MAX_DEPTH)


def for_stateless(ask: Ask) -> Ask:
    """Return a handshake server's ask as `inputRequests` may hold it: without `elicitationId`, `task` and `_meta`.

    Its key is the name that the server has given it in `_meta`, if it has.
    """
    if ask.params is None:
        return ask
    name = _maybe_meta(ask, META_INPUT_KEY)
    key = ask.key if name is None or not _INPUT_KEY.fullmatch(name) else name[1:-1].decode()
    drop = ("elicitationId", "task", "_meta")
    return Ask(key, ask.method, jsonrpc.edit_object(ask.params, (0, len(ask.params)), put={}, drop=drop))


def for_handshake(ask: Ask, id: bytes, elicitation_id: str | None = None) -> bytes:
    """Return the request that asks a handshake client. Our id is its progress token as well, where it has one.

    URL elicitations get the id that the era of the client wants (`elicitation_id`), in the place of the server's own
    where it is of that era, too. Raise `ProtocolError` for params that two readers could read differently.
    """
    params = ask.params
    if params is None:
        return jsonrpc.request(id, ask.method)
    whole = (0, len(params))
    fields = members(params, *whole)
    put: dict[str, bytes] = {}
    if progress_token(ask) is not None:
        put["_meta"] = jsonrpc.edit_object(params, fields["_meta"], put={"progressToken": id})
    if elicitation_id is not None and "url" in requirement(ask).get("elicitation", {}):
        put["elicitationId"] = orjson.dumps(elicitation_id)
    if put or "task" in fields:
        # Nobody could fetch the result of a task that the client makes of it.
        params = jsonrpc.edit_object(params, whole, put=put, drop=("task",))
    return jsonrpc.request(id, ask.method, params)


def elicitation_id(data: bytes, params: Span | None) -> str | None:
    """Return the `elicitationId` of an elicitation, or of the notification of its end; None where there is none."""
    try:
        span = None if params is None else members(data, *params).get("elicitationId")
        return None if span is None else jsonrpc.decode_string(data, span)
    except ProtocolError:
        return None


def completed(elicitation_id: str) -> bytes:
    """Return the notification that tells a handshake client of the end of an elicitation."""
    return jsonrpc.notification(COMPLETE, b'{"elicitationId":' + orjson.dumps(elicitation_id) + b"}")


def requires_urls(answer: Envelope) -> bool:
    """Return whether an answer is the error -32042."""
    if answer.error is None:
        return False
    code = members(answer.data, *answer.error).get("code")
    return code is not None and jsonrpc.decode(answer.data, code) == URL_ELICITATION_REQUIRED


def as_internal(error: Envelope) -> bytes:
    """Return an error as one that every client knows; its message and its data stay."""
    assert error.error is not None
    span = members(error.data, *error.error)["code"]
    return jsonrpc.splice(error.data, [(*span, b"%d" % INTERNAL_ERROR)])


def with_elicitation_ids(error: Envelope, give: Callable[[str], str]) -> bytes:
    """Return a -32042 error of a handshake backend with the ids that `give` has for the backend's own.

    One whose data cannot be read stays as it is.
    """
    data = error.data
    edits = []
    try:
        assert error.error is not None
        fields = members(data, *error.error)
        listed = members(data, *fields["data"])["elicitations"]
        for start, end in elements(data, *listed)[:MAX_ASKS]:
            span = members(data, start, end).get("elicitationId")
            if span is not None:
                edits.append((*span, orjson.dumps(give(jsonrpc.decode_string(data, span)))))
    except (KeyError, ProtocolError):
        return data
    return jsonrpc.splice(data, edits)


def progress_token(ask: Ask) -> bytes | None:
    """Return the token (a JSON text) with which the server wants to hear of the client's progress."""
    return _maybe_meta(ask, "progressToken")


def _maybe_meta(ask: Ask, name: str) -> bytes | None:
    """Return a member of the `_meta` of the ask, as the JSON text that it is."""
    if ask.params is None or name.rpartition("/")[2].encode() not in ask.params:
        return None
    meta = members(ask.params, 0, len(ask.params)).get("_meta")
    if meta is None or ask.params[meta[0]] != _BRACE:
        return None
    span = members(ask.params, *meta).get(name)
    return None if span is None else ask.params[slice(*span)]


def response_to(ask: Ask, answer: Envelope | None) -> bytes | None:
    """Return what a handshake client's answer is in `inputResponses`; None where an error has no form there.

    An elicitation that failed, or was never answered (`answer` None), is a cancelled one.
    """
    result = None if answer is None else result_of(answer)
    if result is not None:
        return result
    return CANCELLED if ask.method == "elicitation/create" else None


def result_of(answer: Envelope) -> bytes | None:
    """Return the result (a JSON text) that a client answered with, None for an error and for what is no object."""
    if answer.kind != RESULT or answer.result is None:
        return None
    result = answer.data[slice(*answer.result)]
    return result if result[:1] == b"{" else None


def capabilities_of(text: bytes) -> dict[str, Any]:
    """Return declared client capabilities; what cannot be read declares nothing."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def for_stateless_backend(capabilities: bytes, revision: str) -> bytes:
    """Return what a handshake client of this revision declared as a request to a stateless backend says it.

    Only what can be asked of that client is left, and no tasks, which clients of its era know in another form.
    """
    found = capabilities_of(capabilities)
    kept: dict[str, Any] = {
        key: found[key] for key in ("sampling", "experimental", "extensions") if isinstance(found.get(key), dict)
    }
    if isinstance(found.get("roots"), dict):
        kept["roots"] = {}
    if TASKS_EXTENSION in kept.get("extensions", {}):
        kept["extensions"] = {key: value for key, value in kept["extensions"].items() if key != TASKS_EXTENSION}
    modes: dict[str, Any] = {mode: {} for mode, ask in _MODES.items() if may_ask(ask, found, revision)}
    if modes:
        kept["elicitation"] = modes
    return orjson.dumps(kept)
