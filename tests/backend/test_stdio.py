"""The stdio transport against real children, most of them hostile, on both event loops."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from only1mcp._fast import Envelope
from only1mcp.backend.base import BackendCall
from only1mcp.backend.guard import Guard
from only1mcp.backend.outbox import WAITING_LIMIT_BYTES
from only1mcp.backend.stdio import StdioTransport
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendAnswerError, BackendTimeout, BackendUnavailable
from only1mcp.wire import jsonrpc

CHILD = str(Path(__file__).parents[1] / "fixtures" / "hostile_child.py")


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_loops(names: tuple[str, ...], test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on these event loops, and see that it leaves no task and no descriptor."""

    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        async def checked() -> None:
            before = set(os.listdir("/proc/self/fd"))
            await test(**fixtures)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert set(os.listdir("/proc/self/fd")) <= before

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(asyncio.sleep(0))  # a loop opens some descriptors with its first callbacks
            runner.run(checked())

    own = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([own, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    del run.__wrapped__
    return pytest.mark.parametrize("loop_factory", [LOOPS[name] for name in names], ids=names)(run)


both_loops = functools.partial(on_loops, ("asyncio", "uvloop"))
# What takes seconds is tried on the loop that is used in earnest.
one_loop = functools.partial(on_loops, ("uvloop",))


class Backend:
    """A started transport with what the tests ask of it."""

    def __init__(self, transport: StdioTransport, guard: Guard) -> None:
        self.transport = transport
        self.guard = guard
        self.messages: list[Envelope] = []
        self.lost: list[str] = []
        self._next = 0
        transport.on_message = self.messages.append
        transport.on_lost = self.lost.append

    def prepare(self, method: str, params: Any = None, **options: Any) -> BackendCall:
        self._next += 1
        id = b"%d" % self._next
        text = orjson.dumps(params) if params is not None else None
        return BackendCall(method, jsonrpc.request(id, method, text), id, options.pop("timeout_s", 20.0), **options)

    async def ask(self, method: str, params: Any = None, **options: Any) -> Any:
        answer = await self.transport.call(self.prepare(method, params, **options))
        assert answer.result is not None
        return jsonrpc.decode(answer.data, answer.result)


@asynccontextmanager
async def child(*argv: str, line_limit_bytes: int = 32 << 20, **entry: Any) -> AsyncIterator[Backend]:
    guard = Guard()
    config = BackendConfig(id="hostile", transport="stdio", command=sys.executable, args=(CHILD, *argv), **entry)
    transport = StdioTransport(config, guard=guard, line_limit_bytes=line_limit_bytes)
    try:
        await transport.start()
        yield Backend(transport, guard)
    finally:
        await transport.aclose()
        assert guard.groups == frozenset()
        await guard.aclose()


def peak_kib() -> int:
    """Return the most memory that this process has held since `forget_peak_kib` (proc(5), VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget_peak_kib() -> int:
    """Let the peak start anew from what is held now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_kib()


def state_of(pid: int) -> str | None:
    """Return the process's state letter, None when it is gone or a zombie that waits for init."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else state


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the state of a process has no event
            await asyncio.sleep(0.005)


def fields_of(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == event]  # type: ignore[attr-defined]


@both_loops
async def test_calls_are_answered_whatever_the_order_and_the_size() -> None:
    async with child() as backend:
        sizes = [0, 1, 100, 65_535, 65_536, 65_537, 300_000, 5]
        answers = await asyncio.gather(*(backend.ask("echo", {"text": "x" * size}) for size in sizes))
        assert [len(answer["text"]) for answer in answers] == sizes


@both_loops
async def test_line_breaks_between_tokens_do_not_break_the_framing() -> None:
    async with child() as backend:
        id = b"77"
        message = b'{\r\n  "jsonrpc": "2.0",\n  "id": 77,\n  "method": "echo",\n  "params": {\n"a": "b\\nc"\r}\n}'
        answer = await backend.transport.call(BackendCall("echo", message, id, 5.0))
        assert answer.result is not None
        assert jsonrpc.decode(answer.data, answer.result) == {"a": "b\nc"}
        assert answer.id == id


@both_loops
async def test_an_answer_in_single_bytes() -> None:
    async with child() as backend:
        assert await backend.ask("split") == "é" * 20


@one_loop
async def test_a_flood_of_garbage_ends_the_child() -> None:
    async with child() as backend:
        with pytest.raises(BackendAnswerError, match="lines in a row that are no messages"):
            await backend.ask("garbage_flood")
        assert len(backend.lost) == 1


@both_loops
async def test_garbage_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    async with child() as backend:
        assert await backend.ask("garbage") == "fine"
        assert await backend.ask("echo", {}) == {}
    shown = [fields["line"] for fields in fields_of(caplog, "child.garbage")]
    assert shown[0] == "Server v1.0 listening"
    assert len(shown) == 7
    assert all(fields["backend"] == "hostile" for fields in fields_of(caplog, "child.garbage"))


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("die", "exited with status 3"),
        ("killed", "was killed by signal 9 (SIGKILL)"),
        ("partial", "exited with status 1"),
    ],
)
@both_loops
async def test_death_fails_all_that_waits_at_once(method: str, reason: str) -> None:
    async with child() as backend:
        waiting = asyncio.ensure_future(backend.ask("silent"))
        await backend.ask("echo", {})
        for failed in await asyncio.gather(backend.ask(method), waiting, return_exceptions=True):
            assert isinstance(failed, BackendAnswerError)
            assert reason in failed.message
        assert backend.lost == [f"its process {reason}"]
        with pytest.raises(BackendUnavailable, match="is not running"):
            await backend.ask("echo", {})
        with pytest.raises(BackendUnavailable, match="is not running"):
            await backend.transport.send(b'{"jsonrpc":"2.0","method":"notifications/x"}')


@both_loops
async def test_death_from_outside_is_noticed_within_100_ms() -> None:
    took = []
    for _ in range(3):  # the machine may be busy with something else once
        async with child() as backend:
            waiting = asyncio.ensure_future(backend.ask("silent"))
            await backend.ask("echo", {})
            assert backend.transport.pid is not None
            began = time.monotonic()
            os.kill(backend.transport.pid, signal.SIGKILL)
            with pytest.raises(BackendAnswerError):
                await waiting
            took.append(time.monotonic() - began)
    assert min(took) < 0.1


@both_loops
async def test_death_is_noticed_where_there_is_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    async with child() as backend:
        with pytest.raises(BackendAnswerError, match="exited with status 3"):
            await backend.ask("die")
        assert backend.lost == ["its process exited with status 3"]
    async with child() as backend:
        assert await backend.ask("echo", {}) == {}


@pytest.mark.parametrize("method", ["answer_and_die", "answer_without_newline_and_die"])
@both_loops
async def test_the_last_words_count(method: str) -> None:
    async with child() as backend:
        assert await backend.ask(method) == "last words"
        await until(lambda: backend.lost == ["its process exited with status 0"])


@one_loop
async def test_heirs_of_the_pipes_delay_nothing_and_are_ended() -> None:
    async with child() as backend:
        waiting = asyncio.ensure_future(backend.ask("silent"))
        heir = await backend.ask("die_with_heir", {"after": 0.05})
        began = time.monotonic()
        with pytest.raises(BackendAnswerError, match="exited with status 4"):
            await waiting
        assert time.monotonic() - began < 0.5
        assert backend.lost == ["its process exited with status 4"]
    assert state_of(heir) is None


@both_loops
async def test_answers_to_nobody_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with child() as backend:
        with pytest.raises(BackendTimeout):
            await backend.ask("wrong_id", timeout_s=0.3)
        assert await backend.ask("twice") == "first"
        assert await backend.ask("echo", {"still": "here"}) == {"still": "here"}
    assert [fields["line"] for fields in fields_of(caplog, "child.unknown_answer")] == ["987654", '"1"', "2"]


@both_loops
async def test_crlf_line_ends() -> None:
    async with child() as backend:
        answer = await backend.transport.call(backend.prepare("crlf"))
        assert answer.data.endswith(b"}")


@pytest.mark.parametrize("method", ["bad_utf8", "nul", "deep", "no_version", "error_without_id"])
@both_loops
async def test_an_unreadable_answer_fails_its_call_alone(method: str) -> None:
    async with child() as backend:
        with pytest.raises(BackendAnswerError, match="read"):
            await backend.ask(method)
        assert await backend.ask("echo", {}) == {}
        assert backend.lost == []


@both_loops
async def test_a_broken_request_of_the_child_is_not_taken_for_an_answer() -> None:
    async with child() as backend:
        assert await backend.ask("false_friend") == "fine"


@both_loops
async def test_an_error_without_id_is_nobodys_when_several_wait() -> None:
    async with child() as backend:
        waiting = asyncio.ensure_future(backend.ask("silent", timeout_s=0.5))
        with pytest.raises(BackendTimeout):
            await backend.ask("error_without_id", timeout_s=0.2)
        with pytest.raises(BackendTimeout):
            await waiting


@both_loops
async def test_a_silent_child_times_out_and_is_told() -> None:
    async with child() as backend:
        with pytest.raises(BackendTimeout, match=r"did not answer silent within 0\.1 s"):
            await backend.ask("silent", timeout_s=0.1)
        assert [seen["params"]["requestId"] for seen in await backend.ask("notices")] == [1]
        for method in ("initialize", "server/discover"):
            with pytest.raises(BackendTimeout):
                await backend.ask(method, timeout_s=0.05)
        assert len(await backend.ask("notices")) == 1


@both_loops
async def test_a_cancelled_call_is_cancelled_at_the_child() -> None:
    async with child() as backend:
        waiting = asyncio.ensure_future(backend.ask("silent"))
        await backend.ask("echo", {})
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (notice,) = await backend.ask("notices")
        assert notice["method"] == "notifications/cancelled"
        assert notice["params"]["requestId"] == 2


@pytest.mark.parametrize("where", ["first", "last", "nowhere", "notification"])
@both_loops
async def test_a_line_of_100_mb_is_not_held(where: str) -> None:
    async with child(line_limit_bytes=1 << 20) as backend:
        other = asyncio.ensure_future(backend.ask("silent", timeout_s=5.0))
        await backend.ask("echo", {})
        before = forget_peak_kib()
        huge = asyncio.ensure_future(backend.ask("huge", {"where": where, "size": 100 << 20}, timeout_s=5.0))
        if where == "notification":
            assert await backend.ask("echo", {"after": 1}) == {"after": 1}
            huge.cancel()
        else:
            with pytest.raises(BackendAnswerError, match="more than the 1048576 that are read"):
                await huge
        assert peak_kib() - before < 10_000
        assert await backend.ask("echo", {"after": 2}) == {"after": 2}
        if where == "nowhere":
            with pytest.raises(BackendAnswerError):
                await other
        else:
            assert not other.done()
            other.cancel()
        await asyncio.gather(huge, other, return_exceptions=True)


@both_loops
async def test_a_flood_on_stderr_costs_neither_memory_nor_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "only1mcp.backend")
    async with child() as backend:
        before = forget_peak_kib()
        assert await backend.ask("stderr_flood", {"megabytes": 30}) == "done"
        assert peak_kib() - before < 10_000
    lines = fields_of(caplog, "child.stderr")
    assert 0 < len(lines) <= 400
    assert all(len(fields["line"]) <= 8192 for fields in lines)


@both_loops
async def test_stderr_is_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "only1mcp.backend")
    async with child() as backend:
        await backend.ask("stderr", {"text": "first\r\n\nsecond\x1b[0m\n" + "z" * 9000 + "\nno newline"})
    lines = fields_of(caplog, "child.stderr")
    assert [fields["line"][:20] for fields in lines] == ["first", "second\x1b[0m", "z" * 20, "no newline"]
    assert lines[2]["size"] == 9000
    assert {fields["backend"] for fields in lines} == {"hostile"}


@one_loop
async def test_a_child_that_never_reads_costs_a_bounded_queue() -> None:
    async with child("never_reads") as backend, child() as healthy:
        large = asyncio.ensure_future(backend.ask("echo", {"text": "x" * (8 << 20)}, timeout_s=1.0))
        await asyncio.sleep(0)
        small = [asyncio.ensure_future(backend.ask("echo", {"text": "y" * 100_000}, timeout_s=1.0)) for _ in range(20)]
        assert await healthy.ask("echo", {}) == {}
        refused = [task for task in small if task.done()]
        assert len(refused) == 20 - WAITING_LIMIT_BYTES // 100_100
        for task in refused:
            with pytest.raises(BackendUnavailable, match="does not read its input"):
                await task
        for task in (large, *(task for task in small if task not in refused)):
            with pytest.raises(BackendTimeout):
                await task
        # Those that had not begun to leave were taken back; the child does not hear of them.
        assert backend.transport._lane.outbox.waiting_bytes < 1000


@one_loop
async def test_what_waits_when_the_child_closes_its_input() -> None:
    async with child() as backend:
        assert await backend.ask("close_stdin_later") == "soon deaf"
        begun = asyncio.ensure_future(backend.ask("echo", {"text": "x" * (1 << 20)}))
        await asyncio.sleep(0)
        queued = asyncio.ensure_future(backend.ask("echo", {}))
        with pytest.raises(BackendUnavailable, match="has closed its input"):
            await queued
        with pytest.raises(BackendAnswerError, match="closed its standard input while it worked"):
            await begun


@both_loops
async def test_a_cancellation_that_finds_no_room_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "only1mcp.backend")
    async with child("never_reads") as backend:
        calls = [
            asyncio.ensure_future(backend.ask("echo", {"text": "x" * size}, timeout_s=timeout_s))
            for size, timeout_s in ((10, 0.1), (1 << 20, 9.0), (WAITING_LIMIT_BYTES - 150, 9.0))
        ]
        with pytest.raises(BackendTimeout):
            await calls[0]
        assert len(fields_of(caplog, "child.cancel_lost")) == 1
        assert backend.transport.pid is not None
        os.kill(backend.transport.pid, signal.SIGKILL)
        begun, queued = await asyncio.gather(*calls[1:], return_exceptions=True)
        assert isinstance(begun, BackendAnswerError)
        assert isinstance(queued, BackendUnavailable)  # no byte of it has left: it may be tried elsewhere


@both_loops
async def test_a_progress_token_that_can_be_read_two_ways_names_no_call() -> None:
    async with child() as backend:
        own: list[Envelope] = []
        assert await backend.ask("progress_twice", on_message=own.append) == "progressed"
        assert own == []
        assert [message.method for message in backend.messages] == ["notifications/progress"]


@both_loops
async def test_a_transport_starts_once() -> None:
    async with child() as backend:
        assert "running" in repr(backend.transport)
        with pytest.raises(BackendUnavailable, match="was started before"):
            await backend.transport.start()
        await backend.transport.listen()
    assert "was stopped" in repr(backend.transport)
    guard = Guard()
    transport = StdioTransport(BackendConfig(id="x", transport="stdio", command="sh"), guard=guard)
    assert "not started" in repr(transport)
    assert transport.pid is None
    await transport.aclose()
    with pytest.raises(BackendUnavailable):
        await transport.start()


@one_loop
async def test_a_child_that_closes_its_output_is_lost() -> None:
    async with child() as backend:
        with pytest.raises(BackendAnswerError, match="closed its standard output"):
            await backend.ask("close_stdout")
        assert backend.lost == ["its process closed its standard output"]


@one_loop
async def test_a_child_that_closes_its_input_is_lost() -> None:
    async with child() as backend:
        assert await backend.ask("close_stdin") == "deaf"
        with pytest.raises(BackendUnavailable, match="has closed its input"):
            await backend.ask("echo", {})
        await until(lambda: backend.lost == ["its process closed its standard input"])


@both_loops
async def test_a_child_that_exits_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "only1mcp.backend")
    async with child("exit_at_once") as backend:
        with pytest.raises((BackendAnswerError, BackendUnavailable)):
            await backend.ask("echo", {})
        await until(lambda: backend.lost == ["its process exited with status 7"])
    assert [fields["line"] for fields in fields_of(caplog, "child.stderr")] == ["cannot read my settings"]


@both_loops
async def test_progress_goes_to_its_call_and_the_rest_to_the_transport() -> None:
    async with child() as backend:
        own: list[Envelope] = []
        assert await backend.ask("progress", on_message=own.append) == "progressed"
        tokens = [orjson.loads(message.data)["params"]["progressToken"] for message in own]
        assert tokens == [1]
        assert [message.method for message in backend.messages] == [
            "notifications/progress",
            "notifications/progress",
            "notifications/message",
        ]


@both_loops
async def test_what_a_subscription_hears_goes_to_its_call() -> None:
    async with child() as backend:
        backend.transport.revision = "2026-07-28"
        own: list[Envelope] = []
        with pytest.raises(BackendAnswerError, match="has ended the subscription"):
            await backend.ask("subscriptions/listen", {"end": True}, on_message=own.append, timeout_s=None)
        assert [message.method for message in own] == [
            "notifications/subscriptions/acknowledged",
            "notifications/tools/list_changed",
        ]


@both_loops
async def test_requests_of_the_child_are_handed_over_and_answered_by_send() -> None:
    async with child() as backend:
        assert await backend.ask("says", {"jsonrpc": "2.0", "id": 0, "method": "ping"}) == "said"
        (request,) = backend.messages
        assert (request.method, request.id) == ("ping", b"0")
        assert request.id is not None
        await backend.transport.send(jsonrpc.result(request.id, b"{}"))
        assert await backend.ask("notices") == [{"jsonrpc": "2.0", "id": 0, "result": {}}]


@both_loops
async def test_a_listener_that_fails_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    async with child() as backend:
        backend.transport.on_message = lambda message: 1 // 0
        assert await backend.ask("says", {"jsonrpc": "2.0", "id": 0, "method": "ping"}) == "said"
    assert "backend.message_failed" in [record.getMessage() for record in caplog.records]


@both_loops
async def test_the_environment_is_ours_to_choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONLY1MCP_ADMIN_API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "() { :; }")
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        async with child("a b", "$HOME;*", env={"TOKEN": "declared", "LANG": "de_DE"}, cwd=str(tmp_path)) as backend:
            facts = await backend.ask("isolation")
    finally:
        os.close(leaked)
    assert "secret" not in str(facts["env"])
    allowed = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TOKEN"}
    assert set(facts["env"]) <= allowed
    assert facts["env"]["TOKEN"] == "declared"
    assert facts["env"]["LANG"] == "de_DE"
    assert facts["cwd"] == str(tmp_path)
    assert facts["argv"] == ["a b", "$HOME;*"]
    assert facts["leader"] is True
    assert set(facts["fds"]) - {"0", "1", "2"} == set()


@both_loops
async def test_a_polite_child_leaves_when_its_input_closes() -> None:
    async with child() as backend:
        assert await backend.ask("echo", {}) == {}
        began = time.monotonic()
        waiting = asyncio.ensure_future(backend.ask("silent"))
        await asyncio.sleep(0)
        await asyncio.gather(backend.transport.aclose(), backend.transport.aclose())
        assert time.monotonic() - began < 1.5
        with pytest.raises(BackendAnswerError, match="was stopped while it worked on the request"):
            await waiting
        assert backend.lost == []  # it was our wish
        await backend.transport.aclose()


@pytest.mark.slow
@one_loop
async def test_a_child_that_ignores_everything_is_killed() -> None:
    async with child() as backend:
        await backend.ask("ignore_sigterm")
        pid = backend.transport.pid
        assert pid is not None
        began = time.monotonic()
        await backend.transport.aclose()
        assert 4.9 < time.monotonic() - began < 6.5
        assert state_of(pid) is None


@one_loop
async def test_a_child_that_ignores_the_end_of_input_is_terminated() -> None:
    async with child() as backend:
        await backend.ask("ignore_eof")
        began = time.monotonic()
        await backend.transport.aclose()
        assert 1.9 < time.monotonic() - began < 3.5


@pytest.mark.slow
@one_loop
async def test_grandchildren_that_ignore_sigterm_are_killed() -> None:
    async with child() as backend:
        grandchild = await backend.ask("grandchild")
        assert state_of(grandchild) is not None
    assert state_of(grandchild) is None


@both_loops
async def test_what_is_left_of_a_group_may_be_zombies() -> None:
    # The heir obeys SIGTERM; whether its zombie is reaped soon is for init to say.
    async with child() as backend:
        heir = await backend.ask("grandchild", {"program": "import time; print(flush=True); time.sleep(120)"})
        began = time.monotonic()
        await backend.transport.aclose()
        assert time.monotonic() - began < 2.0
        assert state_of(heir) is None


@both_loops
async def test_closing_may_be_cut_short() -> None:
    async with child() as backend:
        await backend.ask("ignore_sigterm")
        pid = backend.transport.pid
        assert pid is not None
        closing = asyncio.ensure_future(backend.transport.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        stopping = backend.transport._stopping
        assert stopping is not None
        assert not stopping.done()  # the child is still being stopped
        stopping.cancel()  # as the end of the loop does
        await until(lambda: state_of(pid) is None)
        await until(lambda: backend.guard.groups == frozenset())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"command": "no-such-command-at-all"}, "was not found"),
        ({"command": "./no/such/file"}, "does not exist"),
        ({"command": "/tmp"}, "permission denied"),
        ({"command": "sh", "cwd": "/no/such/place"}, "working directory '/no/such/place' does not exist"),
        ({"command": "sh", "args": ("a\x00b",)}, "could not be started"),
    ],
)
@both_loops
async def test_a_start_that_fails_says_what_to_mend(entry: dict[str, Any], reason: str) -> None:
    guard = Guard()
    transport = StdioTransport(BackendConfig(id="x", transport="stdio", **entry), guard=guard)
    with pytest.raises(BackendUnavailable) as failed:
        await transport.start()
    assert reason in failed.value.message
    with pytest.raises(BackendUnavailable, match="was not started"):
        await transport.call(BackendCall("ping", b"{}", b"1", 1.0))
    await transport.aclose()
    assert guard.groups == frozenset()
    await guard.aclose()


@both_loops
async def test_a_file_that_the_system_cannot_run(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_bytes(b"\x00\x01\x02 no program")
    guard = Guard()
    config = BackendConfig(id="x", transport="stdio", command="./program", cwd=str(tmp_path))
    for mode, reason in ((0o644, "permission denied"), (0o755, "exec format error")):
        file.chmod(mode)
        with pytest.raises(BackendUnavailable, match=reason):
            await StdioTransport(config, guard=guard).start()
    await guard.aclose()


@both_loops
async def test_an_id_in_use_is_refused_before_anything_is_sent() -> None:
    async with child() as backend:
        call = backend.prepare("silent", timeout_s=0.2)
        waiting = asyncio.ensure_future(backend.transport.call(call))
        await asyncio.sleep(0)
        with pytest.raises(BackendUnavailable, match="in use"):
            await backend.transport.call(call)
        with pytest.raises(BackendTimeout):
            await waiting
