from only1mcp.wire.http1_client cimport ClientConnection


cdef class HttpConnection:
    cdef public object on_lost
    cdef public object state
    cdef public double idle_since
    cdef public Py_ssize_t exchanges
    cdef public object closed
    cdef public object _transport
    cdef public object _loop
    cdef public int _socket_fd
    cdef public ClientConnection _http
    cdef public object _failure
    cdef public bint _reading
    cdef public bint _writing
    cdef public object _waiter
    cdef public object _receiver
    cdef public object _shortcut
    cdef public object _taker
    cdef public bint sent
    cdef public bint answered
    cdef public object _early
    cdef public bint _cut
    cdef public bint ended
    cdef public Py_ssize_t _unread

    cpdef begin(self, bytes prepared, bytes body, receiver)
    cpdef begin_plain(self, bytes data, shortcut)
    cpdef _begin(self, bytes data)
    cpdef took_answer(self)
    cpdef hand_to(self, receiver)
    cpdef maybe_event(self)
    cpdef bint finish(self)
    cpdef bint usable(self)
    cpdef bint _pour_at_once(self, take) except -1
    cpdef _pause_reading(self)
    cpdef _wake(self)
