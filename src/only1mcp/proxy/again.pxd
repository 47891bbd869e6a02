cimport cython

from only1mcp.frontend.repeat cimport Repeat
from only1mcp.frontend.session cimport SessionSealer
from only1mcp.metrics cimport Metrics
from only1mcp.proxy.access cimport log_again
from only1mcp.proxy.auth cimport Authenticator
from only1mcp.proxy.exchange cimport Exchange, Snapshot
from only1mcp.proxy.ratelimit cimport RateLimiter, caller_key


cdef class Known:
    cdef public int max_depth
    cdef public str method
    cdef public Py_ssize_t slot
    cdef public bytes path
    cdef public object principal
    cdef public object session
    cdef public str token
    cdef public tuple wanted


cdef class Again:
    cdef public object _current
    cdef public Authenticator _authenticator
    cdef public RateLimiter _limiter
    cdef public SessionSealer _sealer
    cdef public Metrics _metrics
    cdef public object _wall_clock

    cpdef reply(self, Exchange exchange, bytes body, str method, tuple wanted)
    @cython.locals(known=Known, snapshot=Snapshot)
    cpdef answer(self, Repeat repeat, bytes id, double now_s)
