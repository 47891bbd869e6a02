from only1mcp._fast.envelope cimport Envelope
from only1mcp.wire.http1_events cimport RequestHead


cdef class Routing:
    cdef public bytes version
    cdef public bytes method
    cdef public bytes name
    cdef public str revision
    cdef public str plain_method
    cdef public str named_by
    cdef public bytes plain_name


cpdef era_of_headers(RequestHead head)
cpdef Routing routing_of(RequestHead head)
cpdef str check_stateless(Routing routing, Envelope message)
cpdef _maybe_plain(Routing routing, Envelope message, tuple version)
