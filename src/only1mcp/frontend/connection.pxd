from only1mcp.frontend.flow cimport ReaderWatch, WriteGate
from only1mcp.frontend.http_exchange cimport HttpExchange
from only1mcp.frontend.letterhead cimport Letterhead
from only1mcp.frontend.runner cimport ExchangeRunner
from only1mcp.frontend.timer cimport Deadline
from only1mcp.wire.http1_server cimport ServerConnection
from only1mcp.wire.http1_events cimport RequestHead


cdef class Connection:
    cdef public object _owner
    cdef public Letterhead _letterhead
    cdef public double _header_s
    cdef public double _request_s
    cdef public double _idle_s
    cdef public object _loop
    cdef public str peer
    cdef public bint tls
    cdef public object _transport
    cdef public ServerConnection _wire
    cdef public WriteGate _gate
    cdef public ReaderWatch _reader
    cdef public Deadline _deadline
    cdef public object _phase
    cdef public bint _advancing
    cdef public bint _behind
    cdef public bint _eof
    cdef public bint stopping
    cdef public bint _reading_paused
    cdef public Py_ssize_t _linger_left
    cdef public bint _served_before
    cdef public object _head_since
    cdef public ExchangeRunner _runner
    cdef public object _upload

    cpdef data_received(self, data)
    cpdef send_response(self, status, headers, bytes body)
    cpdef settle(self)
    cpdef exchange_over(self)
    cpdef _advance(self)
    cpdef bint _step(self)
    cpdef _serve(self, RequestHead head, bytes body)
    cpdef _on_head(self, RequestHead head)
    cpdef _on_data(self, bytes data)
    cpdef _on_end(self)
    cpdef _write(self, bytes data)
    cpdef _schedule(self)
    cpdef _pause_reading(self, bint pause)
    cpdef bint _may_be_gone(self)
