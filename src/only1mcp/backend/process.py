"""One child process: a group of its own, three pipes on the event loop, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from only1mcp.backend.guard import Guard
from only1mcp.errors import BackendUnavailable

log = logging.getLogger("only1mcp.backend")

# MCP "stdio", shutdown: close its input, wait, SIGTERM, wait, SIGKILL.
CLOSE_GRACE_S: Final = 2.0
TERM_GRACE_S: Final = 3.0
# A process in uninterruptible sleep outlives even SIGKILL: stopping it must end all the same.
KILL_GRACE_S: Final = 2.0
GROUP_POLL_S: Final = 0.02
# Looking for zombies reads all of /proc: some milliseconds, not to be spent at every poll.
ZOMBIE_POLLS: Final = 10
# A Linux pipe holds this much. One read per turn of the loop, so that a talkative child starves nobody.
READ_BYTES: Final = 65536
# A dead child's pipes hold a pipe's worth; more comes only from descendants that still write, and is not waited for.
LAST_READ_BYTES: Final = 16 * READ_BYTES

# What a child gets of our environment: where programs and the user's files are, how to print, nothing that could be a
# secret. Proxy variables and the like often carry credentials: an entry that needs one names it in `env`.
INHERITED: Final = frozenset(
    {
        "PATH",  # npx, uvx and python find their helpers by it
        "HOME",  # caches and settings of the user
        "USER",
        "LOGNAME",
        "SHELL",
        "TMPDIR",
        "TZ",
        "LANG",
        # Windows: without these no program starts, or it finds neither DLLs nor a home.
        "SYSTEMROOT",
        "SYSTEMDRIVE",
        "WINDIR",
        "COMSPEC",
        "PATHEXT",
        "TEMP",
        "TMP",
        "USERPROFILE",
        "USERNAME",
        "HOMEDRIVE",
        "HOMEPATH",
        "APPDATA",
        "LOCALAPPDATA",
        "PROGRAMDATA",
        "PROGRAMFILES",
    }
)


def child_environment(ours: Mapping[str, str], declared: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child: the harmless part of ours, then what its entry declares."""
    # A value that begins so is a function exported by bash, which a child's shell would run (CVE-2014-6271).
    kept = {
        name: value
        for name, value in ours.items()
        if (name.upper() in INHERITED or name.startswith("LC_")) and not value.startswith("()")
    }
    return {**kept, **declared}


def find_command(command: str, path: str | None, cwd: str | None) -> str:
    """Return the file to execute; raise `BackendUnavailable` with the way out.

    A command with a slash is relative to `cwd`, any other is looked for in `path` (the child's PATH).
    """
    if os.path.dirname(command):
        file = os.path.join(cwd or os.curdir, os.path.expanduser(command))
        if not os.path.exists(file):
            raise BackendUnavailable(f"command {command!r} does not exist")
        if os.path.isdir(file) or not os.access(file, os.X_OK):
            raise BackendUnavailable(f"command {command!r} is not an executable file: permission denied")
        return os.path.abspath(file)
    import shutil  # noqa: PLC0415 (with all that it packs and unpacks: HTTP backends need none of it)

    found = shutil.which(command, path=path if path is not None else os.defpath)
    if found is None:
        raise BackendUnavailable(f"command {command!r} was not found: install it, or give its full path in `command`")
    return os.path.abspath(found)


class Child:
    """A running process, leader of its own session and group, registered with the guard until all of it is gone.

    `on_stdout` and `on_stderr` receive the bytes as they come, b"" at the end of the stream. `on_exit` is called once,
    after the last bytes, with how the process ended; descendants that still hold its pipes do not delay it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        guard: Guard,
        on_stdout: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        on_exit: Callable[[str], None],
    ) -> None:
        """Spawn `argv` (no shell), whose first item is a file's path; raise `OSError`."""
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._on_exit = on_exit
        self._exited = asyncio.Event()
        self._clearing: asyncio.Task[None] | None = None
        self._exit_fd: int | None = None
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for mine in (1, 0, 0):
                ends = os.pipe()
                ours.append(ends[mine])
                theirs.append(ends[1 - mine])
            guard.expect(theirs[0])
            try:
                self._process = subprocess.Popen(
                    list(argv),
                    stdin=theirs[0],
                    stdout=theirs[1],
                    stderr=theirs[2],
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                    close_fds=True,
                )
            except BaseException:
                guard.expect(None)
                raise
            guard.register(self._process.pid)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.pid = self._process.pid
        for fd in ours:
            os.set_blocking(fd, False)
        self._stdin: int | None = ours[0]
        self._outputs = {ours[1]: on_stdout, ours[2]: on_stderr}
        for fd in ours[1:]:
            self._loop.add_reader(fd, self._read_ready, fd)
        self._watch_exit()

    def __repr__(self) -> str:
        return f"<Child {self.pid} {'exited' if self._exited.is_set() else 'running'}>"

    @property
    def exited(self) -> bool:
        return self._exited.is_set()

    def write(self, parts: Sequence[bytes | memoryview]) -> int:
        """Write what its input takes now and return how many bytes that was; raise `OSError` when it takes no more."""
        if self._stdin is None:
            raise BrokenPipeError("the input of the child is closed")
        try:
            return os.writev(self._stdin, parts)
        except (BlockingIOError, InterruptedError):
            return 0

    def call_when_writable(self, ready: Callable[[], None] | None) -> None:
        """Call `ready` whenever the child's input takes bytes, until told otherwise with None."""
        if self._stdin is None:
            return
        if ready is None:
            self._loop.remove_writer(self._stdin)
        else:
            self._loop.add_writer(self._stdin, ready)

    def close_stdin(self) -> None:
        """Close its input at once, also under bytes that wait: the polite request to leave."""
        if self._stdin is not None:
            self._loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = None

    async def stop(self) -> None:
        """Close its input, then SIGTERM, then SIGKILL to its group; return when the process and its group are gone.

        When the awaiting task is cancelled the group is killed at once.
        """
        try:
            self.close_stdin()
            if not await self._exits_within(CLOSE_GRACE_S):
                self._signal_group(signal.SIGTERM)
                if not await self._exits_within(TERM_GRACE_S):
                    self._signal_group(signal.SIGKILL)
                    if not await self._exits_within(KILL_GRACE_S):
                        log.error("child.unkillable", extra={"fields": {"pid": self.pid}})
            if self._clearing is not None:
                await asyncio.shield(self._clearing)
        except asyncio.CancelledError:
            self._signal_group(signal.SIGKILL)
            raise
        finally:
            self.hang_up()

    async def _exits_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    def _read_ready(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        deliver = self._outputs[fd]
        if not data:
            self._close_output(fd)
        deliver(data)

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._loop.remove_reader(fd)
        os.close(fd)

    def hang_up(self) -> None:
        """Read nothing more that the child prints; one that goes on printing gets SIGPIPE."""
        for fd in list(self._outputs):
            self._close_output(fd)

    def _watch_exit(self) -> None:
        try:
            self._exit_fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or no descriptor left
            threading.Thread(target=self._wait_in_thread, name=f"wait {self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(self._exit_fd, self._process_exited)

    def _wait_in_thread(self) -> None:
        # WNOWAIT: the pid stays ours until the loop's thread reaps it.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._process_exited)

    def _process_exited(self) -> None:
        if self._exit_fd is not None:
            self._loop.remove_reader(self._exit_fd)
            os.close(self._exit_fd)
            self._exit_fd = None
        if self._exited.is_set():
            return
        # Before the process is reaped its number cannot be another's.
        self._signal_group(signal.SIGTERM)
        status = self._process.wait()
        self.close_stdin()
        for fd in list(self._outputs):
            self._read_last(fd)
        self._exited.set()
        if self._group_exists():
            self._clearing = self._loop.create_task(self._clear_group(), name=f"clear group {self.pid}")
        else:
            self._guard.unregister(self.pid)
        self._on_exit(f"exited with status {status}" if status >= 0 else f"was killed by {_signal_name(-status)}")

    def _read_last(self, fd: int) -> None:
        """Deliver what the process wrote before it died, whoever else holds the pipe."""
        deliver = self._outputs[fd]
        left = LAST_READ_BYTES
        with contextlib.suppress(OSError):
            while left > 0 and fd in self._outputs and (data := os.read(fd, READ_BYTES)):
                left -= len(data)
                deliver(data)
        if fd in self._outputs:  # `deliver` may have ended it all
            self._close_output(fd)
            deliver(b"")

    async def _clear_group(self) -> None:
        """End the descendants that outlived the leader. A group that is never empty keeps its number from reuse."""
        polls = 0
        try:
            for seconds, number in ((TERM_GRACE_S, signal.SIGKILL), (KILL_GRACE_S, None)):
                deadline = self._loop.time() + seconds
                while self._group_exists() and self._loop.time() < deadline:
                    polls += 1
                    if polls % ZOMBIE_POLLS == 0 and not _has_living_member(self.pid):
                        return
                    await asyncio.sleep(GROUP_POLL_S)
                if number is not None:
                    self._signal_group(number)
        except asyncio.CancelledError:
            self._signal_group(signal.SIGKILL)
            raise
        finally:
            self._guard.unregister(self.pid)

    def _group_exists(self) -> bool:
        # Descendants are ours to reap only where we are the init of a container.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS says so of zombies; elsewhere none of them is ours to signal
            return False
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _has_living_member(group: int) -> bool:
    """Return False when all that is left of a group are zombies that a lazy init has not reaped; True in doubt."""
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    for name in names:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            # proc(5): pid (name) state ppid pgrp; the name may hold anything.
            state, _, member_of = file.read().rpartition(b")")[2].split()[:3]
            if int(member_of) == group and state not in b"ZX":
                return True
    return not names


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
