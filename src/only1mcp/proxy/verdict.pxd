from only1mcp.wire.classify cimport Routing


cdef class Verdict:
    cdef public object origin
    cdef public bytes path
    cdef public list cors
    cdef public bint judged
    cdef public object era
    cdef public Routing routing
