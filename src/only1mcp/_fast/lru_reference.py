"""The plain-Python twin of lru.pyx: a cache with a budget in bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class _Entry:
    value: bytes
    expires_ms: int
    place: int


class LRU:
    """A byte-budgeted map with a time to live for each entry; the least recently used ones make room.

    Every operation but `clear` is O(1). Time is the caller's, in milliseconds of any one clock that does not go back.
    Entries whose time has passed go when they are met: by `lookup`, and by the hand of `sweep`, which each `store`
    moves on, so that all of them are gone after half as many stores as there are entries.
    """

    # What an entry costs beside its key and value: object headers, links and its share of the tables, rounded up.
    ENTRY_OVERHEAD: Final = 480
    _SWEPT_BY_STORE: Final = 2
    _FOREVER: Final = 2**63 - 1

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes must not be negative, got {limit_bytes!r}")
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        # The keys without gaps, for the hand to go through: the last one moves to the place of one that goes.
        self._places: list[bytes] = []
        self._hand = 0

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, key: bytes, now_ms: int) -> bytes | None:
        """Return the value and make it the most recently used; None when it is absent or its time has passed."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_ms <= now_ms:
            self.discard(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def store(self, key: bytes, value: bytes, ttl_ms: int, now_ms: int) -> bool:
        """Keep `value` for `ttl_ms`, evicting others as needed.

        Returns False, with nothing kept under `key`, when the entry alone passes the limit or `ttl_ms` is not positive.
        """
        self.discard(key)
        self.sweep(now_ms, self._SWEPT_BY_STORE)
        size = len(key) + len(value) + self.ENTRY_OVERHEAD
        if size > self.limit_bytes or ttl_ms <= 0:
            return False
        while self.used_bytes + size > self.limit_bytes:
            self.discard(next(iter(self._entries)))
            self.evictions += 1
        self._entries[key] = _Entry(value, min(now_ms + ttl_ms, self._FOREVER), len(self._places))
        self._places.append(key)
        self.used_bytes += size
        return True

    def discard(self, key: bytes) -> bool:
        """Forget `key`; return whether it was there."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        last = self._places.pop()
        if entry.place < len(self._places):
            self._places[entry.place] = last
            self._entries[last].place = entry.place
        self.used_bytes -= len(key) + len(entry.value) + self.ENTRY_OVERHEAD
        return True

    def sweep(self, now_ms: int, steps: int) -> int:
        """Look at the next `steps` entries in turn and forget those whose time has passed; return how many went."""
        removed = 0
        for _ in range(steps):
            if not self._places:
                break
            if self._hand >= len(self._places):
                self._hand = 0
            key = self._places[self._hand]
            if self._entries[key].expires_ms <= now_ms:
                self.discard(key)
                removed += 1
            else:
                self._hand += 1
        return removed

    def clear(self) -> int:
        """Forget everything; return how many entries there were. `evictions` keeps its count."""
        count = len(self._entries)
        self._entries.clear()
        self._places.clear()
        self._hand = 0
        self.used_bytes = 0
        return count
