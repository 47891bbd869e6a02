"""What a backend says unasked: its requests are answered, changed lists are reported, the rest concerns no endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from only1mcp._fast import REQUEST, Envelope
from only1mcp.backend.replies import Replies
from only1mcp.wire import asks, jsonrpc

# Of what there is a new list.
_LIST_CHANGED = {
    "notifications/tools/list_changed": "tools",
    "notifications/resources/list_changed": "resources",
    "notifications/prompts/list_changed": "prompts",
}

# Called with what has changed (`tools`, `resources` or `prompts`), and the URI where it is the content of one resource.
OnChange = Callable[[str, str | None], None]
# Called with the id of an elicitation that is complete, as the backend knows it.
OnComplete = Callable[[str], None]


class Audience(Protocol):
    """Who hears what a backend says to one of its clients and not to all.

    `owner` is whose instance has said it (`instances: per_session`), None where one connection serves many.
    """

    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        """The user has done what an URL asked for."""

    def updated(self, group: str, owner: str, uri: str) -> None:
        """The resource is another for this owner."""

    def said(self, owner: str, message: Envelope) -> None:
        """A log message in the middle of no call."""


class _Nobody:
    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        return None

    def updated(self, group: str, owner: str, uri: str) -> None:
        return None

    def said(self, owner: str, message: Envelope) -> None:
        return None


NOBODY: Final = _Nobody()


class Ear:
    """Hears what comes over one transport; `on_change` is called for every list and resource that has changed."""

    def __init__(self, replies: Replies, *, on_change: OnChange, on_complete: OnComplete = lambda _: None) -> None:
        self._replies = replies
        self._on_change = on_change
        self._on_complete = on_complete

    def hear(self, message: Envelope) -> bool:
        """Take what concerns the endpoint and no client: its requests, and what has changed. False: not for it."""
        if message.kind == REQUEST:
            self._reply(message)
        elif message.method in _LIST_CHANGED:
            self._on_change(_LIST_CHANGED[message.method], None)
        elif message.method == "notifications/resources/updated":
            if message.uri is not None:
                self._on_change("resources", jsonrpc.decode_string(message.data, message.uri))
        elif message.method == asks.COMPLETE:
            id = asks.elicitation_id(message.data, message.params)
            if id is not None:
                self._on_complete(id)
        else:
            return False
        return True

    def __call__(self, message: Envelope) -> None:
        """Take what came unasked; what is not for the endpoint is for nobody."""
        self.hear(message)

    def _reply(self, request: Envelope) -> None:
        """Answer `ping` with an empty result, anything else with an error."""
        if request.id is None:
            return
        if request.method == "ping":
            self._replies.result(request.id, b"{}")
        else:
            self._replies.refuse(request.id, "this client does not serve requests from servers")
