cimport cython

from only1mcp._fast.envelope cimport Envelope
from only1mcp.frontend.http_exchange cimport HttpExchange
from only1mcp.proxy.access cimport log_request
from only1mcp.proxy.again cimport Again
from only1mcp.proxy.exchange cimport Exchange, Snapshot
from only1mcp.proxy.forward cimport Forwarder
from only1mcp.proxy.route cimport Target, find_target
from only1mcp.wire.classify cimport check_stateless
from only1mcp.metrics cimport Metrics
from only1mcp.proxy.verdict cimport Verdict as _Verdict


cdef class Pipeline:
    cdef public Snapshot snapshot
    cdef public object _started
    cdef public bint _closing
    cdef public object _origin
    cdef public object _authenticator
    cdef public object _limiter
    cdef public object _sealer
    cdef public Forwarder _forwarder
    cdef public Metrics _metrics
    cdef public object _wall_clock
    cdef public object _admin
    cdef public Py_ssize_t _in_flight
    cdef public Again _again
    cdef public object _plain
    cdef public object _batches
    cdef public object sse

    cpdef on_head(self, HttpExchange http)

    @cython.locals(verdict=_Verdict)
    cpdef _guard(self, Exchange exchange)
    cpdef _authenticate(self, Exchange exchange)
    cpdef on_request(self, HttpExchange http)

    @cython.locals(verdict=_Verdict)
    cpdef _take(self, Exchange exchange)
    cpdef _admit(self, Exchange exchange)

    @cython.locals(verdict=_Verdict)
    cpdef _take_stateless(self, Exchange exchange, Envelope message)
    cpdef _take_handshake(self, Exchange exchange, Envelope message)
    cpdef _open_session(self, Exchange exchange)
    cpdef _send(self, Exchange exchange, Target target, str method)
    cpdef _route(self, Exchange exchange, Envelope message, str method)
    cpdef finish(self, HttpExchange http)
    cpdef bint enters(self)
    cpdef leaves(self)
