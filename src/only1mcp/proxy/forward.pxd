from only1mcp.metrics cimport Metrics
from only1mcp.proxy.call cimport Answer, maybe_begin, to_client
from only1mcp.proxy.exchange cimport Exchange
from only1mcp.proxy.route cimport Target


cdef class Forwarding


cdef class Forwarder:
    cdef public object _cache
    cdef public Metrics _metrics
    cdef public object _flights
    cdef public dict _cancellable
    cdef public set _tasks

    cpdef bint maybe_cached(self, Exchange exchange, Target target, str method)
    cpdef forward(self, Exchange exchange, Target target, str method)
    cpdef begin(self, Forwarding forwarding)
    cpdef deliver(self, Exchange exchange, Target target, str method, Answer answer)
    cpdef remember(self, work)
    cpdef forget(self, work)
    cpdef _key(self, cache, Exchange exchange, Target target, str method)


cdef class Forwarding:
    cdef public Forwarder forwarder
    cdef public Exchange exchange
    cdef public Target target
    cdef public str method
    cdef public object endpoint
    cdef public object ticket
    cdef public object task
    cdef public object stop
    cdef public bint cancelled
    cdef public object lot
    cdef public object parked
    cdef public double _began

    cpdef _ask_no_more(self)
