"""When requests are to be sent: as soon as a connection is free (closed loop), or at a fixed rate (open loop).

Time is a parameter, in seconds of any clock that does not go back. A request's latency counts from the time that `take`
returns, which in the open loop is when it was due, not when a connection was at last free for it: a target that stalls
is charged for every request it kept waiting ("coordinated omission", Gil Tene).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod


class Schedule(ABC):
    """What both loops share. `begin` comes first.

    Measured is what is sent from `measured_from` on; the end comes after `duration_s` of that, or after `requests`,
    whichever is first.
    """

    def __init__(self, *, duration_s: float | None, requests: int | None, warmup_s: float = 0.0) -> None:
        if duration_s is None and requests is None:
            raise ValueError("a schedule needs an end: duration_s or requests")
        self._duration_s = duration_s
        self._warmup_s = warmup_s
        self._left = math.inf if requests is None else requests
        self.started_at = math.inf
        self.measured_from = math.inf
        self.ends_at = math.inf
        # How many measured requests were handed out.
        self.taken = 0

    def begin(self, now: float) -> None:
        self.started_at = now
        self.measured_from = now + self._warmup_s
        if self._duration_s is not None:
            self.ends_at = self.measured_from + self._duration_s

    def stop(self, now: float) -> None:
        """End early."""
        self.ends_at = min(self.ends_at, now)

    def is_over(self, now: float) -> bool:
        """Return whether no further request will be handed out."""
        return self._left <= 0 or now >= self.ends_at

    def was_cut_off(self, now: float) -> bool:
        """Return whether it was the time that ended it, and not the number of requests."""
        return self._left > 0 and now >= self.ends_at

    @abstractmethod
    def take(self, now: float) -> float | None:
        """Return the time from which the next request's latency counts, or None when none is to be sent now."""

    @abstractmethod
    def backlog(self, now: float) -> int:
        """Return how many requests are due and not handed out."""

    def _count(self, time: float) -> None:
        if time >= self.measured_from:
            self.taken += 1
            self._left -= 1


class ClosedLoop(Schedule):
    """Each connection sends its next request when it has the answer to the last."""

    def take(self, now: float) -> float | None:
        if self.is_over(now):
            return None
        self._count(now)
        return now

    def backlog(self, now: float) -> int:
        return 0


class OpenLoop(Schedule):
    """Requests are due at even distances, whatever becomes of those before."""

    def __init__(self, rate: float, *, duration_s: float | None, requests: int | None, warmup_s: float = 0.0) -> None:
        super().__init__(duration_s=duration_s, requests=requests, warmup_s=warmup_s)
        self.rate = rate
        self._issued = 0

    def take(self, now: float) -> float | None:
        due = self.started_at + self._issued / self.rate
        if due > now or self.is_over(now):
            return None
        self._issued += 1
        self._count(due)
        return due

    def backlog(self, now: float) -> int:
        if now < self.ends_at:
            due = math.floor((now - self.started_at) * self.rate) + 1
        else:
            # What would be due at the very end is not part of it; rounded, since 10 s at 0.1 is not quite 1 in binary.
            due = math.ceil(round((self.ends_at - self.started_at) * self.rate, 6))
        return int(min(max(0, due - self._issued), self._left))

    def due_after(self, now: float) -> float:
        """Return the first time after `now` at which a request is due, whether or not earlier ones still wait."""
        number = max(0, math.floor((now - self.started_at) * self.rate) + 1)
        due = self.started_at + number / self.rate
        # The division does not always undo the multiplication.
        return due if due > now else self.started_at + (number + 1) / self.rate
