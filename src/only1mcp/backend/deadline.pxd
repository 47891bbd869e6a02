cdef class DeadlineWatch:
    cdef public dict _calls
    cdef public object _timer
    cdef public double _fires_at
    cdef public object _loop

    cpdef double add(self, call, timeout_s)
    cpdef watch(self, call, double deadline)
    cpdef remove(self, call)
