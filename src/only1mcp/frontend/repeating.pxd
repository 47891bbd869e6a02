from only1mcp._fast.known cimport KnownHead
from only1mcp.frontend.connection cimport Connection
from only1mcp.frontend.http_exchange cimport HttpExchange
from only1mcp.frontend.letterhead cimport DatedHead, Letterhead
from only1mcp.frontend.repeat cimport Repeat
from only1mcp.wire.http1_events cimport RequestHead
from only1mcp.wire.http1_server cimport ServerConnection


cdef class RepeatingConnection(Connection):
    cdef public Repeat _repeat
    cdef public object _known
    cdef public KnownHead _octets
    cdef public Py_ssize_t ordinary_calls
    cdef public Py_ssize_t _learn_at
    cdef public Py_ssize_t _learn_after
    cdef public object _plain

    cpdef double now(self)
    cpdef bytes head_of_answer(self, DatedHead head)
    cpdef begin_plain(self, plain)
    cpdef answer_plain(self, bytes message)
    cpdef tuple end_plain(self, bytes data)
    cpdef take_up(self, HttpExchange exchange)
    cpdef _take_up(self)
    cpdef bint _answers_again(self, Repeat repeat, bytes data)
