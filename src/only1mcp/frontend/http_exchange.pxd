from only1mcp.wire.http1_events cimport RequestHead


cdef class HttpExchange:
    cdef public object _channel
    cdef public str peer
    cdef public bint tls
    cdef public double started
    cdef public RequestHead head
    cdef public bytes body
    cdef public object state
    cdef public object vouched
    cdef public object on_finish
    cdef public object on_cancel
    cdef public int status
    cdef public Py_ssize_t bytes_out
    cdef public bint started_response
    cdef public bint finished
    cdef public bint client_gone

    cpdef respond(self, status, headers, bytes body=*)
    cpdef defer(self, on_cancel)
    cpdef _expect(self, bint started)
    cpdef _count(self, bytes data)
