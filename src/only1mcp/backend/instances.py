"""Instances of a `per_session` backend: one child (or HTTP session) for each owner, on demand, recycled when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from only1mcp.backend.line import Line
from only1mcp.errors import BackendUnavailable

# How often idle instances are looked for; a timer for each would be a timer for each call.
SWEEP_S: Final = 1.0


class Instance(Line, Protocol):
    """What is kept for one owner; `idle_since` says since when there is no call, where `in_flight` is 0."""

    in_flight: int
    idle_since: float

    @property
    def held(self) -> bool:
        """Whether its owner wants to hear from it between calls, so that being idle is no reason to end it."""

    async def aclose(self) -> None:
        """End it, whatever still runs on it; never raises."""


class Instances:
    """At most `limit` instances, each of one owner (`Session.id`, or a principal's id in the stateless era).

    `start(owner)` makes one that is ready for calls. Those that are still closing count.
    """

    def __init__(self, name: str, start: Callable[[str], Awaitable[Instance]], *, limit: int, idle_s: float) -> None:
        self._name = name
        self._begin = start
        self._limit = limit
        self._idle_s = idle_s
        self._tasks: dict[str, asyncio.Task[Instance]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def acquire(self, owner: str, timeout_s: float) -> Instance:
        """Return the owner's instance; make room by ending the one that is idle for longest.

        Raise `BackendUnavailable` when all are in use, and as `start` does. The call on it must begin at once.
        """
        task = self._tasks.get(owner)
        if task is None:
            self._make_room()
            task = self._tasks[owner] = asyncio.get_running_loop().create_task(
                self._start(owner), name=f"instance of {self._name}"
            )
            task.add_done_callback(partial(self._started, owner))
            self._sweep_later()
        # Several calls may wait for the same start; when one of them is cancelled, the others go on waiting.
        await asyncio.wait([task], timeout=timeout_s)
        if not task.done():
            raise self._unavailable("did not come up in time")
        if task.cancelled():
            raise self._unavailable("was ended with its session")
        return task.result()

    def maybe(self, owner: str) -> Instance | None:
        """Return the owner's instance if it is ready for calls."""
        task = self._tasks.get(owner)
        return None if task is None else _ready(task)

    def release(self, owner: str) -> None:
        """The owner's session has ended: end its instance, whatever still runs on it."""
        task = self._tasks.pop(owner, None)
        if task is not None:
            closing = asyncio.get_running_loop().create_task(_close(task), name=f"end an instance of {self._name}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def lost(self, owner: str, instance: Instance) -> None:
        """The instance cannot serve any more; the owner's next call gets another."""
        task = self._tasks.get(owner)
        if task is not None and _ready(task) is instance:
            self.release(owner)

    async def aclose(self) -> None:
        """End all of them; there will be no others."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for owner in list(self._tasks):
            self.release(owner)
        await asyncio.gather(*self._closing)

    async def _start(self, owner: str) -> Instance:
        while self._closing and len(self._tasks) + len(self._closing) > self._limit:
            await asyncio.wait(self._closing, return_when=asyncio.FIRST_COMPLETED)
        return await self._begin(owner)

    def _started(self, owner: str, task: asyncio.Task[Instance]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed and self._tasks.get(owner) is task:
            del self._tasks[owner]

    def _make_room(self) -> None:
        if self._closed:
            raise self._unavailable("is closed")
        if len(self._tasks) < self._limit:
            return
        idle = self._idle()
        if not idle:
            raise self._unavailable(f"is in use by {self._limit} sessions, and may not be by more (instances.max)")
        self.release(min(idle)[2])

    def _idle(self) -> list[tuple[bool, float, str]]:
        found = ((_ready(task), owner) for owner, task in self._tasks.items())
        return [(each.held, each.idle_since, owner) for each, owner in found if each and not each.in_flight]

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(min(SWEEP_S, self._idle_s), self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for held, since, owner in self._idle():
            if not held and now - since >= self._idle_s:
                self.release(owner)
        if self._tasks:
            self._sweep_later()

    def _unavailable(self, what: str) -> BackendUnavailable:
        return BackendUnavailable(f"backend {self._name!r} {what}", data={"backend": self._name})


def _ready(task: asyncio.Task[Instance]) -> Instance | None:
    done = task.done() and not task.cancelled() and task.exception() is None
    return task.result() if done else None


async def _close(task: asyncio.Task[Instance]) -> None:
    task.cancel()
    await asyncio.wait([task])
    instance = _ready(task)
    if instance is not None:
        await instance.aclose()
