"""`subscriptions/listen` as bytes: the filter, the acknowledgement, the stamp on every message, the last result.

MCP 2026-07-28 "Subscriptions". Every message of a stream carries the JSON-RPC id of its listen, number or string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from only1mcp._fast import members
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire import jsonrpc

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

META_SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
# One listen may name this many resources, of at most so many characters each.
MAX_URIS: Final = 1000
MAX_URI_CHARS: Final = 2048
# Kind of list, member of the filter, notification.
KINDS: Final = {
    "tools": ("toolsListChanged", "notifications/tools/list_changed"),
    "prompts": ("promptsListChanged", "notifications/prompts/list_changed"),
    "resources": ("resourcesListChanged", "notifications/resources/list_changed"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listener wants: kinds of lists (keys of KINDS), resource URIs as clients know them, task ids."""

    kinds: frozenset[str] = frozenset()
    uris: tuple[str, ...] = ()
    task_ids: tuple[str, ...] = ()

    def text(self) -> bytes:
        """Return the JSON object of `params.notifications`."""
        value: dict[str, object] = {KINDS[kind][0]: True for kind in KINDS if kind in self.kinds}
        if self.uris:
            value["resourceSubscriptions"] = self.uris
        if self.task_ids:
            value["taskIds"] = self.task_ids
        return orjson.dumps(value)


def parse(message: Envelope) -> Filter:
    """Return the filter of a listen request; raise `ProtocolError` (-32602) for what is none."""
    fields = {} if message.params is None else members(message.data, *message.params)
    span = fields.get("notifications")
    wanted = None if span is None else jsonrpc.decode(message.data, span)
    if not isinstance(wanted, dict):
        raise ProtocolError("params.notifications must be an object", code=INVALID_PARAMS)
    kinds = frozenset(kind for kind, (member, _) in KINDS.items() if wanted.get(member) is True)
    return Filter(kinds, _strings(wanted, "resourceSubscriptions"), _strings(wanted, "taskIds"))


def acknowledged(id: bytes, granted: Filter) -> bytes:
    """Return the first message of a stream; `id` is the JSON text of the listen's id."""
    params = b'{"_meta":' + stamp(id) + b',"notifications":' + granted.text() + b"}"
    return jsonrpc.notification("notifications/subscriptions/acknowledged", params)


def changed(kind: str, id: bytes | None) -> bytes:
    """Return `list_changed`, stamped for a listen, plain for a handshake client (`id` None)."""
    return jsonrpc.notification(KINDS[kind][1], None if id is None else b'{"_meta":' + stamp(id) + b"}")


def updated(uri: str, id: bytes | None) -> bytes:
    """Return `notifications/resources/updated` for a URI as the client knows it."""
    meta = b"" if id is None else b',"_meta":' + stamp(id)
    return jsonrpc.notification("notifications/resources/updated", b'{"uri":' + orjson.dumps(uri) + meta + b"}")


def ended(id: bytes) -> bytes:
    """Return the response with which we end a listen gracefully."""
    return jsonrpc.result(id, b'{"resultType":"complete","_meta":' + stamp(id) + b"}")


def stamp(id: bytes) -> bytes:
    """Return the `_meta` object that names the listen."""
    return b"{" + orjson.dumps(META_SUBSCRIPTION_ID) + b":" + id + b"}"


def _strings(wanted: dict[str, object], key: str) -> tuple[str, ...]:
    value = wanted.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_URIS:
        raise ProtocolError(f"params.notifications.{key} must be a list of at most {MAX_URIS}", code=INVALID_PARAMS)
    for each in value:
        if not isinstance(each, str) or len(each) > MAX_URI_CHARS:
            raise ProtocolError(f"params.notifications.{key} must hold strings", code=INVALID_PARAMS)
    return tuple(dict.fromkeys(value))
