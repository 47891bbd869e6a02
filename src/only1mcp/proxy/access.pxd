cimport cython

from only1mcp.frontend.http_exchange cimport HttpExchange
from only1mcp.proxy.exchange cimport Exchange
from only1mcp.wire.http1_events cimport RequestHead


@cython.locals(http=HttpExchange)
cpdef log_request(Exchange exchange, double duration_s)
cpdef log_again(RequestHead head, str peer, Py_ssize_t bytes_out, double duration_s, principal, str method, str backend=*)
cpdef bint wanted()
cpdef _write(tuple values)
cpdef bint _only_ours()


@cython.locals(target=bytes, microseconds=longlong)
cpdef tuple _values(
    RequestHead head, str peer, int status, Py_ssize_t bytes_out, double duration_s, principal, str method, str backend,
    error
)
