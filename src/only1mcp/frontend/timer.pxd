cdef class Deadline:
    cdef public object _loop
    cdef public object _on_expiry
    cdef public object _handle
    cdef public double _fires_at
    cdef public double _when

    cpdef set(self, double when)
    cpdef close(self)
