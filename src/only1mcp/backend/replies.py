"""What we send a backend without waiting for an answer: replies to its requests, notifications. Bounded, never raises.

Taken out of `backend/unasked.py` (Ear), so that whoever relays a request can answer it on the connection that it came
from: after a reconnect the replies of the old connection go nowhere.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import orjson

from only1mcp.backend.base import Transport
from only1mcp.errors import METHOD_NOT_FOUND, BackendError
from only1mcp.wire import jsonrpc

log = logging.getLogger("only1mcp.backend")

# Requests of a backend that does not read our answers would pile up; beyond this many they are dropped.
MAX_REPLIES: Final = 64


class Replies:
    """One connection's way back to its backend, from its beginning to `aclose`."""

    def __init__(self, transport: Transport, *, name: str) -> None:
        self._transport = transport
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, and with it everything that was asked over it."""
        return self._closed

    def send(self, message: bytes) -> None:
        """Send a response or a notification soon."""
        if self._closed or len(self._tasks) >= MAX_REPLIES:
            return
        task = asyncio.get_running_loop().create_task(self._send(message), name=f"reply {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def result(self, id: bytes, value: bytes) -> None:
        self.send(jsonrpc.result(id, value))

    def refuse(self, id: bytes, text: str, code: int = METHOD_NOT_FOUND) -> None:
        """Answer a request with an error."""
        error = orjson.dumps({"code": code, "message": text})
        self.send(b'{"jsonrpc":"2.0","id":' + id + b',"error":' + error + b"}")

    async def aclose(self) -> None:
        """Drop what is not sent yet, and send no more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, message: bytes) -> None:
        try:
            await self._transport.send(message)
        except BackendError as error:
            log.info("backend.send_failed", extra={"fields": {"backend": self._name, "reason": error.message}})
