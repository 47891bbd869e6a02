"""Backends that do not tell of changes: their lists are read again while there is somebody to tell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

from only1mcp.backend.changes import is_silent
from only1mcp.proxy.group import Group


class SilentBackends:
    """Has lists read again that are older than `age_s`, from `watch` on as long as `wanted` says so."""

    def __init__(self, groups: Mapping[str, Group], age_s: float, wanted: Callable[[], bool]) -> None:
        self._groups = groups
        self._age_s = age_s
        self._wanted = wanted
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin, unless that has been done."""
        if self._timer is None:
            # Not all at once, where many processes were started together.
            delay_s = self._age_s * random.uniform(1.0, 1.2)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._wanted():
            return
        oldest = asyncio.get_running_loop().time() - self._age_s
        for group in self._groups.values():
            source = group.source
            if source is not None and source.peer is not None and source.read_at <= oldest and is_silent(source.peer):
                source.reread()
        self.watch()
