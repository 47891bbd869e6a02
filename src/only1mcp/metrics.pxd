cdef class Metrics:
    cdef public object _region
    cdef public object _counters
    cdef public object _durations
    cdef public dict _backends
    cdef public tuple _other
    cdef public object _collector
    cdef public object prepare
    cdef public object render

    cpdef request_finished(self, str method, int status, double duration_s)
    cpdef backend_answered(self, str backend, double duration_s)
    cpdef backend_failed(self, str backend, double duration_s)
