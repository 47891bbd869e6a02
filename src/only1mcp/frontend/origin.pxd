from only1mcp.wire.http1_events cimport RequestHead


cdef class OriginPolicy:
    cdef public bint _loopback
    cdef public bint _check_host
    cdef public object _hosts
    cdef public object _origins
    cdef public set _passed

    cpdef check(self, RequestHead head)
    cpdef list cors_headers(self, RequestHead head)
