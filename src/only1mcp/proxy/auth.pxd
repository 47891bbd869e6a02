from only1mcp.wire.http1_events cimport RequestHead


cdef class Authenticator:
    cdef public object _clock
    cdef public list _keys
    cdef public object _jwt
    cdef public bint _configured
    cdef public bint required
    cdef public object _verified

    cpdef authenticate(self, RequestHead head)
    cpdef bint holds(self, principal, double now)
    cpdef _check(self, bytes credential, bint bearer)
