"""One deadline that moves often and expires rarely, for the price of almost no timer handles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# Timers may fire this much early: event loops count in milliseconds.
RESOLUTION_S: Final = 0.002
NEVER: Final = float("inf")


class Deadline:
    """Calls `on_expiry` once when the time last set has come.

    A later time only moves a number: the handle at hand fires at the old time and is armed again for the new one.
    """

    __slots__ = ("_fires_at", "_handle", "_loop", "_on_expiry", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry: Callable[[], None] | None = on_expiry
        self._handle: asyncio.TimerHandle | None = None
        # When the handle fires, and when the deadline is.
        self._fires_at = NEVER
        self._when = NEVER

    def set(self, when: float) -> None:
        """Expire at `when`, in the event loop's time, instead of at the time set before."""
        self._when = when
        if when < self._fires_at:
            self._arm(when)

    def close(self) -> None:
        """Never expire again, and let go of whoever was to be called, so that no cycle is left of it and its owner."""
        self._when = self._fires_at = NEVER
        self._on_expiry = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = when
        self._handle = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._fires_at = NEVER
        when = self._when
        if self._loop.time() + RESOLUTION_S < when:
            self._arm(when)
            return
        self._when = NEVER
        if self._on_expiry is not None:
            self._on_expiry()
