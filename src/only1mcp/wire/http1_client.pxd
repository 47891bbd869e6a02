from only1mcp._fast.known cimport KnownHead
from only1mcp.wire.http1_events cimport ResponseHead


cdef class ClientConnection:
    cdef public Py_ssize_t _max_header
    cdef public bytearray _buffer
    cdef public object _cutter
    cdef public bint _eof
    cdef public bint _keep_alive
    cdef public object _error
    cdef public object _state
    cdef public object _h11
    cdef public object _body
    cdef public bytes _method
    cdef public list _pieces
    cdef public bytes _first
    cdef public int _interim
    cdef public KnownHead _known
    cdef public ResponseHead _known_head
    cdef public bint response_started

    cpdef _reset(self)
    cpdef bint is_reusable(self)
    cpdef sends_post(self)
    cpdef bytes send_prepared(self, bytes prepared, bytes body)
    cpdef bytes send_request(self, bytes method, bytes target, headers, bytes body=*)
    cpdef receive_data(self, bytes data)
    cpdef next_event(self)
    cpdef tuple maybe_whole(self, bytes data)
    cpdef Py_ssize_t known_size(self, bytes data)
    cpdef bint knows_plain(self)
    cpdef take_known(self)
    cpdef tuple _read_whole(self, bytes data)
    cpdef start_next_cycle(self)
    cpdef _next_head(self)
    cpdef _put_first(self)
    cpdef _next_data(self)
