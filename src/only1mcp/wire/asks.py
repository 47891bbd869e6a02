"""What a server asks a client in the middle of a request, in both eras: its own request, or one of `inputRequests`.

MCP 2026-07-28 "Multi Round-Trip Requests"; 2025-11-25 "Elicitation", "Sampling", "Roots".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from only1mcp._fast import RESULT, members, scan
from only1mcp.errors import ProtocolError
from only1mcp.wire import jsonrpc

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
RETRY_MEMBERS: Final = ("inputResponses", "requestState")
CANCELLED: Final = b'{"action":"cancel"}'


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing asked: `key` names it in `inputRequests` (empty for a request of a server), `params` is a JSON text."""

    key: str
    method: str
    params: bytes | None


@dataclass(frozen=True, slots=True)
class InputRequired:
    """An `input_required` result: what is asked, and the JSON text of `requestState`, None where there is none."""

    asks: tuple[Ask, ...]
    state: bytes | None


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
        asks.append(Ask(key, method, answer.data[slice(*each["params"])] if "params" in each else None))
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
    return scan(jsonrpc.splice(request.data, [(end, end, text)]))


def for_stateless(ask: Ask) -> Ask:
    """Return a handshake server's ask as `inputRequests` may hold it: without `elicitationId`, `task` and `_meta`."""
    if ask.params is None:
        return ask
    drop = ("elicitationId", "task", "_meta")
    return Ask(ask.key, ask.method, jsonrpc.edit_object(ask.params, (0, len(ask.params)), put={}, drop=drop))


def for_handshake(ask: Ask, id: bytes, elicitation_id: str) -> bytes:
    """Return the request that asks a handshake client; URL elicitations get the id that their era wants."""
    params = ask.params
    if ask.method == "elicitation/create" and params is not None and "url" in requirement(ask)["elicitation"]:
        params = jsonrpc.edit_object(params, (0, len(params)), put={"elicitationId": orjson.dumps(elicitation_id)})
    return jsonrpc.request(id, ask.method, params)


def response_to(ask: Ask, answer: Envelope | None) -> bytes | None:
    """Return what a handshake client's answer is in `inputResponses`; None where an error has no form there.

    An elicitation that failed, or was never answered (`answer` None), is a cancelled one.
    """
    if answer is not None and answer.kind == RESULT and answer.result is not None:
        return answer.data[slice(*answer.result)]
    return CANCELLED if ask.method == "elicitation/create" else None


def capabilities_of(text: bytes) -> dict[str, Any]:
    """Return declared client capabilities; what cannot be read declares nothing."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def for_stateless_backend(capabilities: bytes) -> bytes:
    """Return what a handshake client declared as a request to a stateless backend says it (digest 4.1)."""
    found = capabilities_of(capabilities)
    kept: dict[str, Any] = {
        key: found[key] for key in ("sampling", "elicitation", "experimental", "extensions") if key in found
    }
    if isinstance(found.get("roots"), dict):
        kept["roots"] = {}
    return orjson.dumps(kept)
