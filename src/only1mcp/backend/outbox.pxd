cdef class Line:
    cdef public bytes message
    cdef public Py_ssize_t sent
    cdef public Py_ssize_t size


cdef class Outbox:
    cdef public Py_ssize_t _limit
    cdef public object _lines
    cdef public Py_ssize_t _waiting

    cpdef bint maybe_add(self, Line line)
    cpdef bint withdraw(self, Line line)
    cpdef bint fills_a_write(self)
    cpdef data_to_send(self)
    cpdef wrote(self, Py_ssize_t count)
    cpdef clear(self)
    cpdef _pop(self)


cpdef bytes on_one_line(bytes message)
