"""What a backend says unasked: its requests are answered, changed lists are reported, the rest concerns no endpoint."""

from __future__ import annotations

from collections.abc import Callable

from only1mcp._fast import REQUEST, Envelope
from only1mcp.backend.replies import Replies
from only1mcp.wire import jsonrpc

# Of what there is a new list.
_LIST_CHANGED = {
    "notifications/tools/list_changed": "tools",
    "notifications/resources/list_changed": "resources",
    "notifications/prompts/list_changed": "prompts",
}

# Called with what has changed (`tools`, `resources` or `prompts`), and the URI where it is the content of one resource.
OnChange = Callable[[str, str | None], None]


class Ear:
    """Hears what comes over one transport; `on_change` is called for every list and resource that has changed."""

    def __init__(self, replies: Replies, *, on_change: OnChange) -> None:
        self._replies = replies
        self._on_change = on_change

    def hear(self, message: Envelope) -> bool:
        """Take what concerns the endpoint and no client: its requests, and what has changed. False: not for it."""
        if message.kind == REQUEST:
            self._reply(message)
        elif message.method in _LIST_CHANGED:
            self._on_change(_LIST_CHANGED[message.method], None)
        elif message.method == "notifications/resources/updated":
            if message.uri is not None:
                self._on_change("resources", jsonrpc.decode_string(message.data, message.uri))
        else:
            return False
        return True

    def _reply(self, request: Envelope) -> None:
        """Answer `ping` with an empty result, anything else with an error."""
        if request.id is None:
            return
        if request.method == "ping":
            self._replies.result(request.id, b"{}")
        else:
            self._replies.refuse(request.id, "this client does not serve requests from servers")
