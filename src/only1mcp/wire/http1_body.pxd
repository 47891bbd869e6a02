cdef class LengthBody:
    cdef public Py_ssize_t _remaining
    cdef public bint complete

    cpdef maybe_read(self, bytearray buffer)
    cpdef bint maybe_take(self, bytes data)
