from only1mcp.proxy.exchange cimport Exchange


cdef class Relay:
    cdef public Exchange _exchange
    cdef public object _endpoint
    cdef public bint _same_era
    cdef public object _progress_token
