"""Backpressure towards a client: a gate that producers wait at while the transport's write buffer is full."""

from __future__ import annotations

import asyncio

from only1mcp.frontend.limits import PROBE_S, QUICK_PROBES, SLOW_PROBE_S


class WriteGate:
    """Open while the transport takes data; `pause` and `resume` are the transport's calls, `release` is for good."""

    __slots__ = ("_released", "_waiters", "paused")

    def __init__(self) -> None:
        self.paused = False
        self._released = False
        self._waiters: list[asyncio.Future[None]] = []

    def pause(self) -> None:
        self.paused = not self._released

    def resume(self) -> None:
        self.paused = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def release(self) -> None:
        """The transport is gone: nobody waits any more, what is still written is dropped."""
        self._released = True
        self.resume()

    async def wait(self) -> None:
        """Return once the gate is open."""
        while self.paused:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


class ReaderWatch:
    """Tells when a client has stopped reading what waits for it, and when to ask whether it is there at all.

    Progress is that `min_progress_bytes`, or all that waited when we looked last, was taken by the network; a trickle
    below that is none.
    """

    __slots__ = ("_goal", "_min_progress", "_probes", "_since", "_written")

    def __init__(self, min_progress_bytes: int) -> None:
        self._min_progress = min_progress_bytes
        self._written = 0
        self._goal = 0
        self._since: float | None = None
        self._probes = 0

    def note_written(self, count: int) -> None:
        self._written += count

    def reset(self) -> None:
        """Nobody looks for a while: what was seen so far says nothing about then."""
        self._since = None
        self._probes = 0

    def note_probe(self) -> None:
        """A client that has closed its side was asked whether it still listens."""
        self._probes += 1

    def probe_s(self) -> float:
        """Return how long to wait before such a client is asked, or asked again."""
        return PROBE_S if self._probes < QUICK_PROBES else SLOW_PROBE_S

    def stalled_s(self, now: float, unsent: int) -> float:
        """Return for how long the client has made no progress, as far as the calls so far can tell.

        `unsent` is what still waits to be taken.
        """
        if not unsent:
            self._since = None
            return 0.0
        taken = self._written - unsent
        if self._since is None or taken >= self._goal:
            self._since = now
            self._goal = min(taken + self._min_progress, self._written)
        return now - self._since
