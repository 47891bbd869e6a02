"""The calls over HTTP that wait for their answers, for what a server says on the stream that belongs to none of them.

A call costs nothing for it: who waits is found out when a server says something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from only1mcp.backend.base import BackendCall, Clock
from only1mcp.backend.direct import DirectCall


class Waits:
    """One of them (`attribution.Waiting`)."""

    __slots__ = ("_asks", "_clock", "call")

    def __init__(self, call: BackendCall, clock: Clock, asks: dict[bytes, set[bytes]]) -> None:
        self.call = call
        self._clock = clock
        self._asks = asks

    @property
    def asks(self) -> set[bytes] | None:
        return self._asks.get(self.call.id)

    @asks.setter
    def asks(self, ids: set[bytes] | None) -> None:
        self._asks[self.call.id] = ids or set()

    def stop(self) -> None:
        self._clock.stop()

    def go_on(self) -> None:
        self._clock.go_on()


class Outstanding:
    """Serves `attribution.Calls`; `direct` returns the calls that have no task, the others are added and removed."""

    def __init__(self, direct: Callable[[], Iterable[DirectCall]]) -> None:
        self._direct = direct
        self._others: dict[bytes, tuple[BackendCall, Clock]] = {}
        # What servers have asked in the middle of a call, by its id; of calls that are over until the next one asks.
        self._asks: dict[bytes, set[bytes]] = {}

    def add(self, call: BackendCall, clock: Clock) -> None:
        self._others[call.id] = call, clock

    def remove(self, call: BackendCall) -> None:
        self._others.pop(call.id, None)

    def get(self, id: bytes, /) -> Waits | None:
        for call, clock in self._found():
            if call.id == id:
                return Waits(call, clock, self._asks)
        return None

    def values(self) -> list[Waits]:
        found = [Waits(call, clock, self._asks) for call, clock in self._found()]
        for id in self._asks.keys() - {waits.call.id for waits in found}:
            del self._asks[id]
        return found

    def _found(self) -> list[tuple[BackendCall, Clock]]:
        """Return each call with its clock, the oldest first, except that those without tasks come before the others."""
        return [*((direct.call, direct) for direct in self._direct()), *self._others.values()]
