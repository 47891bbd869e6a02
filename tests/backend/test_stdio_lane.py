"""Calls to a child without a task: each ends once, at whatever moment things go wrong, and harms no other."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from tests.backend.test_stdio import Backend, both_loops, child, fields_of

from only1mcp._fast import ERROR, Envelope
from only1mcp.backend.base import Outcome
from only1mcp.backend.outbox import WAITING_LIMIT_BYTES, WRITE_BYTES
from only1mcp.backend.stdio_lane import StdioLane
from only1mcp.errors import BackendAnswerError, BackendError, BackendTimeout, BackendUnavailable
from only1mcp.wire import jsonrpc


class Direct:
    """A call in the lane; `told` is everything its `done` was called with."""

    def __init__(self, backend: Backend, method: str, params: Any = None, **options: Any) -> None:
        self.told: list[Outcome | BackendError] = []
        self._over = asyncio.Event()
        self.call = backend.prepare(method, params, **options)
        cancel = backend.transport.maybe_begin(self.call, self._done)
        assert cancel is not None
        self.cancel: Callable[[], None] = cancel
        assert self.told == []  # later, never at once

    def _done(self, outcome: Outcome | BackendError) -> None:
        self.told.append(outcome)
        self._over.set()

    async def outcome(self) -> Outcome | BackendError:
        await self._over.wait()
        assert len(self.told) == 1
        return self.told[0]

    async def answer(self) -> Any:
        outcome = await self.outcome()
        assert isinstance(outcome, Envelope), outcome
        assert outcome.result is not None
        assert outcome.id == self.call.id
        return jsonrpc.decode(outcome.data, outcome.result)

    async def error(self) -> BackendError:
        outcome = await self.outcome()
        assert isinstance(outcome, BackendError), outcome
        assert outcome.data == {"backend": "hostile"}
        return outcome


class Spy:
    """The child as its lane sees it, with a list of what is written to it."""

    def __init__(self, lane: StdioLane) -> None:
        self._child: Any = lane.child
        self.writes: list[bytes] = []
        lane.child = self  # type: ignore[assignment]

    def write(self, parts: Sequence[bytes | memoryview]) -> int:
        count: int = self._child.write(parts)
        self.writes.append(b"".join(parts)[:count])
        return count

    def call_when_writable(self, ready: Callable[[], None] | None) -> None:
        self._child.call_when_writable(ready)


def never(outcome: Outcome | BackendError) -> None:
    raise AssertionError(f"nothing was begun, but this came: {outcome!r}")


@both_loops
async def test_answers_find_their_calls_without_tasks_or_timers() -> None:
    async with child() as backend:
        before = asyncio.all_tasks()
        calls = [Direct(backend, "echo", {"number": number, "text": "x" * number}) for number in range(300)]
        assert asyncio.all_tasks() == before
        for number, call in enumerate(calls):
            assert (await call.answer())["number"] == number
        assert "outstanding=0" in repr(backend.transport)


@both_loops
async def test_what_is_said_in_one_turn_leaves_in_one_write() -> None:
    async with child() as backend:
        spy = Spy(backend.transport._lane)
        calls = [Direct(backend, "echo", {"number": number}) for number in range(3)]
        await backend.transport.send(jsonrpc.notification("notifications/roots/list_changed"))
        assert spy.writes == []
        for call in calls:
            await call.answer()
        (write,) = spy.writes
        assert write.count(b"\n") == 4
        await Direct(backend, "echo", {}).answer()
        assert len(spy.writes) == 2


@both_loops
async def test_what_one_write_cannot_take_leaves_at_once() -> None:
    async with child() as backend:
        spy = Spy(backend.transport._lane)
        small, large = Direct(backend, "echo", {}), Direct(backend, "echo", {"text": "x" * WRITE_BYTES})
        assert len(spy.writes) == 1
        assert await small.answer() == {}
        assert len((await large.answer())["text"]) == WRITE_BYTES


@both_loops
async def test_errors_of_the_server_are_answers_where_they_name_their_call() -> None:
    async with child() as backend:
        named, other = Direct(backend, "silent"), Direct(backend, "silent")
        error = b'{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n'
        backend.transport._lane.received(error % b"1" + error % b"null")
        outcome = await named.outcome()
        assert isinstance(outcome, Envelope)
        assert (outcome.kind, outcome.id) == (ERROR, b"1")
        assert "could not read the request" in str(await other.error())


@both_loops
async def test_progress_goes_to_its_call_before_the_answer() -> None:
    async with child() as backend:
        own: list[tuple[Envelope, int]] = []
        call = Direct(backend, "progress", on_message=lambda message: own.append((message, len(call.told))))
        assert await call.answer() == "progressed"
        assert [(orjson.loads(message.data)["params"]["progressToken"], told) for message, told in own] == [(1, 0)]
        assert [message.method for message in backend.messages][-1] == "notifications/message"


@both_loops
async def test_a_request_of_the_child_is_handed_over_and_answered() -> None:
    async with child() as backend:
        assert await Direct(backend, "says", {"jsonrpc": "2.0", "id": 0, "method": "ping"}).answer() == "said"
        (request,) = backend.messages
        assert (request.method, request.id) == ("ping", b"0")
        await backend.transport.send(jsonrpc.result(b"0", b"{}"))
        assert await Direct(backend, "notices").answer() == [{"jsonrpc": "2.0", "id": 0, "result": {}}]


@both_loops
async def test_a_call_times_out_and_the_child_is_told() -> None:
    async with child() as backend:
        late, other = Direct(backend, "silent", timeout_s=0.05), Direct(backend, "silent", timeout_s=9.0)
        error = await late.error()
        assert isinstance(error, BackendTimeout)
        assert "did not answer silent within 0.05 s" in str(error)
        (notice,) = await Direct(backend, "notices").answer()
        assert notice["method"] == "notifications/cancelled"
        assert notice["params"] == {"requestId": 1, "reason": "timed out"}
        late.cancel()  # too late to matter
        assert other.told == []
        other.cancel()
        assert len(await Direct(backend, "notices").answer()) == 2


@both_loops
async def test_a_cancelled_call_is_told_to_the_child_alone() -> None:
    async with child() as backend:
        call, first = Direct(backend, "silent"), Direct(backend, "initialize_silently")
        await Direct(backend, "echo", {}).answer()
        call.cancel()
        call.cancel()
        first.call.method = "initialize"  # which must not be cancelled
        first.cancel()
        (notice,) = await Direct(backend, "notices").answer()
        assert notice["params"] == {"requestId": 1, "reason": "the client has gone"}
        assert call.told == first.told == []
        assert "outstanding=0" in repr(backend.transport)


@both_loops
async def test_a_call_that_is_cancelled_before_it_left_never_leaves() -> None:
    async with child() as backend:
        spy = Spy(backend.transport._lane)
        Direct(backend, "silent").cancel()
        assert await Direct(backend, "notices").answer() == []
        assert len(spy.writes) == 1
        assert b"silent" not in spy.writes[0]


@both_loops
async def test_an_answer_that_nobody_waits_for_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with child() as backend:
        assert await Direct(backend, "twice").answer() == "first"
        assert await Direct(backend, "echo", {}).answer() == {}
    assert [fields["line"] for fields in fields_of(caplog, "child.unknown_answer")] == ["1"]


@pytest.mark.parametrize("method", ["bad_utf8", "no_version", "deep"])
@both_loops
async def test_an_answer_that_cannot_be_read_fails_its_call_alone(method: str) -> None:
    async with child() as backend:
        other = Direct(backend, "silent")
        error = await Direct(backend, method).error()
        assert isinstance(error, BackendAnswerError)
        assert "cannot be read" in str(error)
        assert other.told == []
        other.cancel()


@pytest.mark.parametrize("method", ["die", "killed", "partial", "close_stdout"])
@both_loops
async def test_a_child_that_dies_fails_what_it_knew_of_and_returns_the_rest(method: str) -> None:
    async with child() as backend:
        known = Direct(backend, "silent")
        await Direct(backend, "echo", {}).answer()
        fatal = Direct(backend, method)
        for call in (known, fatal):
            error = await call.error()
            assert isinstance(error, BackendAnswerError)
            assert "while it worked on the request" in str(error)
            assert not error.retryable
        assert len(backend.lost) == 1
        assert backend.transport.maybe_begin(backend.prepare("echo"), never) is None
        with pytest.raises(BackendUnavailable, match="is not running"):
            await backend.ask("echo", {})


@both_loops
async def test_what_has_not_left_a_closing_transport_may_be_tried_elsewhere() -> None:
    async with child() as backend:
        known = Direct(backend, "silent")
        await Direct(backend, "echo", {}).answer()
        gathered = Direct(backend, "echo", {})
        closing = asyncio.ensure_future(backend.transport.aclose())
        backend.transport._end("was stopped")
        assert isinstance(await known.error(), BackendAnswerError)
        assert (await gathered.error()).retryable
        assert backend.lost == []
        await closing


@both_loops
async def test_a_child_that_closed_its_input_takes_no_call() -> None:
    async with child() as backend:
        assert await Direct(backend, "close_stdin").answer() == "deaf"
        unsent = Direct(backend, "echo", {})
        error = await unsent.error()
        assert isinstance(error, BackendUnavailable)
        assert "has closed its input" in str(error)
        assert backend.transport.maybe_begin(backend.prepare("echo"), never) is None
        with pytest.raises(BackendUnavailable, match="has closed its input"):
            await backend.ask("echo", {})
        with pytest.raises(BackendUnavailable, match="has closed its input"):
            await backend.transport.send(b"{}")


@both_loops
async def test_the_clock_of_a_call_stands_until_every_stop_is_over() -> None:
    async with child() as backend:
        waits, other = Direct(backend, "silent", timeout_s=0.05), Direct(backend, "silent", timeout_s=0.1)
        begun = backend.transport._lane.calls[waits.call.id]
        begun.stop()
        begun.stop()
        begun.go_on()
        assert isinstance(await other.error(), BackendTimeout)
        assert waits.told == []
        begun.go_on()
        assert isinstance(await waits.error(), BackendTimeout)
        begun.stop()
        begun.go_on()  # too late to matter
        assert len(waits.told) == 1


@both_loops
async def test_an_input_that_breaks_under_a_large_call_fails_it_later() -> None:
    async with child() as backend:
        assert await Direct(backend, "close_stdin").answer() == "deaf"
        assert isinstance(await Direct(backend, "echo", {"text": "x" * WRITE_BYTES}).error(), BackendUnavailable)


@both_loops
async def test_a_child_that_does_not_read_is_not_written_to_without_end() -> None:
    async with child("never_reads") as backend:
        large, small = {"text": "x" * (4 * WRITE_BYTES)}, {"text": "y" * 100_000}
        calls = [Direct(backend, "echo", large, timeout_s=0.2)]
        calls += [Direct(backend, "echo", small, timeout_s=0.2) for _ in range(WAITING_LIMIT_BYTES // 100_100)]
        assert backend.transport.maybe_begin(backend.prepare("echo", small), never) is None
        for call in calls:
            assert isinstance(await call.error(), BackendTimeout)
        # Those that had not begun to leave were taken back.
        assert backend.transport._lane.outbox.waiting_bytes < 1000


@both_loops
async def test_an_id_in_use_is_left_to_others() -> None:
    async with child() as backend:
        call = Direct(backend, "silent")
        assert backend.transport.maybe_begin(call.call, never) is None
        call.cancel()


@both_loops
async def test_a_caller_that_fails_costs_no_other_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    def fails(outcome: Outcome | BackendError) -> None:
        raise LookupError("a bug")

    async with child() as backend:
        assert backend.transport.maybe_begin(backend.prepare("echo", {}), fails) is not None
        assert await Direct(backend, "echo", {"after": 1}).answer() == {"after": 1}
        assert backend.transport.maybe_begin(backend.prepare("silent"), fails) is not None
        other = Direct(backend, "silent")
        await Direct(backend, "echo", {}).answer()
        assert backend.transport.pid is not None
        os.kill(backend.transport.pid, signal.SIGKILL)
        assert "was killed by signal 9" in str(await other.error())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "backend.failed",
        "backend.failed",
    ]


@pytest.mark.parametrize("method", ["echo", "bad_utf8", "die"])
@both_loops
async def test_an_ended_call_is_freed_without_the_garbage_collector(method: str) -> None:
    class Caller:
        def __init__(self) -> None:
            self.over: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def hear(self, message: Envelope) -> None:
            pass

    async with child() as backend:
        caller = Caller()
        freed = weakref.ref(caller)
        gc.disable()
        try:
            call = backend.prepare(method, {}, on_message=caller.hear)
            assert backend.transport.maybe_begin(call, caller.over.set_result) is not None
            await caller.over
            del caller, call
            await asyncio.sleep(0)
            assert freed() is None
        finally:
            gc.enable()
