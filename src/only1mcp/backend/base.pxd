cdef class BackendCall:
    cdef public str method
    cdef public bytes message
    cdef public bytes id
    cdef public object timeout_s
    cdef public str name
    cdef public tuple param_headers
    cdef public object on_message
    cdef public object reader
    cdef public object passage
    cdef public object asked
