"""The stdio transport: one child process that speaks newline-delimited JSON on its standard input and output."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

import orjson

from only1mcp._fast import ERROR, NOTIFICATION, REQUEST, Envelope, members, scan
from only1mcp.backend.base import BackendCall, OnMessage, Transport
from only1mcp.backend.guard import Guard
from only1mcp.backend.lines import KEPT_BYTES, MAX_GARBAGE_LINES, LineSplitter, Overlong, answered_id, asks, is_asking
from only1mcp.backend.loglimit import LogLimit
from only1mcp.backend.outbox import Line, Outbox, on_one_line, rest
from only1mcp.backend.process import Child, child_environment, find_command
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import (
    BackendAnswerError,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    ProtocolError,
)
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import STATELESS_REVISIONS

# Room for what servers really send (a 20 MiB file in base64); a line without end would otherwise fill our memory.
LINE_LIMIT_BYTES: Final = 32 << 20
# Free text for a person to read: the rest of a longer line helps nobody and fills the log.
STDERR_LINE_LIMIT_BYTES: Final = 8192
# How much of a line that is no message is shown.
SHOWN_BYTES: Final = 200
# A child that closed its output is dying or useless. This long we wait for its exit status, which says more.
STATUS_GRACE_S: Final = 0.05

# `initialize` must not be cancelled (MCP "Cancellation"); `server/discover` may have reached a server that allows
# nothing before `initialize`.
_NEVER_CANCELLED: Final = frozenset({"initialize", "server/discover"})
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
        self._lines = LineSplitter(line_limit_bytes)
        self._garbage = 0
        self._stderr_lines = LineSplitter(STDERR_LINE_LIMIT_BYTES)
        self._outbox = Outbox()
        self._pending: dict[bytes, _Pending] = {}
        # Its end: why it takes no more calls, whether it was our wish, and the one task that stops it.
        self._gone: str | None = None
        self._ending = False
        self._stopping: asyncio.Task[None] | None = None
        self._status_timer: asyncio.TimerHandle | None = None
        self._stdout_log = LogLimit()
        self._stderr_log = LogLimit()

    def __repr__(self) -> str:
        state = self._gone or ("running" if self._child is not None else "not started")
        return f"<StdioTransport {self._id} {state} outstanding={len(self._pending)}>"

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
        self._child = self._spawn()
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
                on_stdout=self._stdout_received,
                on_stderr=self._stderr_received,
                on_exit=self._lose,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in an argument
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BackendUnavailable(f"command {self._command!r} could not be started: {reason.lower()}") from error

    async def call(self, call: BackendCall) -> Envelope:
        pending = _Pending(call, self._running().create_future())
        if call.id in self._pending:
            raise BackendUnavailable(f"request id {call.id.decode()} is in use")
        self._post(pending.line)
        self._pending[call.id] = pending
        if call.timeout_s is not None:
            pending.timer = self._loop.call_later(call.timeout_s, self._expire, pending)
        try:
            return await pending.future
        except asyncio.CancelledError:
            if pending.future.cancelled():
                self._abandon(pending, "the client has gone")
            else:  # the answer or the failure came in the same moment
                pending.future.exception()
            raise
        finally:
            if pending.timer is not None:
                pending.timer.cancel()
            self._pending.pop(call.id, None)

    async def send(self, message: bytes) -> None:
        self._running()
        self._post(Line(on_one_line(message)))

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

    # Writing.

    def _post(self, line: Line) -> None:
        """Write a line, or queue what the child does not take now; raise `BackendUnavailable` if it can do neither."""
        assert self._child is not None
        if not self._outbox:
            try:
                line.sent = self._child.write(rest(line))
            except OSError:
                self._input_closed()
                raise BackendUnavailable(
                    f"backend {self._id!r} has closed its input", data={"backend": self._id}
                ) from None
            if line.sent == len(line):
                return
            self._child.call_when_writable(self._write_ready)
        if not self._outbox.maybe_add(line):
            raise BackendUnavailable(
                f"backend {self._id!r} does not read its input: too much is waiting for it already",
                data={"backend": self._id},
            )

    def _write_ready(self) -> None:
        assert self._child is not None
        try:
            written = self._child.write(self._outbox.data_to_send())
        except OSError:
            self._input_closed()
            return
        if written:
            self._outbox.wrote(written)
        if not self._outbox:
            self._child.call_when_writable(None)

    def _input_closed(self) -> None:
        """The child takes no more: what it was not told yet is refused, what it was told it may still answer."""
        assert self._child is not None
        for pending in list(self._pending.values()):
            if self._outbox.withdraw(pending.line):
                pending.fail(BackendUnavailable(f"backend {self._id!r} has closed its input"))
        self._outbox.clear()
        self._child.close_stdin()
        self._await_status("closed its standard input")

    # The end of a call.

    def _expire(self, pending: _Pending) -> None:
        self._abandon(pending, "timed out")
        call = pending.call
        pending.fail(
            BackendTimeout(
                f"backend {self._id!r} did not answer {call.method} within {call.timeout_s:g} s",
                data={"backend": self._id},
            )
        )

    def _abandon(self, pending: _Pending, reason: str) -> None:
        """Tell the child that nobody waits for this answer any more, if it knows of the request at all."""
        if self._gone is not None or self._outbox.withdraw(pending.line):
            return
        if pending.call.method in _NEVER_CANCELLED:
            return
        params = b'{"requestId":' + pending.call.id + b',"reason":' + orjson.dumps(reason) + b"}"
        try:
            self._post(Line(jsonrpc.notification("notifications/cancelled", params)))
        except BackendError as error:
            self._log.debug("child.cancel_lost", extra={"fields": {"backend": self._id, "reason": error.message}})

    def _fail(self, id: bytes, what: str) -> None:
        pending = self._pending.get(id)
        if pending is not None:
            pending.fail(BackendAnswerError(f"backend {self._id!r} {what}", data={"backend": self._id}))

    # Reading.

    def _stdout_received(self, data: bytes) -> None:
        for line in self._lines.receive_data(data) if data else self._lines.receive_eof():
            if self._garbage > MAX_GARBAGE_LINES and self._child is not None:
                self._child.hang_up()
                self._lose(f"printed {MAX_GARBAGE_LINES} lines in a row that are no messages")
                return
            if isinstance(line, Overlong):
                self._discard(line)
            elif line:
                self._line_received(line, cut_off=not data)
        if not data:
            self._await_status("closed its standard output")

    def _line_received(self, line: bytes, *, cut_off: bool) -> None:
        try:
            message = scan(line)
        except ProtocolError as error:
            if cut_off:  # the end of the child, which comes next, says more
                self._complain("child.cut_off", line)
            else:
                self._garbage += 1
                self._misread(line, error)
            return
        self._garbage = 0
        if message.kind == NOTIFICATION or message.kind == REQUEST:
            self._deliver(self._receiver(message), message)
            return
        if message.id is None:
            self._refused_unread(message)
            return
        pending = self._pending.get(message.id)
        if pending is None or pending.future.done():
            self._complain("child.unknown_answer", message.id)
        else:
            pending.future.set_result(message)

    def _receiver(self, message: Envelope) -> OnMessage | None:
        """Return who this notification or request is for: the call it names, else whoever listens to the child."""
        if message.kind == NOTIFICATION and message.params is not None:
            if message.method == "notifications/progress":
                return self._caller(message, message.params, "progressToken") or self.on_message
            if message.method == "notifications/cancelled" and self.revision in STATELESS_REVISIONS:
                self._end_listening(message, message.params)
            elif message.meta is not None:
                return self._caller(message, message.meta, _SUBSCRIPTION_ID) or self.on_message
        return self.on_message

    def _caller(self, message: Envelope, span: tuple[int, int], key: str) -> OnMessage | None:
        pending = self._named(message, span, key)
        return pending.call.on_message if pending is not None else None

    def _named(self, message: Envelope, span: tuple[int, int], key: str) -> _Pending | None:
        """Return the outstanding call whose id is the value of `key` in the object at `span`."""
        try:
            value = members(message.data, *span).get(key)
        except ProtocolError:  # the key twice: which of them is meant nobody can say
            return None
        return None if value is None else self._pending.get(message.data[value[0] : value[1]])

    def _end_listening(self, message: Envelope, params: tuple[int, int]) -> None:
        """A stateless-era server ends a listen by cancelling it (2026-07-28 "Cancellation"); no answer follows."""
        pending = self._named(message, params, "requestId")
        if pending is not None and pending.call.method == "subscriptions/listen":
            self._fail(pending.call.id, "has ended the subscription")

    def _deliver(self, receiver: OnMessage | None, message: Envelope) -> None:
        if receiver is None:
            return
        try:
            receiver(message)
        except Exception:  # noqa: BLE001 - one call's trouble must not end the child that serves the others
            self._log.exception("child.message_failed", extra={"fields": {"backend": self._id}})

    def _misread(self, line: bytes, error: ProtocolError) -> None:
        """A line that is not a valid message: the answer to a call if it names one, else only worth a log line."""
        head = line[:KEPT_BYTES]
        id = error.id if error.id is not None and not asks(line) else answered_id(head, line[-KEPT_BYTES:])
        if id is not None and id in self._pending:
            self._fail(id, f"sent an answer that cannot be read: {error.message}")
        else:
            self._complain("child.garbage", head)

    def _discard(self, line: Overlong) -> None:
        """A line beyond the limit: fail the call it answers, or, when that cannot be known, all that wait."""
        self._complain("child.overlong_line", line.head, size=line.size)
        if is_asking(line.head):
            return
        id = answered_id(line.head, line.tail)
        for each in [id] if id is not None else list(self._pending):
            self._fail(each, f"sent an answer of {line.size} bytes, more than the {self._lines.limit} that are read")

    def _refused_unread(self, message: Envelope) -> None:
        """An error without id: the child could not read a request. With one call outstanding it is that one."""
        assert message.kind == ERROR
        self._complain("child.error_without_id", message.data)
        waiting = [id for id, pending in self._pending.items() if not pending.future.done()]
        if len(waiting) == 1:
            self._fail(waiting[0], "could not read the request")

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
        for pending in list(self._pending.values()):
            if self._outbox.withdraw(pending.line):
                pending.fail(BackendUnavailable(f"backend {self._id!r} {what}", data={"backend": self._id}))
            else:
                self._fail(pending.call.id, f"{what} while it worked on the request")
        self._outbox.clear()
        self._log.info("child.ended", extra={"fields": {"backend": self._id, "pid": self._child.pid, "reason": what}})
        self._stopping = self._loop.create_task(self._child.stop(), name=f"stop {self._id}")


class _Pending:
    """A call that waits for its answer."""

    __slots__ = ("call", "future", "line", "timer")

    def __init__(self, call: BackendCall, future: asyncio.Future[Envelope]) -> None:
        self.call = call
        self.future = future
        self.line = Line(on_one_line(call.message))
        self.timer: asyncio.TimerHandle | None = None

    def fail(self, error: BackendError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
