"""One request of a backend in the middle of a client's call, on its way to that client until it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from only1mcp.backend.attribution import NOT_OURS
from only1mcp.backend.base import Clock
from only1mcp.backend.replies import Replies
from only1mcp.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from only1mcp.wire.asks import Ask, asked

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

UNDECLARED: Final = "this client has not declared what the request needs"
GONE: Final = "the client has gone"
TOO_MANY: Final = "too many requests wait for clients"


class Asking:
    """`clock` is that of the call: the time a client takes to answer is not the backend's."""

    __slots__ = ("_clock", "_open", "ask", "backend", "backend_id", "replies")

    def __init__(self, message: Envelope, replies: Replies, backend: str, clock: Clock | None) -> None:
        assert message.id is not None
        self.ask: Ask = asked(message)
        # The id that the backend gave its request, as it wrote it.
        self.backend_id: bytes = message.id
        self.replies = replies
        self.backend = backend
        self._clock = clock
        self._open = True
        if clock is not None:
            clock.stop()

    @property
    def open(self) -> bool:
        """Whether an answer would still reach the backend."""
        return self._open and not self.replies.closed

    def answer(self, result: bytes) -> None:
        """Give the backend the client's result (a JSON text)."""
        if self._end():
            self.replies.result(self.backend_id, result)

    def fail(self, error: bytes) -> None:
        """Give the backend the client's error (the JSON text of the `error` member)."""
        if self._end():
            self.replies.send(b'{"jsonrpc":"2.0","id":' + self.backend_id + b',"error":' + error + b"}")

    def refuse(self, text: str, code: int = METHOD_NOT_FOUND) -> None:
        if self._end():
            self.replies.refuse(self.backend_id, text, code)

    def withdraw(self) -> None:
        """The call has ended, or the backend has cancelled its request: nobody waits for an answer."""
        self._end()

    def _end(self) -> bool:
        if not self._open:
            return False
        self._open = False
        if self._clock is not None:
            self._clock.go_on()
            self._clock = None
        return True


__all__ = ["GONE", "INTERNAL_ERROR", "INVALID_PARAMS", "NOT_OURS", "TOO_MANY", "UNDECLARED", "Asking"]
