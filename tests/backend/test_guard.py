"""The guard, with real processes: nothing survives the proxy, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from only1mcp.backend import guard as guard_module
from only1mcp.backend import guard_main
from only1mcp.backend.guard import Guard

FIXTURES = Path(__file__).parents[1] / "fixtures"
# Above the largest process id that Linux gives out.
NOBODY = 1 << 23
SLEEP = "import time; print(flush=True); time.sleep(120)"


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie that waits for init does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the state of a process has no event
            await asyncio.sleep(0.005)


@contextmanager
def sleeper(program: str = SLEEP, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True, **options
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    guard = Guard()
    yield guard
    await guard.aclose()
    assert guard.pid is None


@contextmanager
def proxy(*argv: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """The parent of `guarded_parent.py` and the ids of all that it started."""
    command = [sys.executable, str(FIXTURES / "guarded_parent.py"), str(FIXTURES / "hostile_child.py"), *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            yield parent, json.loads(parent.stdout.readline())
        finally:
            parent.kill()


def test_nothing_survives_a_proxy_that_is_killed() -> None:
    with proxy() as (parent, pids):
        everyone = [pids["guard"], pids["grandchild"], *pids["children"]]
        assert all(is_alive(pid) for pid in everyone)
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in everyone), 6.0)


def test_the_guard_ignores_signals_meant_for_the_proxy() -> None:
    with proxy() as (parent, pids):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pids["guard"], number)
        assert os.getsid(pids["guard"]) == pids["guard"]
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in [pids["guard"], *pids["children"]]), 6.0)


def test_a_guard_that_dies_is_replaced_and_told_everything() -> None:
    with proxy("survive_the_guard") as (parent, pids):
        os.kill(pids["guard"], signal.SIGKILL)
        assert parent.stdout is not None
        second = json.loads(parent.stdout.readline())["guard"]
        assert all(is_alive(pid) for pid in pids["children"])
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in [second, pids["grandchild"], *pids["children"]]), 6.0)


async def test_it_starts_with_the_first_child_and_leaves_nothing_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    guard = Guard()
    assert guard.pid is None
    with sleeper() as child:
        guard.register(child.pid)
        pid = guard.pid
        assert pid is not None
        guard.unregister(child.pid)
        assert guard.groups == frozenset()
        await guard.aclose()
        assert not is_alive(pid)
        await guard.aclose()
        guard.register(child.pid)  # a closed guard starts nothing
        assert guard.pid is None
        assert is_alive(child.pid)
    assert set(os.listdir("/proc/self/fd")) <= before


async def test_closing_ends_what_is_registered_and_nothing_else(guard: Guard) -> None:
    with sleeper() as registered, sleeper() as forgotten, sleeper() as stranger:
        for process in (registered, forgotten):
            guard.register(process.pid)
        guard.unregister(forgotten.pid)
        # The guard waits for the group to be gone, and the zombie is ours to reap.
        await asyncio.gather(guard.aclose(), asyncio.to_thread(registered.wait, 5))
        assert registered.returncode == -signal.SIGTERM
        assert is_alive(forgotten.pid)
        assert is_alive(stranger.pid)


async def test_it_is_small(guard: Guard) -> None:
    with sleeper() as child:
        guard.register(child.pid)
        await until(lambda: "guard_main" in about(guard, "cmdline"))
        await until(lambda: "(sleeping)" in about(guard, "status"))  # it has started and waits for us
        guard.unregister(child.pid)
    (rss,) = [int(line.split()[1]) for line in about(guard, "status").splitlines() if line.startswith("VmRSS")]
    assert rss < 16_000  # KiB, most of it shared with every other Python


def about(guard: Guard, file: str) -> str:
    return Path(f"/proc/{guard.pid}/{file}").read_text()


def spawn_guard() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", guard_main.__file__], stdin=subprocess.PIPE)


def say(guard: subprocess.Popen[bytes], lines: bytes) -> None:
    """Tell the guard something, then be gone."""
    assert guard.stdin is not None
    guard.stdin.write(lines)
    guard.stdin.close()


def test_a_child_that_was_not_registered_yet_is_known_by_its_input() -> None:
    theirs, ours = os.pipe()
    with sleeper(stdin=theirs) as announced, sleeper(stdin=subprocess.DEVNULL) as stranger, spawn_guard() as guard:
        say(guard, b"?%d\n" % os.fstat(theirs).st_ino)
        announced.wait(5)
        assert announced.returncode == -signal.SIGTERM
        assert is_alive(stranger.pid)
        assert guard.wait(5) == 0
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("after", [b"?0\n", b"+%d\n-%d\n"])
def test_an_announcement_ends_with_the_spawn(after: bytes) -> None:
    theirs, ours = os.pipe()
    with sleeper(stdin=theirs) as child, spawn_guard() as guard:
        if b"%d" in after:
            after %= (child.pid, child.pid)
        say(guard, b"?%d\n" % os.fstat(theirs).st_ino + after)
        assert guard.wait(5) == 0
        assert is_alive(child.pid)
    os.close(theirs)
    os.close(ours)


def test_lines_may_come_in_pieces() -> None:
    with sleeper() as child, spawn_guard() as guard:
        assert guard.stdin is not None
        for byte in b"+%d\n" % child.pid:
            guard.stdin.write(bytes([byte]))
            guard.stdin.flush()
        guard.stdin.close()
        child.wait(5)
        assert child.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_a_group_that_ignores_sigterm_is_killed() -> None:
    program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP
    with sleeper(program) as child, spawn_guard() as guard:
        say(guard, b"+%d\n" % child.pid)
        child.wait(5)
        assert child.returncode == -signal.SIGKILL


async def test_a_guard_that_cannot_start_is_tried_again(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    python = sys.executable
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    guard.register(NOBODY)
    assert guard.pid is None
    assert [record.getMessage() for record in caplog.records] == ["guard.not_started"]
    monkeypatch.setattr(sys, "executable", python)
    await until(lambda: guard.pid is not None)
    guard.unregister(NOBODY)


async def test_a_guard_that_stopped_reading_is_replaced(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    guard.register(NOBODY)
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    for _ in range(20_000):
        guard.unregister(NOBODY + 1)
    assert not is_alive(first)
    assert "guard.died" in [record.getMessage() for record in caplog.records]
    await until(lambda: guard.pid not in (None, first))
    guard.unregister(NOBODY)


async def test_a_guard_that_will_not_leave_is_killed(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard_module, "LEAVE_GRACE_S", 0.1)
    caplog.set_level(logging.ERROR, "only1mcp.backend")
    guard.register(NOBODY)
    guard.unregister(NOBODY)
    pid = guard.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await guard.aclose()
    assert not is_alive(pid)
    assert [record.getMessage() for record in caplog.records] == ["guard.stuck"]
