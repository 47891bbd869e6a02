from only1mcp.frontend.connection cimport Connection
from only1mcp.frontend.letterhead cimport Letterhead
from only1mcp.frontend.repeat cimport Repeat
from only1mcp.wire.http1_server cimport ServerConnection


cdef class RepeatingConnection(Connection):
    cdef public Repeat _repeat

    cpdef bint _answers_again(self, Repeat repeat, bytes data)
