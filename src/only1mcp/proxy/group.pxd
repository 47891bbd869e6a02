cdef class Group:
    cdef public str id
    cdef public dict endpoints
    cdef public object _only
    cdef public bint balances
    cdef public bint shares
    cdef public object era
    cdef public object _balancer
