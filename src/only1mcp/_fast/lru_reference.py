"""The plain-Python twin of lru.pyx: a cache with a budget in bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final


class LRU:
    """A byte-budgeted map with a time to live for each entry; the least recently used ones make room.

    Every operation is O(1). Time is the caller's, in milliseconds of any one clock that does not go back.
    """

    # What an entry costs beside its key and value: object headers, links and its share of the table, rounded up.
    ENTRY_OVERHEAD: Final = 320
    _FOREVER: Final = 2**63 - 1

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes must not be negative, got {limit_bytes!r}")
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, key: bytes, now_ms: int) -> bytes | None:
        """Return the value and make it the most recently used; None when it is absent or its time has passed."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= now_ms:
            self.discard(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def store(self, key: bytes, value: bytes, ttl_ms: int, now_ms: int) -> bool:
        """Keep `value` for `ttl_ms`, evicting others as needed.

        Returns False, with nothing kept under `key`, when the entry alone passes the limit or `ttl_ms` is not positive.
        """
        self.discard(key)
        size = len(key) + len(value) + self.ENTRY_OVERHEAD
        if size > self.limit_bytes or ttl_ms <= 0:
            return False
        while self.used_bytes + size > self.limit_bytes:
            self.discard(next(iter(self._entries)))
            self.evictions += 1
        self._entries[key] = (value, min(now_ms + ttl_ms, self._FOREVER))
        self.used_bytes += size
        return True

    def discard(self, key: bytes) -> bool:
        """Forget `key`; return whether it was there."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self.used_bytes -= len(key) + len(entry[0]) + self.ENTRY_OVERHEAD
        return True

    def clear(self) -> int:
        """Forget everything; return how many entries there were. `evictions` keeps its count."""
        count = len(self._entries)
        self._entries.clear()
        self.used_bytes = 0
        return count
