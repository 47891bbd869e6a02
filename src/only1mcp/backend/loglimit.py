"""A ceiling for what a backend can make us log."""

from __future__ import annotations

from typing import Final

# A child that logs megabytes must not fill the disk or slow the others: so many lines in each window, the rest counted.
LOG_LINES: Final = 200
LOG_WINDOW_S: Final = 10.0


class LogLimit:
    """Admits `LOG_LINES` lines in each window of `LOG_WINDOW_S`."""

    def __init__(self) -> None:
        self._window = float("-inf")
        self._left = LOG_LINES
        self._left_out = 0

    def admit(self, now: float) -> int | None:
        """Return None to leave the line out, else how many were left out since the last one."""
        if now - self._window >= LOG_WINDOW_S:
            self._window = now
            self._left = LOG_LINES
        if self._left == 0:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
