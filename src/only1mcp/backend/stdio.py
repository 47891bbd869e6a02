"""The stdio transport: one child process that speaks newline-delimited JSON on its standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from only1mcp._fast import ERROR, NOTIFICATION, Envelope
from only1mcp.backend.attribution import Attribution, Waiting
from only1mcp.backend.base import Asked, BackendCall, Done, OnMessage, Outcome, Transport
from only1mcp.backend.guard import Guard
from only1mcp.backend.loglimit import LogLimit
from only1mcp.backend.process import Child, child_environment, find_command
from only1mcp.backend.stdio_lane import StdioCall, StdioLane
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendError, BackendUnavailable, ProtocolError
from only1mcp.wire.lines import KEPT_BYTES, MAX_GARBAGE_LINES, LineSplitter, Overlong, answered_id, asks, is_asking
from only1mcp.wire.mcp import STATELESS_REVISIONS

# Room for what servers really send (a 20 MiB file in base64); a line without end would otherwise fill our memory.
LINE_LIMIT_BYTES: Final = 32 << 20
# Free text for a person to read: the rest of a longer line helps nobody and fills the log.
STDERR_LINE_LIMIT_BYTES: Final = 8192
# How much of a line that is no message is shown.
SHOWN_BYTES: Final = 200
# A child that closed its output is dying or useless. This long we wait for its exit status, which says more.
STATUS_GRACE_S: Final = 0.05

# The `_meta` key of what a stateless-era server sends to a listener (2026-07-28 "Subscriptions").
_SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"


class StdioTransport(Transport):
    """A child process as an endpoint. `start` spawns it once; a new child is a new transport."""

    def __init__(
        self,
        config: BackendConfig,
        *,
        guard: Guard,
        log: logging.Logger | None = None,
        line_limit_bytes: int = LINE_LIMIT_BYTES,
    ) -> None:
        self._id = config.id
        self._command = config.command or ""
        self._args = config.args
        self._declared = config.env
        self._cwd = config.cwd
        self._guard = guard
        self._log = log or logging.getLogger("only1mcp.backend")
        # The child.
        self._child: Child | None = None
        self._lane = StdioLane(self, config.id, line_limit_bytes)
        self._attribution = Attribution(config.id, self._lane.calls, self._post_quietly, self._log)
        self._stderr_lines = LineSplitter(STDERR_LINE_LIMIT_BYTES)
        # Its end: why it takes no more calls, whether it was our wish, and the one task that stops it.
        self._gone: str | None = None
        self._ending = False
        self._stopping: asyncio.Task[None] | None = None
        self._status_timer: asyncio.TimerHandle | None = None
        self._stdout_log = LogLimit()
        self._stderr_log = LogLimit()

    def __repr__(self) -> str:
        state = self._gone or ("running" if self._child is not None else "not started")
        return f"<StdioTransport {self._id} {state} outstanding={len(self._lane.calls)}>"

    @property
    def pid(self) -> int | None:
        """The process id of the child, which is also its process group."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Spawn the child; raise `BackendUnavailable` with what to mend."""
        if self._child is not None or self._ending:
            raise BackendUnavailable(f"backend {self._id!r} was started before")
        if os.name != "posix":
            raise BackendUnavailable("stdio backends need process groups, which this system does not have")
        self._loop = asyncio.get_running_loop()
        self._child = self._lane.child = self._spawn()
        self._log.info("child.started", extra={"fields": {"backend": self._id, "pid": self._child.pid}})

    def _spawn(self) -> Child:
        cwd = os.path.expanduser(self._cwd) if self._cwd is not None else None
        if cwd is not None and not os.path.isdir(cwd):
            raise BackendUnavailable(f"working directory {self._cwd!r} does not exist or is not a directory")
        env = child_environment(os.environ, self._declared)
        file = find_command(self._command, env.get("PATH"), cwd)
        try:
            return Child(
                (file, *self._args),
                env=env,
                cwd=cwd,
                guard=self._guard,
                on_stdout=self._lane.received,
                on_stderr=self._stderr_received,
                on_exit=self._lose,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in an argument
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BackendUnavailable(f"command {self._command!r} could not be started: {reason.lower()}") from error

    async def call(self, call: BackendCall) -> Envelope:
        future: asyncio.Future[Envelope] = self._running().create_future()
        cancel = self._lane.begin(call, partial(_settle, future))
        try:
            return await future
        except asyncio.CancelledError:
            cancel()
            if not future.cancelled():  # the answer or the failure came in the same moment
                future.exception()
            raise

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        return self._lane.maybe_begin(call, done)

    async def send(self, message: bytes) -> None:
        self._running()
        self._lane.post(message)

    async def listen(self) -> None:
        """Return at once: what a child says unasked arrives on its one output."""

    async def aclose(self) -> None:
        if self._stopping is None:
            if self._child is None:
                self._ending = True
                return
            self._end("was stopped")
        if self._stopping is not None:
            await asyncio.wait([self._stopping])

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._gone is not None or self._child is None:
            raise BackendUnavailable(
                f"backend {self._id!r} is not running: its process {self._gone or 'was not started'}",
                data={"backend": self._id},
            )
        return self._loop

    # What the lane tells.

    def input_closed(self) -> None:
        assert self._child is not None
        self._child.close_stdin()
        self._await_status("closed its standard input")

    def output_closed(self) -> None:
        self._await_status("closed its standard output")

    def drown(self) -> None:
        if self._child is not None:
            self._child.hang_up()
            self._lose(f"printed {MAX_GARBAGE_LINES} lines in a row that are no messages")

    def heard(self, message: Envelope) -> None:
        if message.method is None:
            self._refused_unread(message)
        elif self.revision not in STATELESS_REVISIONS:
            self._attribution.heard(message, self.on_message)
        else:
            self._deliver(self._receiver(message), message)

    def serves(self, asked: Asked) -> bool:
        return self._attribution.serve(asked.owner)

    def answered_nobody(self, message: Envelope) -> None:
        assert message.id is not None
        self._complain("child.unknown_answer", message.id)

    def misread(self, line: bytes, error: ProtocolError, *, cut_off: bool) -> None:
        if cut_off:  # the end of the child, which comes next, says more
            self._complain("child.cut_off", line)
            return
        head = line[:KEPT_BYTES]
        id = error.id if error.id is not None and not asks(line) else answered_id(head, line[-KEPT_BYTES:])
        if id is not None and id in self._lane.calls:
            self._lane.calls[id].fail(f"sent an answer that cannot be read: {error.message}")
        else:
            self._complain("child.garbage", head)

    def discard(self, line: Overlong) -> None:
        """Fail the call that the line answers, or, when that cannot be known, all that wait."""
        self._complain("child.overlong_line", line.head, size=line.size)
        if is_asking(line.head):
            return
        id = answered_id(line.head, line.tail)
        calls = self._lane.calls
        for begun in list(calls.values()) if id is None else [calls[id]] if id in calls else []:
            begun.fail(f"sent an answer of {line.size} bytes, more than the {self._lane.lines.limit} that are read")

    # What a child says that answers no call.

    def _receiver(self, message: Envelope) -> OnMessage | None:
        """Return who a stateless-era notification is for: the call it names, else whoever listens to the child."""
        begun: Waiting | None = None
        if message.kind == NOTIFICATION and message.params is not None:
            if message.method == "notifications/progress":
                begun = self._attribution.named(message, message.params, "progressToken")
            elif message.method == "notifications/cancelled":
                self._end_listening(message, message.params)
            elif message.meta is not None:
                begun = self._attribution.named(message, message.meta, _SUBSCRIPTION_ID)
        return begun.call.on_message if begun is not None and begun.call.on_message is not None else self.on_message

    def _post_quietly(self, message: bytes) -> None:
        with contextlib.suppress(BackendUnavailable):  # a child that does not read gets no answer
            self._lane.post(message)

    def _end_listening(self, message: Envelope, params: tuple[int, int]) -> None:
        """A stateless-era server ends a listen by cancelling it (2026-07-28 "Cancellation"); no answer follows."""
        begun = self._attribution.named(message, params, "requestId")
        if isinstance(begun, StdioCall) and begun.call.method == "subscriptions/listen":
            begun.fail("has ended the subscription")

    def _deliver(self, receiver: OnMessage | None, message: Envelope) -> None:
        if receiver is None:
            return
        try:
            receiver(message)
        except Exception:  # noqa: BLE001 - one call's trouble must not end the child that serves the others
            self._log.exception("child.message_failed", extra={"fields": {"backend": self._id}})

    def _refused_unread(self, message: Envelope) -> None:
        """An error without id: the child could not read a request. With one call outstanding it is that one."""
        assert message.kind == ERROR
        self._complain("child.error_without_id", message.data)
        waiting = list(self._lane.calls.values())
        if len(waiting) == 1:
            waiting[0].fail("could not read the request")

    def _complain(self, event: str, line: bytes, **fields: int) -> None:
        left_out = self._stdout_log.admit(self._loop.time())
        if left_out is not None:
            shown = {"line": line[:SHOWN_BYTES].decode("utf-8", "replace"), "left_out": left_out}
            self._log.warning(event, extra={"fields": {"backend": self._id, **shown, **fields}})

    def _stderr_received(self, data: bytes) -> None:
        for line in self._stderr_lines.receive_data(data) if data else self._stderr_lines.receive_eof():
            if not line:
                continue
            left_out = self._stderr_log.admit(self._loop.time())
            if left_out is None:
                continue
            text = line.head if isinstance(line, Overlong) else line
            fields = {"backend": self._id, "line": text.decode("utf-8", "replace"), "left_out": left_out}
            if isinstance(line, Overlong):
                fields["size"] = line.size
            self._log.info("child.stderr", extra={"fields": fields})

    # The end of the child.

    def _await_status(self, what: str) -> None:
        """It cannot serve any more. Its exit, which is likely next, says why; otherwise `what` has to do."""
        if self._gone is None and self._status_timer is None:
            self._status_timer = self._loop.call_later(STATUS_GRACE_S, self._lose, what)

    def _lose(self, what: str) -> None:
        """The child has died, or is as good as dead."""
        if self._gone is None:
            self._end(what)
            if self.on_lost is not None:
                self.on_lost(f"its process {what}")

    def _end(self, what: str) -> None:
        assert self._child is not None
        self._gone = what
        self._ending = True
        if self._status_timer is not None:
            self._status_timer.cancel()
        self._lane.end(what)
        self._log.info("child.ended", extra={"fields": {"backend": self._id, "pid": self._child.pid, "reason": what}})
        self._stopping = self._loop.create_task(self._child.stop(), name=f"stop {self._id}")


def _settle(future: asyncio.Future[Envelope], outcome: Outcome | BackendError) -> None:
    if future.done():
        return
    if isinstance(outcome, BackendError):
        future.set_exception(outcome)
    else:
        assert isinstance(outcome, Envelope), "nothing passes through a pipe"
        future.set_result(outcome)
