cdef class Metrics:
    cdef public object _region
    cdef public object _counters
    cdef public object _durations
    cdef public dict _backends
    cdef public tuple _other
    cdef public object _collector
    cdef public object prepare
    cdef public object render
