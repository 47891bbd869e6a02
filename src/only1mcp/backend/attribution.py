"""Whose call a message of a backend belongs to; where many share a pipe and nothing says so, it is known or refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol

from only1mcp._fast import NOTIFICATION, REQUEST, members
from only1mcp.backend.base import BackendCall, Clock, OnMessage
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire.asks import ASKED_WITHIN, CAPABILITY

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

NOT_OURS: Final = "the request belongs to no call of one client; see instances: per_session"
# Requests of one call that its child may call off later; what a child asks beyond them it cannot.
MAX_OPEN_ASKS: Final = 64

_REFUSAL: Final = b'{"jsonrpc":"2.0","id":%%b,"error":{"code":%d,"message":"%b"}}' % (INVALID_PARAMS, NOT_OURS.encode())
# What a handshake-era server says in the middle of a call without naming it.
_OF_SOME_CALL: Final = frozenset({"notifications/message", "notifications/elicitation/complete"})


class Waiting(Clock, Protocol):
    """An outstanding call and its clock; `asks` are the ids of what the backend has asked in the middle of it."""

    @property
    def call(self) -> BackendCall: ...

    asks: set[bytes] | None


class Calls(Protocol):
    """Those that wait for their answers."""

    def get(self, id: bytes, /) -> Waiting | None: ...

    def values(self) -> Collection[Waiting]:
        """Return them all, the oldest first."""


class Attribution:
    """Knows the one owner whom a backend has served over this pipe or stream, and that there was another.

    What a backend learnt from one client it may ask about at any time later. So a request is passed on only while it
    has served nobody else, and only into a call that is waiting for it. `refuse` sends an answer.
    """

    def __init__(self, name: str, calls: Calls, refuse: Callable[[bytes], None], log: logging.Logger) -> None:
        self._name = name
        self._calls = calls
        self._send = refuse
        self._log = log
        self._owner: str | None = None
        self.shared = False
        # It was said once what comes of serving several.
        self._warned = False

    def serve(self, owner: str) -> bool:
        """Note whose call goes to the backend; return whether that need not be told any more."""
        if not self.shared:
            if self._owner is None:
                self._owner = owner
            self.shared = owner != self._owner
        return self.shared

    def heard(self, message: Envelope, on_message: OnMessage | None) -> None:
        """Give what a handshake-era backend says to whom it concerns, else to `on_message`; never raises."""
        try:
            if message.kind == REQUEST and message.method in CAPABILITY:
                self._ask(message)
            else:
                receiver = self._receiver(message) or on_message
                if receiver is not None:
                    receiver(message)
        except Exception:  # noqa: BLE001 - one call's trouble must not end the connection that serves the others
            self._log.exception("backend.message_failed", extra={"fields": {"backend": self._name}})

    def named(self, message: Envelope, span: tuple[int, int], key: str) -> Waiting | None:
        """Return the outstanding call whose id is the value of `key` in the object at `span`."""
        value = _value(message, span, key)
        return None if value is None else self._calls.get(value)

    def _receiver(self, message: Envelope) -> OnMessage | None:
        begun: Waiting | None = None
        if message.kind != NOTIFICATION or message.params is None:
            return None
        if message.method == "notifications/progress":
            begun = self.named(message, message.params, "progressToken")
        elif message.method == "notifications/cancelled":
            id = _value(message, message.params, "requestId")
            asking = (each for each in self._calls.values() if each.asks is not None and id in each.asks)
            begun = next(asking, None)
        elif message.method in _OF_SOME_CALL:
            begun = self._find()
        return None if begun is None else begun.call.on_message

    def _ask(self, request: Envelope) -> None:
        begun, id = self._find(), request.id
        if begun is None:
            self._refuse(id)
            return
        if begun.asks is None:
            begun.asks = set()
        if id is not None and len(begun.asks) < MAX_OPEN_ASKS:
            begun.asks.add(id)
        assert begun.call.asked is not None
        begun.call.asked.asked(request, begun)

    def _refuse(self, id: bytes | None) -> None:
        if not self._warned:
            self._warned = True
            reason = "no call in the middle of which it may ask is waiting"
            if self.shared:
                reason = "several clients share it: set instances: {mode: per_session} if it has to ask them"
            fields = {"backend": self._name, "reason": reason}
            self._log.warning("backend.request_refused", extra={"fields": fields})
        if id is not None:
            self._send(_REFUSAL % id)

    def _find(self) -> Waiting | None:
        """Return the outstanding call that may be asked, the newest of them, None where it is not certain.

        The calls of one session have one client. Those of a principal without sessions may come from several, so that
        such a call must be the only one.
        """
        newest = None
        if self.shared:
            return None
        for begun in reversed(list(self._calls.values())):
            asked = begun.call.asked
            if asked is None or begun.call.method not in ASKED_WITHIN:
                continue
            if asked.in_session:
                return begun
            if newest is not None:
                return None
            newest = begun
        return newest


def _value(message: Envelope, span: tuple[int, int], key: str) -> bytes | None:
    try:
        value = members(message.data, *span).get(key)
    except ProtocolError:  # the key twice: which of them is meant nobody can say
        return None
    return None if value is None else message.data[value[0] : value[1]]
