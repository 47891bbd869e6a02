"""The deadlines of the calls that go without a task."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

NEVER: Final = float("inf")


class Timed(Protocol):
    """A call, as its watch sees it."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed: end, which removes the call from the watch."""

    def close(self) -> None:
        """Nothing is watched any more: end, which removes the call from the watch."""


class DeadlineWatch:
    """The deadlines of many calls behind one timer, which is set anew only when it has fired."""

    def __init__(self) -> None:
        self._calls: dict[Timed, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = NEVER
        self._loop = asyncio.get_running_loop()

    def add(self, call: Timed, timeout_s: float | None) -> float:
        """Watch a call; return its deadline in the event loop's time."""
        deadline = NEVER if timeout_s is None else self._loop.time() + timeout_s
        self._calls[call] = None
        if deadline < self._fires_at:
            self._set(deadline)
        return deadline

    def now(self) -> float:
        return self._loop.time()

    def set(self, call: Timed, deadline: float) -> None:
        """Change the deadline of a call."""
        call.deadline = deadline
        self.watch(call, deadline)

    def watch(self, call: Timed, deadline: float) -> None:
        """Watch a call that has set its own deadline, which is this one."""
        self._calls[call] = None
        if deadline < self._fires_at:
            self._set(deadline)

    def calls(self) -> list[Timed]:
        """Return the calls that are watched, the oldest first."""
        return list(self._calls)

    def remove(self, call: Timed) -> None:
        self._calls.pop(call, None)

    def close(self) -> None:
        """Close the calls that are left."""
        while self._calls:
            next(iter(self._calls)).close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fires_at = NEVER

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._fires_at = NEVER
        now = self._loop.time()
        for call in [call for call in self._calls if call.deadline <= now]:
            if call in self._calls:  # the end of one may have been that of another
                call.expire()
        earliest = min((call.deadline for call in self._calls), default=NEVER)
        if earliest < self._fires_at:  # what an expired call has set off may have set the timer already
            self._set(earliest)
