cimport cython

from only1mcp._fast.envelope cimport Envelope
from only1mcp.proxy.exchange cimport Exchange, Snapshot

from only1mcp.wire.jsonrpc cimport decode_string


cdef class Target:
    cdef public object group
    cdef public str original
    cdef public object replace
    cdef public object item
    cdef public bytes hash_key


cdef class Route:
    cdef public object group
    cdef public object item
    cdef public bytes renamed
    cdef public bint annotated
    cdef public Target target


@cython.locals(route=Route)
cpdef Target find_target(Exchange exchange, Envelope message, str method)
@cython.locals(route=Route)
cpdef Route plain_route(Snapshot snapshot, bytes name, bint caches)

cpdef Target to_item(Exchange exchange, Route route, str name, tuple span)
cpdef bytes hash_key_of(Exchange exchange, str name)
