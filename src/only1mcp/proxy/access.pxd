cimport cython

from only1mcp.frontend.http_exchange cimport HttpExchange
from only1mcp.proxy.exchange cimport Exchange


cpdef log_request(Exchange exchange, double duration_s)
cpdef bint _only_ours()


@cython.locals(http=HttpExchange, target=bytes, method=str, microseconds=longlong)
cpdef tuple _values(Exchange exchange, double duration_s)
