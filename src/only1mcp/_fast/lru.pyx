# benches/micro/bench_lru.py: hits 2.2x, misses 2.5x, stores 6x.
"""The compiled twin of `lru_reference.LRU`: a table of entries, linked from the least to the most recently used."""

cimport cython
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, int64_t

cdef enum:
    ENTRY_OVERHEAD_BYTES = 320


@cython.final
@cython.freelist(64)
cdef class _Entry:
    """One entry; the table owns it, its neighbours only point at it."""

    cdef bytes key
    cdef bytes value
    cdef int64_t expires_ms
    cdef void* older
    cdef void* newer


cdef class LRU:
    """See `lru_reference.LRU`."""

    ENTRY_OVERHEAD = ENTRY_OVERHEAD_BYTES

    cdef dict entries
    cdef void* oldest
    cdef void* newest
    cdef readonly Py_ssize_t limit_bytes
    cdef readonly Py_ssize_t used_bytes
    cdef readonly Py_ssize_t evictions

    def __cinit__(self, Py_ssize_t limit_bytes):
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes must not be negative, got {limit_bytes!r}")
        self.limit_bytes = limit_bytes
        self.entries = {}
        self.oldest = self.newest = NULL

    def __len__(self):
        return len(self.entries)

    def lookup(self, bytes key not None, int64_t now_ms):
        """See `lru_reference.LRU.lookup`."""
        cdef _Entry entry
        cdef PyObject* found = PyDict_GetItemWithError(self.entries, key)
        if found == NULL:
            return None
        entry = <_Entry>found
        if entry.expires_ms <= now_ms:
            self.remove(entry)
            return None
        if self.newest != <void*>entry:
            self.unlink(entry)
            self.link(entry)
        return entry.value

    def store(self, bytes key not None, bytes value not None, int64_t ttl_ms, int64_t now_ms):
        """See `lru_reference.LRU.store`."""
        cdef Py_ssize_t size = len(key) + len(value) + ENTRY_OVERHEAD_BYTES
        cdef _Entry entry
        self.discard(key)
        if size > self.limit_bytes or ttl_ms <= 0:
            return False
        while self.used_bytes > self.limit_bytes - size:
            self.remove(<_Entry>self.oldest)
            self.evictions += 1
        entry = _Entry.__new__(_Entry)
        entry.key = key
        entry.value = value
        entry.expires_ms = INT64_MAX if now_ms > INT64_MAX - ttl_ms else now_ms + ttl_ms
        self.entries[key] = entry
        self.link(entry)
        self.used_bytes += size
        return True

    def discard(self, bytes key not None):
        """See `lru_reference.LRU.discard`."""
        cdef PyObject* found = PyDict_GetItemWithError(self.entries, key)
        if found == NULL:
            return False
        self.remove(<_Entry>found)
        return True

    def clear(self):
        """See `lru_reference.LRU.clear`."""
        cdef Py_ssize_t count = len(self.entries)
        self.oldest = self.newest = NULL
        self.used_bytes = 0
        self.entries.clear()
        return count

    cdef int remove(self, _Entry entry) except -1:
        self.unlink(entry)
        self.used_bytes -= len(entry.key) + len(entry.value) + ENTRY_OVERHEAD_BYTES
        del self.entries[entry.key]
        return 0

    cdef void unlink(self, _Entry entry) noexcept:
        if entry.older == NULL:
            self.oldest = entry.newer
        else:
            (<_Entry>entry.older).newer = entry.newer
        if entry.newer == NULL:
            self.newest = entry.older
        else:
            (<_Entry>entry.newer).older = entry.older

    cdef void link(self, _Entry entry) noexcept:
        """Link an entry in as the most recently used."""
        entry.older = self.newest
        entry.newer = NULL
        if self.newest == NULL:
            self.oldest = <void*>entry
        else:
            (<_Entry>self.newest).newer = <void*>entry
        self.newest = <void*>entry
