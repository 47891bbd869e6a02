cimport cython

from only1mcp._fast.envelope cimport Envelope
from only1mcp.backend.base cimport BackendCall
from only1mcp.backend.endpoint cimport Endpoint
from only1mcp.metrics cimport Metrics
from only1mcp.proxy.exchange cimport Exchange
from only1mcp.proxy.relay cimport Relay
from only1mcp.proxy.route cimport Target
from only1mcp.wire.eras cimport Outbound, to_backend
from only1mcp.wire.eras cimport to_client as answer_to_client


cdef class Answer:
    cdef public object outcome
    cdef public object era
    cdef public object server_info


cdef class _Attempt:
    cdef public Endpoint _endpoint
    cdef public object _transport
    cdef public object _peer
    cdef public Metrics _metrics
    cdef public object _done
    cdef public double _began
    cdef public object cancel_call


@cython.locals(attempt=_Attempt, call=BackendCall)
cpdef maybe_begin(Exchange exchange, Target target, Endpoint endpoint, metrics, done)


@cython.locals(outbound=Outbound)
cpdef BackendCall _prepare(Exchange exchange, Target target, endpoint, peer, double timeout_s, Envelope message=*, bytes id=*)
cpdef bint _may_pass(Exchange exchange, peer)
cpdef tuple to_client(Exchange exchange, Target target, str method, Answer answer)
