"""A call that goes out in one write and mostly comes back in one read: no task, no future, no timer of its own."""

from __future__ import annotations

import asyncio
from typing import Protocol

from only1mcp._fast import Envelope
from only1mcp.backend.answer import CallReader
from only1mcp.backend.base import BackendCall, Done
from only1mcp.backend.connection import HttpConnection
from only1mcp.errors import BackendAnswerError, BackendError, BackendTimeout


class Owner(Protocol):
    """The transport, as its direct calls see it."""

    name: str

    def give_back(self, connection: HttpConnection) -> None:
        """The answer was whole: the connection is free."""

    def read_on(self, direct: DirectCall) -> None:
        """The answer is not here in one piece: a task reads the rest and calls `end`."""

    def begin_again(self, direct: DirectCall) -> bool:
        """The connection died before any answer: a task makes the call again where that is safe, else False."""

    def abandon(self, direct: DirectCall) -> None:
        """Nobody waits any more: tell the backend."""


class DirectCall:
    """One call between its request and the end of its answer; `end` is reached once, unless it is cancelled."""

    __slots__ = ("_done", "_owner", "_watch", "call", "connection", "deadline", "reader", "task")

    def __init__(
        self,
        owner: Owner,
        watch: DeadlineWatch,
        call: BackendCall,
        reader: CallReader,
        connection: HttpConnection,
        done: Done,
    ) -> None:
        self._owner = owner
        self._watch = watch
        self._done: Done | None = done
        self.call = call
        self.reader = reader
        self.connection = connection
        self.deadline = watch.add(self, call.timeout_s)
        self.task: asyncio.Task[None] | None = None

    def answered(self) -> None:
        whole = self.connection.maybe_whole()
        if whole is None:
            self._owner.read_on(self)
            return
        self._owner.give_back(self.connection)
        try:
            outcome: Envelope | BackendError = self.reader.read_whole(*whole)
        except BackendError as error:
            outcome = error
        self.end(outcome)

    def lost(self, reason: str) -> None:
        self._owner.give_back(self.connection)
        if not self._owner.begin_again(self):
            self.end(BackendAnswerError(reason))

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if self._done is not None:
            self._done = None
            self._watch.remove(self)
            self._let_go()

    def expire(self) -> None:
        """The deadline has passed."""
        self._let_go()
        self.end(BackendTimeout(f"no complete answer within {self.call.timeout_s} s"))

    def end(self, outcome: Envelope | BackendError) -> None:
        """Report what became of the call."""
        done, self._done = self._done, None
        if done is not None:
            self._watch.remove(self)
            if isinstance(outcome, BackendError):
                outcome.data = outcome.data or {"backend": self._owner.name}
            done(outcome)

    def _let_go(self) -> None:
        if self.task is not None:
            self.task.cancel()  # it gives the connection back, and tells the backend
        else:
            self.connection.abort()
            self._owner.give_back(self.connection)
            self._owner.abandon(self)


class DeadlineWatch:
    """The deadlines of many calls behind one timer, which is set anew only when it has fired."""

    def __init__(self) -> None:
        self._calls: dict[DirectCall, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = float("inf")
        self._loop = asyncio.get_running_loop()

    def add(self, direct: DirectCall, timeout_s: float | None) -> float:
        """Watch a call; return its deadline in the event loop's time."""
        deadline = float("inf") if timeout_s is None else self._loop.time() + timeout_s
        self._calls[direct] = None
        if deadline < self._fires_at:
            self._set(deadline)
        return deadline

    def remove(self, direct: DirectCall) -> None:
        self._calls.pop(direct, None)

    def clear(self) -> None:
        """Stop watching."""
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._fires_at = float("inf")
        now = self._loop.time()
        for direct in [direct for direct in self._calls if direct.deadline <= now]:
            direct.expire()
        if self._calls:
            self._set(min(direct.deadline for direct in self._calls))
