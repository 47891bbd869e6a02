from only1mcp.backend.base cimport BackendCall
from only1mcp.backend.connection cimport HttpConnection
from only1mcp.backend.deadline cimport DeadlineWatch
from only1mcp.backend.direct cimport DirectCall
from only1mcp.backend.pool cimport Pool


cdef class DirectLane:
    cdef public object _owner
    cdef public Pool pool
    cdef public DeadlineWatch _watch
    cdef public bint _closed
    cdef public bint sole
    cdef public dict _heads
    cdef public dict _call_heads
    cdef public object _revision
    cdef public object _session_id

    cpdef maybe_begin(self, BackendCall call, done)
    cpdef DeadlineWatch watch(self)
    cpdef bytes head_of_call(self, str tool)
    cpdef _forget_former(self)
    cpdef _head(self, BackendCall call)
