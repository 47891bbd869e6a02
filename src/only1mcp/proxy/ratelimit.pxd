cdef class RateLimiter:
    cdef public double interval_s
    cdef public double _tolerance_s
    cdef public Py_ssize_t _max_keys
    cdef public object _due

    cpdef double check(self, str key, double now)


cpdef str address_key(str address)
cpdef str caller_key(principal, str peer)
