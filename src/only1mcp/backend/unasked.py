"""What a backend says unasked: its requests are answered, changed lists are reported, the rest concerns no endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from only1mcp._fast import REQUEST, Envelope
from only1mcp.backend.base import Transport
from only1mcp.errors import METHOD_NOT_FOUND, BackendError
from only1mcp.wire import jsonrpc

log = logging.getLogger("only1mcp.backend")

# Requests of a backend that does not read our answers would pile up; beyond this many they are dropped.
MAX_REPLIES = 64

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

    def __init__(self, transport: Transport, *, name: str, on_change: OnChange) -> None:
        self._transport = transport
        self._name = name
        self._on_change = on_change
        self._replies: set[asyncio.Task[None]] = set()
        self._closed = False

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

    async def aclose(self) -> None:
        """Drop the replies that are not sent yet, and send no more."""
        self._closed = True
        replies = list(self._replies)
        for task in replies:
            task.cancel()
        await asyncio.gather(*replies, return_exceptions=True)

    def _reply(self, request: Envelope) -> None:
        """Answer `ping` with an empty result, anything else with an error."""
        if self._closed or request.id is None or len(self._replies) >= MAX_REPLIES:
            return
        if request.method == "ping":
            reply = jsonrpc.result(request.id, b"{}")
        else:
            reply = (
                b'{"jsonrpc":"2.0","id":'
                + request.id
                + b',"error":{"code":%d,' % METHOD_NOT_FOUND
                + b'"message":"this client does not serve requests from servers"}}'
            )
        task = asyncio.get_running_loop().create_task(self._send(reply), name=f"reply {self._name}")
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _send(self, message: bytes) -> None:
        try:
            await self._transport.send(message)
        except BackendError as error:
            log.info("backend.send_failed", extra={"fields": {"backend": self._name, "reason": error.message}})
