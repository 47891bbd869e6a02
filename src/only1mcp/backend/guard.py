"""The guard: a tiny process that outlives the proxy by a moment and ends its stdio children, even after SIGKILL.

The guard runs `guard_main.py` and reads from a pipe whose write end only this process holds. When the proxy is gone,
however it went, the pipe ends and the guard ends every group that is still registered. Systems without process groups
(Windows) have no guard: children there see their input close, which ends a well-behaved server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

log = logging.getLogger("only1mcp.backend")

# A guard that dies at once must not become a spawn loop.
RESTART_FIRST_S: Final = 0.1
RESTART_LAST_S: Final = 30.0
STEADY_S: Final = 60.0
# The guard may be busy ending groups (about 3 s) when it is told to leave.
LEAVE_GRACE_S: Final = 6.0

# A Python built with a shared library finds it by one of these; the guard needs nothing else.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


class Guard:
    """One per process and event loop; starts with the first child, comes back when it dies, leaves with `aclose`."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._alive: int | None = None  # reads end of file when the guard is gone
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left = asyncio.Event()
        self._restart: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._wait_s = RESTART_FIRST_S
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id of the guard, None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def groups(self) -> frozenset[int]:
        """The process groups that would not survive us."""
        return frozenset(self._groups)

    def expect(self, stdin: int | None) -> None:
        """Announce a child whose standard input is the pipe `stdin`, before it is spawned; None: it was not spawned.

        Should we be killed before `register`, the guard knows the child by its input.
        """
        self._start()
        self._tell(b"?%d\n" % (0 if stdin is None else os.fstat(stdin).st_ino))

    def register(self, group: int) -> None:
        """End this process group when we are gone."""
        self._groups.add(group)
        self._start()
        self._tell(b"+%d\n" % group)

    def unregister(self, group: int) -> None:
        """Forget a process group: it is empty, its number may become another's."""
        self._groups.discard(group)
        self._tell(b"-%d\n" % group)

    async def aclose(self) -> None:
        """Let the guard go, and with it whatever is still registered; never raises, may be repeated."""
        self._closed = True
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._close_pipe()
        try:
            if self._process is not None:
                async with asyncio.timeout(LEAVE_GRACE_S):
                    await self._left.wait()
        except TimeoutError:
            log.error("guard.stuck", extra={"fields": {"pid": self.pid}})
        finally:
            if self._process is not None:
                self._process.kill()
                self._died()

    def _start(self) -> None:
        if self._process is not None or self._restart is not None or self._closed or os.name != "posix":
            return
        self._loop = asyncio.get_running_loop()
        try:
            self._spawn()
        except OSError as error:
            # Children are still ended by every way of stopping that lets us act.
            log.error("guard.not_started", extra={"fields": {"reason": str(error)}})
            self._try_again()

    def _spawn(self) -> None:
        assert self._loop is not None
        opened: list[int] = []
        try:
            for _ in range(3):
                opened += os.pipe()
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        theirs, pipe, alive, their_end, unread, nowhere = opened
        # Not /dev/null: where the static binary runs there may be no /dev.
        os.close(unread)
        try:
            self._process = subprocess.Popen(
                _command(),
                stdin=theirs,
                stdout=their_end,
                stderr=nowhere,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            os.close(pipe)
            os.close(alive)
            raise
        finally:
            for fd in (theirs, their_end, nowhere):
                os.close(fd)
        os.set_blocking(pipe, False)
        self._pipe, self._alive = pipe, alive
        self._started = self._loop.time()
        self._loop.add_reader(alive, self._died)
        log.debug("guard.started", extra={"fields": {"pid": self._process.pid}})
        if self._groups:
            self._tell(b"".join(b"+%d\n" % group for group in self._groups))

    def _tell(self, line: bytes) -> None:
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, line)  # a line is shorter than PIPE_BUF: written whole or not at all
        except OSError:
            # Full (it does not read) or broken (it is gone): either way this guard guards nothing.
            if self._process is not None:
                self._process.kill()
            self._died()

    def _died(self) -> None:
        process = self._process
        if process is None or self._loop is None or self._alive is None:
            return
        self._loop.remove_reader(self._alive)
        os.close(self._alive)
        self._alive = None
        self._close_pipe()
        status = process.wait()  # it has closed its end of `_alive` by dying: this does not wait
        self._process = None
        self._left.set()
        if not self._closed:
            log.warning("guard.died", extra={"fields": {"pid": process.pid, "status": status}})
            if self._loop.time() - self._started > STEADY_S:
                self._wait_s = RESTART_FIRST_S
            self._try_again()

    def _try_again(self) -> None:
        assert self._loop is not None
        self._restart = self._loop.call_later(self._wait_s, self._start_again)
        self._wait_s = min(self._wait_s * 2, RESTART_LAST_S)

    def _start_again(self) -> None:
        self._restart = None
        if self._groups:
            self._start()

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def _command() -> list[str]:
    # The static binary is not Python: it has this program in it, and no file of it beside it.
    if getattr(sys, "frozen", False):
        return [sys.executable, "-m", "only1mcp.backend.guard_main"]
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard_main.py"))]
