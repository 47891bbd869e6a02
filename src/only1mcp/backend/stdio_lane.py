"""The calls of one child: lines go out together once a turn of the event loop, answers find their calls by id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from only1mcp._fast import scan
from only1mcp.backend.base import Asked, BackendCall, Done, Outcome
from only1mcp.backend.deadline import NEVER, DeadlineWatch
from only1mcp.backend.outbox import Line, Outbox, on_one_line
from only1mcp.backend.process import Child
from only1mcp.errors import BackendAnswerError, BackendError, BackendTimeout, BackendUnavailable, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.lines import MAX_GARBAGE_LINES, LineSplitter, Overlong

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

log = logging.getLogger("only1mcp.backend")

# `initialize` must not be cancelled (MCP "Cancellation"); `server/discover` may have reached a server that allows
# nothing before `initialize`.
NEVER_CANCELLED: Final = frozenset({"initialize", "server/discover"})


class Owner(Protocol):
    """The transport, as its lane sees it."""

    def input_closed(self) -> None:
        """The child takes no more, and who waited for it to do so has been told."""

    def output_closed(self) -> None:
        """The child says no more."""

    def heard(self, message: Envelope) -> None:
        """The child said something that answers no call: a notification, a request, an error without id."""

    def answered_nobody(self, message: Envelope) -> None:
        """The child answered a call that nobody waits for."""

    def misread(self, line: bytes, error: ProtocolError, *, cut_off: bool) -> None:
        """A line that is no valid message; `cut_off` where it has no newline."""

    def serves(self, asked: Asked) -> bool:
        """A call is about to begin; True: who is asked in the middle of it need not be told again."""

    def discard(self, line: Overlong) -> None:
        """A line beyond the limit."""

    def drown(self) -> None:
        """The child prints one line after the other that is no message."""


class StdioCall:
    """One call between its request and its answer: after it has begun comes `end`, once, or `cancel`."""

    __slots__ = ("_done", "_lane", "_left_s", "_stops", "asks", "call", "deadline", "line")

    def __init__(self, lane: StdioLane, call: BackendCall, done: Done) -> None:
        self._lane = lane
        self._done: Done | None = done
        self.call = call
        self.line = Line(on_one_line(call.message))
        self.deadline = NEVER
        self._left_s = NEVER
        self._stops = 0
        # What the child has asked in the middle of it, by the child's own ids; None for most.
        self.asks: set[bytes] | None = None

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if self._done is not None:
            self._done = None
            self._lane.leave(self, "the client has gone")

    def expire(self) -> None:
        """The deadline has passed."""
        if self._done is not None:
            self._lane.leave(self, "timed out")
            call = self.call
            what = f"did not answer {call.method} within {call.timeout_s:g} s"
            self.end(BackendTimeout(f"backend {self._lane.name!r} {what}", data={"backend": self._lane.name}))

    def stop(self) -> None:
        """Stop the clock: the child is not what is waited for."""
        self._stops += 1
        if self._stops == 1:
            self._left_s = self.deadline - self._lane.now()
            self.deadline = NEVER

    def go_on(self) -> None:
        """Let the clock go on, unless the call has ended meanwhile."""
        self._stops -= 1
        if self._done is not None and not self._stops:
            self._lane.set_deadline(self, self._lane.now() + self._left_s)

    def close(self) -> None:
        """The child has ended."""
        lane = self._lane
        if lane.outbox.withdraw(self.line):
            self.end(BackendUnavailable(f"backend {lane.name!r} {lane.over}", data={"backend": lane.name}))
        else:
            self.fail(f"{lane.over} while it worked on the request")

    def fail(self, what: str) -> None:
        """End with what the child did instead of answering."""
        self.end(BackendAnswerError(f"backend {self._lane.name!r} {what}", data={"backend": self._lane.name}))

    def end(self, outcome: Outcome | BackendError) -> None:
        """Report what became of the call."""
        done = self._done
        if done is None:
            return
        self._done = None
        self._lane.forget(self)
        try:
            done(outcome)
        except Exception:  # one call's trouble must not cost those whose answers came with it
            log.exception("backend.failed", extra={"fields": {"backend": self._lane.name}})


class StdioLane:
    """Writes the requests of a child and reads its lines; no task, future or timer for any of them."""

    def __init__(self, owner: Owner, name: str, line_limit_bytes: int) -> None:
        self._owner = owner
        self.name = name
        # From its start to its end, and how it ended.
        self.child: Child | None = None
        self.over: str | None = None
        self._loop = asyncio.get_running_loop()
        # Towards the child. `_due`: what waits is written later in this turn of the event loop; `_full`: when the
        # child has read something; `_broken`: never.
        self.outbox = Outbox()
        self._due = False
        self._full = False
        self._broken = False
        # From the child, with the lines since the last message that were none.
        self.lines = LineSplitter(line_limit_bytes)
        self._garbage = 0
        # The calls that wait for their answers, by id.
        self.calls: dict[bytes, StdioCall] = {}
        # The transport knows all it has to know of whom the child serves.
        self._known = False
        self._watch = DeadlineWatch()

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        """Do as `Transport.maybe_begin`."""
        if self.child is None or self._broken or call.id in self.calls:
            return None
        begun = StdioCall(self, call, done)
        if not self._maybe_add(begun.line):
            return None
        if not self._known and call.asked is not None:
            self._known = self._owner.serves(call.asked)
        self.calls[call.id] = begun
        begun.deadline = self._watch.add(begun, call.timeout_s)
        self._flush_soon()
        return begun.cancel

    def begin(self, call: BackendCall, done: Done) -> Callable[[], None]:
        """Do as `maybe_begin`, but raise `BackendUnavailable` when the child cannot take the call."""
        cancel = self.maybe_begin(call, done)
        if cancel is not None:
            return cancel
        if call.id in self.calls:
            raise BackendUnavailable(f"request id {call.id.decode()} is in use")
        raise self._no_room()

    def post(self, message: bytes) -> None:
        """Send what has no answer; raise `BackendUnavailable` when the child cannot take it."""
        if self._broken or not self._maybe_add(Line(on_one_line(message))):
            raise self._no_room()
        self._flush_soon()

    def end(self, what: str) -> None:
        """The child has ended, and `what` says how: so do the calls that wait for it."""
        self.child = None
        self.over = what
        self._watch.close()
        self.outbox.clear()

    # Writing.

    def _maybe_add(self, line: Line) -> bool:
        if self.outbox.maybe_add(line):
            return True
        if self._full:
            return False
        # What was gathered in this turn may leave and make room.
        self._write()
        return self.outbox.maybe_add(line)

    def _flush_soon(self) -> None:
        """Write once for all who have something to say in this turn, but at once what one write cannot take."""
        if self._full:
            return
        if self.outbox.fills_a_write():
            self._write()
        elif not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was gathered in this turn."""
        self._due = False
        if not self._full:
            self._write()

    def _write(self) -> None:
        if self.child is None or self._broken or not self.outbox:
            return
        try:
            self.outbox.wrote(self.child.write(self.outbox.data_to_send()))
        except OSError:
            # Calls do not fail while they begin.
            self._broken = True
            self._loop.call_soon(self._refuse_unsent)
            return
        if bool(self.outbox) != self._full:
            self._full = not self._full
            self.child.call_when_writable(self._write if self._full else None)

    def _refuse_unsent(self) -> None:
        """The child takes no more: what it was not told yet is refused, what it was told it may still answer."""
        if self.child is None:
            return
        for begun in list(self.calls.values()):
            if self.outbox.withdraw(begun.line):
                begun.end(self._no_room())
        self.outbox.clear()
        self._owner.input_closed()

    def _no_room(self) -> BackendUnavailable:
        what = "has closed its input" if self._broken else "does not read its input: too much is waiting for it already"
        return BackendUnavailable(f"backend {self.name!r} {what}", data={"backend": self.name})

    # Reading.

    def received(self, data: bytes) -> None:
        """Take what the child has printed, b"" at its end."""
        for line in self.lines.receive_data(data) if data else self.lines.receive_eof():
            if self._garbage > MAX_GARBAGE_LINES:
                self._owner.drown()
                return
            if not isinstance(line, bytes):
                self._owner.discard(line)
            elif line:
                self._take(line, not data)
        if not data:
            self._owner.output_closed()

    def _take(self, line: bytes, cut_off: bool) -> None:
        try:
            message = scan(line)
        except ProtocolError as error:
            if not cut_off:
                self._garbage += 1
            self._owner.misread(line, error, cut_off=cut_off)
            return
        self._garbage = 0
        if message.method is not None or message.id is None:
            self._owner.heard(message)
            return
        begun = self.calls.get(message.id)
        if begun is None:
            self._owner.answered_nobody(message)
        else:
            begun.end(message)

    # The time and the end of a call.

    def now(self) -> float:
        return self._watch.now()

    def set_deadline(self, begun: StdioCall, deadline: float) -> None:
        self._watch.set(begun, deadline)

    def forget(self, begun: StdioCall) -> None:
        self.calls.pop(begun.call.id, None)
        self._watch.remove(begun)

    def leave(self, begun: StdioCall, reason: str) -> None:
        """Tell the child that nobody waits for this answer any more, if it knows of the request at all."""
        self.forget(begun)
        if self.child is None or self.outbox.withdraw(begun.line) or begun.call.method in NEVER_CANCELLED:
            return
        params = b'{"requestId":' + begun.call.id + b',"reason":' + orjson.dumps(reason) + b"}"
        try:
            self.post(jsonrpc.notification("notifications/cancelled", params))
        except BackendError as error:
            log.debug("child.cancel_lost", extra={"fields": {"backend": self.name, "reason": error.message}})
