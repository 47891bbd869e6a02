from libc.stdint cimport int64_t

cdef enum:
    MAX_BOUNDS = 30


cdef class Counters:
    cdef Py_buffer view
    cdef bint held
    # May be unaligned: a slot is read and written by memcpy, which compiles to one plain move.
    cdef char* slots
    cdef Py_ssize_t size

    cdef int check(self, Py_ssize_t index) except -1
    cdef void plus(self, Py_ssize_t index, int64_t n) noexcept


cdef class Histogram:
    cdef Counters counters
    cdef Py_ssize_t base
    cdef Py_ssize_t bound_count
    cdef int64_t bounds_us[MAX_BOUNDS]

    cpdef observe(self, double duration_s)
    cpdef count(self, Py_ssize_t slot, double duration_s)
    cdef void add(self, double duration_s) noexcept
