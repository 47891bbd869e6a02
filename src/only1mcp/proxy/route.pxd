from only1mcp._fast.envelope cimport Envelope
from only1mcp.proxy.exchange cimport Exchange


cdef class Target:
    cdef public object group
    cdef public str original
    cdef public object replace
    cdef public object item
    cdef public bytes hash_key


cpdef Target find_target(Exchange exchange, Envelope message, str method)
cpdef Target _to_item(Exchange exchange, item, str name, tuple span)
cpdef bytes _hash_key(Exchange exchange, str name)
