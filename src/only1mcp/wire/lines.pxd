cimport cython


cdef class LineSplitter:
    cdef public Py_ssize_t limit
    cdef public list _parts
    cdef public Py_ssize_t _size
    cdef public tuple _overlong

    @cython.locals(lines=list, complete=list)
    cpdef list receive_data(self, bytes data)

    cpdef list receive_eof(self)
    cpdef _keep(self, bytes part)
    cpdef _take(self)
