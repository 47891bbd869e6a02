cimport cython

from only1mcp._fast.envelope cimport Envelope
from only1mcp.backend.base cimport BackendCall
from only1mcp.backend.deadline cimport DeadlineWatch
from only1mcp.wire.lines cimport LineSplitter
from only1mcp.backend.outbox cimport Line, Outbox, on_one_line


cdef class StdioCall:
    cdef public StdioLane _lane
    cdef public object _done
    cdef public BackendCall call
    cdef public Line line
    cdef public double deadline
    cdef public double _left_s
    cdef public int _stops
    cdef public object asks

    cpdef end(self, outcome)


cdef class StdioLane:
    cdef public object _owner
    cdef public str name
    cdef public object child
    cdef public object over
    cdef public object _loop
    cdef public Outbox outbox
    cdef public bint _due
    cdef public bint _full
    cdef public bint _broken
    cdef public LineSplitter lines
    cdef public Py_ssize_t _garbage
    cdef public dict calls
    cdef public bint _known
    cdef public DeadlineWatch _watch

    @cython.locals(begun=StdioCall)
    cpdef maybe_begin(self, BackendCall call, done)

    cpdef bint _maybe_add(self, Line line)
    cpdef _flush_soon(self)
    cpdef _write(self)
    cpdef received(self, bytes data)

    @cython.locals(message=Envelope, begun=StdioCall)
    cpdef _take(self, bytes line, bint cut_off)

    cpdef forget(self, StdioCall begun)
