from only1mcp.wire.http1_events cimport RequestHead, ResponseHead


cdef class ServerConnection:
    cdef public Py_ssize_t _max_header
    cdef public Py_ssize_t _max_body
    cdef public bytearray _buffer
    cdef public object _cutter
    cdef public bint _eof
    cdef public object _error
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
    cpdef next_event(self)
    cpdef bytes send_response(self, status, headers, bytes body)
    cpdef bint start_next_cycle(self)
    cpdef _next_head(self)
    cpdef _begin(self, RequestHead head, bint close)
    cpdef _next_data(self)


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
    cdef public int _interim
    cdef public bint response_started

    cpdef _reset(self)
    cpdef bytes send_prepared(self, bytes prepared, bytes body)
    cpdef bytes send_request(self, bytes method, bytes target, headers, bytes body=*)
    cpdef receive_data(self, bytes data)
    cpdef next_event(self)
    cpdef maybe_whole(self)
    cpdef start_next_cycle(self)
    cpdef _next_head(self)
    cpdef _next_data(self)
