cimport cython

from only1mcp.backend.connection cimport HttpConnection


cdef class Pool:
    cdef public object _connect
    cdef public Py_ssize_t _max_connections
    cdef public double _idle_s
    cdef public list _idle
    cdef public set _leased
    cdef public Py_ssize_t _opening
    cdef public object _waiting
    cdef public bint _closed
    cdef public object _expiry

    @cython.locals(connection=HttpConnection)
    cpdef HttpConnection maybe_acquire(self)
    cpdef release(self, HttpConnection connection)
