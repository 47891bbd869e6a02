from only1mcp.frontend.http_exchange cimport HttpExchange


cdef class ExchangeRunner:
    cdef public object _app
    cdef public object _host
    cdef public object _loop
    cdef public HttpExchange exchange
    cdef public object _task
    cdef public bint _dispatching

    cpdef on_head(self, HttpExchange exchange)
    cpdef on_request(self, HttpExchange exchange)
    cpdef on_whole(self, HttpExchange exchange)
    cpdef settle(self)
    cpdef _cancel_deferred(self, HttpExchange exchange)
    cpdef _dispatch(self, callback, HttpExchange exchange)
