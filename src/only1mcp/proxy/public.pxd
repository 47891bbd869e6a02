cimport cython

from only1mcp.proxy.exchange cimport Exchange, Snapshot


cpdef bint may_change(Snapshot snapshot, bytes data) except -1

@cython.locals(snapshot=Snapshot)
cpdef bytes as_public(Exchange exchange, str group, str method, bytes body)
