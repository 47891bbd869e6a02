"""Where the counts live: one segment of memory shared by all processes, with a region for each worker.

A segment is made before workers are forked. Each worker writes to its own region only, so that no addition needs to be
atomic; whoever is scraped sums over all of them. A worker that takes the place of one that died goes on in its region:
the counts stay and go on, gauges start anew.

Which backend has which block of a region is written in the region as well, by the worker that needs it first. Regions
may number the same backends differently: their blocks are matched by name.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from only1mcp._fast import Counters
from only1mcp.wire.mcp import CAPABILITY_OF, HANDSHAKE_ONLY, HANDSHAKE_TASK_METHODS, TASK_METHODS

# Backends can be added while we run; each new name takes memory here and a dozen series in Prometheus, for ever.
MAX_BACKENDS: Final = 1000

METHODS: Final = (
    "none",
    "other",
    *sorted(
        {*CAPABILITY_OF, *HANDSHAKE_ONLY, "server/discover", "subscriptions/listen"}
        | TASK_METHODS
        | HANDSHAKE_TASK_METHODS
        | {"notifications/initialized", "notifications/cancelled", "notifications/progress"}
        | {"notifications/roots/list_changed"}
    ),
)
# By the hundreds digit of the HTTP status; a client that vanished before its answer has none.
STATUSES: Final = ("aborted", "1xx", "2xx", "3xx", "4xx", "5xx")
SOURCES: Final = ("client", "backend", "proxy")
BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)
BUCKETS_US: Final = tuple(round(bound * 1_000_000) for bound in BUCKETS_S)

# (suffix of the name, kind, help): one slot each, in this order.
SINGLE: Final = (
    ("cache_hits", "counter", "Requests answered from the cache"),
    ("cache_misses", "counter", "Cacheable requests that the cache could not answer"),
    ("coalesced", "counter", "Requests answered by a backend call that another request made"),
    ("rate_limited", "counter", "Requests refused by the rate limit"),
    ("auth_failures", "counter", "Requests refused for missing or bad credentials"),
    ("cache_entries", "gauge", "Entries in the cache"),
    ("cache_bytes", "gauge", "Bytes the cache's entries take"),
    ("connections_active", "gauge", "Open client connections"),
    ("sessions_active", "gauge", "Sessions of the handshake era in use"),
    ("streams_active", "gauge", "Responses being streamed to clients"),
    ("stdio_children", "gauge", "Running child processes of stdio backends"),
)
(
    CACHE_HITS,
    CACHE_MISSES,
    COALESCED,
    RATE_LIMITED,
    AUTH_FAILURES,
    CACHE_ENTRIES,
    CACHE_BYTES,
    CONNECTIONS,
    SESSIONS,
    STREAMS,
    CHILDREN,
) = range(len(SINGLE))

# The slots: single values, then the id of the process and which gauges it has set (bits), errors by source, requests by
# method and status, their histogram, a block for each backend.
PID: Final = len(SINGLE)
GAUGES_SET: Final = PID + 1
ERRORS: Final = GAUGES_SET + 1
REQUESTS: Final = ERRORS + len(SOURCES)
DURATION: Final = REQUESTS + len(METHODS) * len(STATUSES)
HISTOGRAM_SLOTS: Final = len(BUCKETS_US) + 2
BACKENDS: Final = DURATION + HISTOGRAM_SLOTS
# Within a backend's block: errors, up, histogram (whose total is the number of requests).
BLOCK_ERRORS, BLOCK_UP, BLOCK_DURATION = 0, 1, 2
BLOCK_SLOTS: Final = 2 + HISTOGRAM_SLOTS
UNKNOWN, DOWN, UP = range(3)

METHOD_SLOT: Final = {method: REQUESTS + i * len(STATUSES) for i, method in enumerate(METHODS)}
NONE_SLOT: Final = METHOD_SLOT["none"]
OTHER_SLOT: Final = METHOD_SLOT["other"]
SOURCE_SLOT: Final = {source: ERRORS + i for i, source in enumerate(SOURCES)}
OTHER_BACKEND: Final = "_other"

# CRC-32 and length in octets of a name, then the name: one that was not written to its end is none.
_LABEL: Final = struct.Struct("=IB")
_LABEL_BYTES: Final = 128
MAX_LABEL_BYTES: Final = _LABEL_BYTES - _LABEL.size


class Region:
    """The slots of one worker, and the names of its blocks: the one after `max_backends` has none."""

    def __init__(self, memory: memoryview, max_backends: int) -> None:
        self.max_backends = max_backends
        slots = BACKENDS + (max_backends + 1) * BLOCK_SLOTS
        self.counters = Counters(slots, memory[: slots * 8])
        self._labels = memory[slots * 8 : slots * 8 + max_backends * _LABEL_BYTES]

    @staticmethod
    def size(max_backends: int) -> int:
        """Return how many octets a region takes."""
        return (BACKENDS + (max_backends + 1) * BLOCK_SLOTS) * 8 + max_backends * _LABEL_BYTES

    @property
    def other(self) -> int:
        """The first slot of the block that backends beyond the others share."""
        return self.block(self.max_backends)

    def block(self, number: int) -> int:
        """Return the first slot of a block."""
        return BACKENDS + number * BLOCK_SLOTS

    def labels(self) -> Iterator[tuple[str, int]]:
        """Yield name and first slot of each block in use."""
        for number in range(self.max_backends):
            start = number * _LABEL_BYTES
            crc, size = _LABEL.unpack_from(self._labels, start)
            name = bytes(self._labels[start + _LABEL.size : start + _LABEL.size + size])
            if not name or zlib.crc32(name) != crc:
                return
            yield name.decode(), self.block(number)

    def label(self, number: int, name: bytes) -> None:
        """Name a block, for ever; the blocks before it have names, and this one is of 1 to MAX_LABEL_BYTES octets."""
        start = number * _LABEL_BYTES
        self._labels[start + _LABEL.size : start + _LABEL.size + len(name)] = name
        _LABEL.pack_into(self._labels, start, zlib.crc32(name), len(name))

    def forget_gauges(self) -> None:
        """Take the gauges of a worker that has ended out of the sums; its counts stay."""
        for slot in (PID, GAUGES_SET, *(slot for slot, (_, kind, _) in enumerate(SINGLE) if kind == "gauge")):
            self.counters.set(slot, 0)
        for _, block in self.labels():
            self.counters.set(block + BLOCK_UP, UNKNOWN)


class Segment:
    """Memory for the counts of `workers` processes that are forked later; what is never written costs nothing."""

    def __init__(self, workers: int = 1, max_backends: int = MAX_BACKENDS) -> None:
        if workers < 1:
            raise ValueError(f"expected at least one worker, got {workers!r}")
        size = -(-Region.size(max_backends) // mmap.PAGESIZE) * mmap.PAGESIZE
        # Anonymous and shared: processes forked from this one see the same memory.
        memory = memoryview(mmap.mmap(-1, workers * size))
        self.regions = tuple(Region(memory[i * size : (i + 1) * size], max_backends) for i in range(workers))
