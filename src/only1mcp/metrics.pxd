cimport cython

from only1mcp._fast.counters cimport Histogram


cdef class Metrics:
    cdef public object _region
    cdef public object _counters
    cdef public Histogram _durations
    cdef public dict _backends
    cdef public tuple _other
    cdef public object _collector
    cdef public object render

    cpdef Py_ssize_t slot_of(self, str method, int status)
    cpdef finished_as(self, Py_ssize_t slot, double duration_s)
    cpdef request_finished(self, str method, int status, double duration_s)

    @cython.locals(durations=Histogram)
    cpdef backend_answered(self, str backend, double duration_s)

    @cython.locals(durations=Histogram)
    cpdef backend_failed(self, str backend, double duration_s)
