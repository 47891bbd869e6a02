from only1mcp.frontend.letterhead cimport DatedHead
from only1mcp.wire.http1_events cimport RequestHead


cdef class Repeat:
    cdef public RequestHead head
    cdef public str peer
    cdef public DatedHead headers
    cdef public object answer
    cdef public object state
    cdef public bytes _body
    cdef public tuple _span
    cdef public Py_ssize_t _size
    cdef public bytes _before
    cdef public bytes _id
    cdef public bytes _after
    cdef public bint _proven

    cpdef came_as(self, bytes data)
    cpdef bytes maybe_id(self, bytes data)
    cpdef bint _proves(self)
