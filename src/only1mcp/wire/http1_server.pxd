from only1mcp._fast.known cimport KnownHead
from only1mcp.wire.http1_events cimport RequestHead


cdef class ServerConnection:
    cdef public Py_ssize_t _max_header
    cdef public Py_ssize_t _max_body
    cdef public bytearray _buffer
    cdef public object _cutter
    cdef public bint _eof
    cdef public object _error
    cdef public KnownHead _known
    cdef public RequestHead _known_head
    cdef public bint close_after
    cdef public object _state
    cdef public RequestHead _head
    cdef public object _body
    cdef public bytes _method
    cdef public bint _blank_line_ignored
    cdef public bint _continue_expected
    cdef public object _response
    cdef public object _stream

    cpdef _reset(self)
    cpdef receive_data(self, bytes data)
    cpdef tuple maybe_whole(self, bytes data)
    cpdef KnownHead known_as(self, RequestHead head)
    cpdef Py_ssize_t known_size(self, KnownHead known, bytes data)
    cpdef tuple _read_whole(self, bytes data)
    cpdef _take_whole(self, RequestHead head)
    cpdef next_event(self)
    cpdef close_unless_short(self, Py_ssize_t limit_bytes)
    cpdef bint may_prepare(self, int status)
    cpdef bytes send_prepared(self, bytes prepared, bytes body)
    cpdef bytes send_response(self, status, headers, bytes body)
    cpdef bint start_next_cycle(self)
    cpdef _next_head(self)
    cpdef _begin(self, RequestHead head, bint close)
    cpdef _next_data(self)
