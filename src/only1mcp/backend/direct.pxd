from only1mcp.backend.base cimport BackendCall
from only1mcp.backend.connection cimport HttpConnection


cdef class DirectCall:
    cdef public object _owner
    cdef public DeadlineWatch _watch
    cdef public object _done
    cdef public BackendCall call
    cdef public object reader
    cdef public HttpConnection connection
    cdef public double deadline
    cdef public object task
    cdef public bint _repeated

    cpdef begin(self, bytes prepared)
    cpdef answered(self)
    cpdef end(self, outcome)


cdef class DeadlineWatch:
    cdef public dict _calls
    cdef public object _timer
    cdef public double _fires_at
    cdef public object _loop

    cpdef double add(self, DirectCall direct, timeout_s)
    cpdef remove(self, DirectCall direct)
