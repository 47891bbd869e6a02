from libc.stdint cimport int64_t


cdef class KnownHead:
    cdef bytes _octets
    cdef Py_ssize_t _digits  # where the digits of Content-Length begin
    cdef Py_ssize_t _rest  # and what is behind them
    cdef readonly int64_t length

    cpdef Py_ssize_t matches(self, bytes data)
