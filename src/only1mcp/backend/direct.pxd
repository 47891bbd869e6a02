from only1mcp.backend.base cimport BackendCall
from only1mcp.backend.connection cimport HttpConnection
from only1mcp.backend.deadline cimport DeadlineWatch
from only1mcp.backend.pool cimport Pool
from only1mcp.wire.http1_events cimport ResponseHead


cdef class DirectCall:
    cdef public object _owner
    cdef public Pool _pool
    cdef public DeadlineWatch _watch
    cdef public object _done
    cdef public object _reader
    cdef public double _left_s
    cdef public BackendCall call
    cdef public HttpConnection connection
    cdef public double deadline
    cdef public object task
    cdef public bint _repeated
    cdef public int _stops

    cpdef begin(self, bytes prepared)
    cpdef answered(self, ResponseHead head, bytes body)
    cpdef _read(self, ResponseHead head, bytes body)
    cpdef end(self, outcome)
