# benches/micro/bench_counters.py: add 14x, observe 39x, histogram 41x, histogram and slot 50x.
"""The compiled twin of `counters_reference.Counters`: one addition in memory, no lock, no object made."""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy


@cython.final
cdef class Counters:
    """See `counters_reference.Counters`."""

    def __cinit__(self, size, buffer=None):
        if size < 0:
            raise ValueError(f"size must not be negative, got {size!r}")
        if buffer is None:
            buffer = bytearray(size * 8)
        try:
            PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
        except BufferError:
            raise ValueError("the buffer must be writable") from None
        self.held = True
        if self.view.len < size * 8:
            raise ValueError(f"{size} slots need {size * 8} bytes, the buffer has {self.view.len}")
        self.slots = <char*>self.view.buf
        self.size = size

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    def __len__(self):
        return self.size

    def add(self, Py_ssize_t index, int64_t n=1):
        """See `counters_reference.Counters.add`."""
        self.check(index)
        self.plus(index, n)

    def set(self, Py_ssize_t index, int64_t value):
        """See `counters_reference.Counters.set`."""
        self.check(index)
        memcpy(self.slots + index * 8, &value, 8)

    def get(self, Py_ssize_t index):
        """See `counters_reference.Counters.get`."""
        cdef int64_t value
        self.check(index)
        memcpy(&value, self.slots + index * 8, 8)
        return value

    def observe(self, Py_ssize_t base, tuple bounds not None, int64_t value_us):
        """See `counters_reference.Counters.observe`."""
        cdef Py_ssize_t count = len(bounds)
        cdef Py_ssize_t i = 0
        self.check(base)
        self.check(base + count + 1)
        while i < count and <int64_t>bounds[i] < value_us:
            i += 1
        self.plus(base + i, 1)
        self.plus(base + count + 1, value_us)

    cdef int check(self, Py_ssize_t index) except -1:
        if index < 0 or index >= self.size:
            raise IndexError(f"slot {index} of {self.size}")
        return 0

    cdef void plus(self, Py_ssize_t index, int64_t n) noexcept:
        # Unsigned arithmetic wraps around; signed overflow would be undefined.
        cdef uint64_t value
        memcpy(&value, self.slots + index * 8, 8)
        value += <uint64_t>n
        memcpy(self.slots + index * 8, &value, 8)


@cython.final
cdef class Histogram:
    """See `counters_reference.Histogram`."""

    def __init__(self, Counters counters not None, Py_ssize_t base, tuple bounds_us not None):
        cdef Py_ssize_t i
        if len(bounds_us) > MAX_BOUNDS:
            raise ValueError(f"expected at most {MAX_BOUNDS} bounds, got {len(bounds_us)}")
        counters.check(base)
        counters.check(base + len(bounds_us) + 1)
        for i in range(len(bounds_us)):
            self.bounds_us[i] = bounds_us[i]
        self.counters = counters
        self.base = base
        self.bound_count = len(bounds_us)

    cpdef observe(self, double duration_s):
        """See `counters_reference.Histogram.observe`."""
        self.add(duration_s)

    cpdef count(self, Py_ssize_t slot, double duration_s):
        """See `counters_reference.Histogram.count`."""
        self.counters.check(slot)
        self.counters.plus(slot, 1)
        self.add(duration_s)

    cdef void add(self, double duration_s) noexcept:
        cdef double duration_us = duration_s * 1e6
        cdef int64_t value_us = 0
        cdef Py_ssize_t i = 0
        if duration_us > 0:
            value_us = <int64_t>duration_us if duration_us < 9223372036854775808.0 else INT64_MAX
        while i < self.bound_count and self.bounds_us[i] < value_us:
            i += 1
        self.counters.plus(self.base + i, 1)
        self.counters.plus(self.base + self.bound_count + 1, value_us)
