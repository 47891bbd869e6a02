from only1mcp._fast.envelope cimport Envelope
from only1mcp.frontend.http_exchange cimport HttpExchange


cdef class Snapshot:
    cdef public object config
    cdef public object groups
    cdef public object catalog
    cdef public object desk
    cdef public object pages
    cdef public bint rewrites
    cdef public bint rewrites_uris
    cdef public dict tools
    cdef public dict prompts
    cdef public dict plain
    cdef public object mark
    cdef public bytes path
    cdef public int max_depth
    cdef public Py_ssize_t max_in_flight
    cdef public double request_s


cdef class Exchange:
    cdef public HttpExchange http
    cdef public double began
    cdef public Snapshot snapshot
    cdef public object principal
    cdef public object era
    cdef public str revision
    cdef public object session
    cdef public Envelope message
    cdef public str method
    cdef public str backend
    cdef public object cache_key
    cdef public bint forwarded
    cdef public bint streaming
    cdef public bint passing
    cdef public object journal
    cdef public object work
    cdef public object error
    cdef public list cors

    cpdef reply(self, int status, bytes body, list extra=*)
