cdef class Group:
    cdef public str id
    cdef public dict endpoints
    cdef public object _only
    cdef public bint balances
    cdef public bint shares
    cdef public object era
    cdef public object _returned
    cdef public object _returned_for
    cdef public object _balancer

    cpdef pick(self, key, without=*)
    cpdef give_back(self, endpoint, key)
