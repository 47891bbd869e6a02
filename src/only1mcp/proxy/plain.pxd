cimport cython

from only1mcp._fast.calls cimport CallText
from only1mcp._fast.envelope cimport Envelope
from only1mcp._fast.known cimport KnownHead
from only1mcp.backend.connection cimport HttpConnection
from only1mcp.backend.endpoint cimport Endpoint
from only1mcp.backend.lane cimport DirectLane
from only1mcp.frontend.letterhead cimport DatedHead
from only1mcp.frontend.repeating cimport RepeatingConnection
from only1mcp.frontend.session cimport SessionSealer
from only1mcp.metrics cimport Metrics
from only1mcp.proxy.access cimport log_again, wanted
from only1mcp.proxy.auth cimport Authenticator
from only1mcp.proxy.exchange cimport Exchange, Snapshot
from only1mcp.proxy.forward cimport Forwarder
from only1mcp.proxy.group cimport Group
from only1mcp.proxy.public cimport may_change
from only1mcp.proxy.ratelimit cimport RateLimiter
from only1mcp.proxy.route cimport Route, plain_route, to_item
from only1mcp.proxy.verdict cimport Verdict
from only1mcp.wire.http1_events cimport RequestHead


cdef class PlainCalls:
    cdef public object stage
    cdef public Forwarder forwarder
    cdef public Authenticator authenticator
    cdef public RateLimiter limiter
    cdef public SessionSealer sealer
    cdef public Metrics metrics
    cdef public Py_ssize_t slot
    cdef public bint caches
    cdef public dict running

    @cython.locals(verdict=Verdict)
    cpdef learn(self, Exchange exchange)


cdef class KnownCall:
    cdef public PlainCalls calls
    cdef public RequestHead head
    cdef public list cors
    cdef public object principal
    cdef public object session
    cdef public object era
    cdef public str revision
    cdef public bint older
    cdef public object _mark
    cdef public str _limit_key
    cdef public str _owner
    cdef public str _token
    cdef public bint stateless
    cdef public bytes _meta
    cdef public bytes _version
    cdef public bint _by_tool
    cdef public bytes _hash_key
    cdef public DatedHead headers

    @cython.locals(
        calls=PlainCalls, snapshot=Snapshot, began=double, text=CallText, name=bytes, route=Route, group=Group, key=bytes,
        endpoint=Endpoint
    )
    cpdef bint maybe_begin(self, RepeatingConnection client, KnownHead octets, bytes data, Py_ssize_t size) except -1

    @cython.locals(
        calls=PlainCalls, lane=DirectLane, head=bytes, connection=HttpConnection, started=double, limiter=RateLimiter,
        call=PlainCall
    )
    cpdef bint _begins(
        self, RepeatingConnection client, CallText text, Snapshot snapshot, Route route, Endpoint endpoint, double began
    ) except -1

    cpdef bint _agrees(self, CallText text, KnownHead octets) except -1
    cpdef bint _may_call(self, Route route) except -1

    @cython.locals(now=double)
    cpdef bint _holds(self) except -1


cdef class PlainCall:
    cdef public KnownCall known
    cdef public CallText text
    cdef public Snapshot snapshot
    cdef public Route route
    cdef public Endpoint endpoint
    cdef public object transport
    cdef public object peer
    cdef public DirectLane lane
    cdef public HttpConnection connection
    cdef public RepeatingConnection client
    cdef public long long number
    cdef public double began
    cdef public double sent_at
    cdef public double started
    cdef public double deadline

    cpdef begin(self, bytes head)

    @cython.locals(
        known=KnownCall, client=RepeatingConnection, head=bytes, message=bytes, endpoint=Endpoint, calls=PlainCalls,
        duration_s=double
    )
    cpdef bint maybe_answered(self, bytes data, Py_ssize_t size) except -1
    cpdef _forget(self)
