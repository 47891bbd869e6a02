"""A call that goes out in one write and mostly comes back in one read: no task, no future, no timer of its own."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from only1mcp.backend.answer import CallReader, maybe_response
from only1mcp.backend.base import BackendCall, Done, Outcome
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.deadline import NEVER, DeadlineWatch
from only1mcp.backend.pool import Pool
from only1mcp.backend.resume import StreamBroken
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout
from only1mcp.wire.http1_events import ResponseHead

log = logging.getLogger("only1mcp.backend")


class Owner(Protocol):
    """The transport, as its direct calls see it."""

    name: str

    def reader_of(self, call: BackendCall) -> CallReader:
        """Return what reads an answer that is not a plain one."""

    def read_on(self, direct: DirectCall) -> None:
        """The answer is not here in one piece: a task reads the rest and calls `end`."""

    def begin_again(self, direct: DirectCall) -> bool:
        """The connection died before any answer: a task makes the call again where that is safe, else False."""

    def resume(self, direct: DirectCall, end: StreamBroken) -> None:
        """The answer is a stream that broke: a task gets the rest and calls `end`."""

    def abandon(self, direct: DirectCall) -> None:
        """Nobody waits any more: tell the backend."""


class DirectCall:
    """One call between its request and the end of its answer: after `begin` comes `end`, once, or `cancel`."""

    __slots__ = (
        "_done",
        "_left_s",
        "_owner",
        "_pool",
        "_reader",
        "_repeated",
        "_stops",
        "_watch",
        "call",
        "connection",
        "deadline",
        "task",
    )

    def __init__(
        self,
        owner: Owner,
        pool: Pool,
        watch: DeadlineWatch,
        call: BackendCall,
        connection: HttpConnection,
        done: Done,
    ) -> None:
        self._owner = owner
        self._pool = pool
        self._watch = watch
        self._done: Done | None = done
        self._reader: CallReader | None = None
        self.call = call
        self.connection = connection
        self.deadline = NEVER
        # What goes on with the call when it takes more than one read.
        self.task: asyncio.Task[None] | None = None
        self._repeated = False
        self._left_s = NEVER
        self._stops = 0

    def begin(self, prepared: bytes) -> None:
        """Send the request with a head from `maybe_prepare_post`."""
        self.connection.begin(prepared, self.call.message, self)
        self.deadline = self._watch.add(self, self.call.timeout_s)

    def ordinary(self) -> DirectCall:
        """Return the call itself: it is no plain one."""
        return self

    def take_over(self, deadline: float) -> None:
        """Go on with a request that another has sent on the connection; `deadline` is in the event loop's time."""
        self.deadline = deadline
        self._watch.watch(self, deadline)

    @property
    def reader(self) -> CallReader:
        """What reads the answer; plain answers need none."""
        if self._reader is None:
            self._reader = self._owner.reader_of(self.call)
        return self._reader

    def begun(self) -> None:
        self._owner.read_on(self)

    def answered(self, head: ResponseHead, body: bytes) -> None:
        outcome: Outcome | BackendError | None = maybe_response(head, body, self.call.id)
        if outcome is None:
            outcome = self._read(head, body)
            if isinstance(outcome, StreamBroken):
                self._pool.release(self.connection)
                self._repeated = True
                self._owner.resume(self, outcome)
                return
        self._pool.release(self.connection)
        self.end(outcome)

    def _read(self, head: ResponseHead, body: bytes) -> Outcome | BackendError:
        outcome: Outcome | BackendError
        try:
            outcome = self.reader.read_whole(self.connection, head, body)
        except BackendRefused as error:
            outcome = error
        except BackendError as error:
            self.connection.abort()
            outcome = error
        except Exception as error:  # noqa: BLE001 (raised into the event loop it would cost the backend its connection)
            outcome = self.failed(error)
        return outcome

    def lost(self, reason: str) -> None:
        self._pool.release(self.connection)
        self._repeated = self._owner.begin_again(self)
        if not self._repeated:
            self.end(BackendAnswerError(reason))

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if self._done is not None:
            self._done = None
            self._watch.remove(self)
            self._let_go()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._done is not None:
            self._let_go()
            self.end(BackendTimeout(f"no complete answer within {self.call.timeout_s} s"))

    def stop(self) -> None:
        """Stop the clock: the backend is not what is waited for."""
        self._stops += 1
        if self._stops > 1:
            return
        self._left_s = self.deadline - self._watch.now()
        self.deadline = NEVER

    def go_on(self) -> None:
        """Let the clock go on, unless the call has ended meanwhile."""
        self._stops -= 1
        if self._done is not None and not self._stops:
            self._watch.set(self, self._watch.now() + self._left_s)

    def close(self) -> None:
        """The transport closes, and with it the connection: no answer will come."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        self.end(BackendAnswerError("the connection was closed before the answer was complete"))

    def failed(self, error: Exception) -> BackendError:
        """Log an exception that is our own fault; return what the caller is told."""
        log.error("backend.failed", exc_info=error, extra={"fields": {"backend": self._owner.name}})
        self.connection.abort()
        return BackendError("the answer could not be read")

    def end(self, outcome: Outcome | BackendError) -> None:
        """Report what became of the call."""
        done, self._done = self._done, None
        if done is not None:
            self._watch.remove(self)
            if isinstance(outcome, BackendError):
                outcome.data = outcome.data or {"backend": self._owner.name}
                # Their frames hold this call and all that waits for it: a cycle of everything for every failure.
                outcome.__traceback__ = outcome.__cause__ = outcome.__context__ = None
            done(outcome)

    def _let_go(self) -> None:
        # A cancelled task holds its frame, and that this call: the two would keep what was received so far.
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        if not self._repeated:  # otherwise the task has a connection of its own and tells the backend itself
            # Not left to the task: one that is cancelled before it has run never runs.
            self.connection.abort()
            self._pool.release(self.connection)
            self._owner.abandon(self)
