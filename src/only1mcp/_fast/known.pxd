from libc.stdint cimport int64_t


cdef class KnownHead:
    cdef bytes _octets
    # Where the digits of Content-Length are, and the value of Mcp-Name, which begins at -1 where there is none.
    cdef Py_ssize_t _digits
    cdef Py_ssize_t _digits_end
    cdef Py_ssize_t _name
    cdef Py_ssize_t _name_end
    cdef readonly int64_t length
    cdef readonly Py_ssize_t name_start
    cdef readonly Py_ssize_t name_end

    cpdef Py_ssize_t matches(self, bytes data)
    cpdef Py_ssize_t matches_but_name(self, bytes data)
    cdef Py_ssize_t pass_length(self, const char* p, Py_ssize_t i, Py_ssize_t n) noexcept
    cdef Py_ssize_t pass_name(self, const char* p, Py_ssize_t i, Py_ssize_t n) noexcept
    cdef bint same(self, const char* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t start, Py_ssize_t end) noexcept
