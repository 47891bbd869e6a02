from libc.stdint cimport int64_t

from only1mcp._fast.envelope cimport Piece


cdef class CallText:
    cdef readonly bytes data
    cdef readonly Py_ssize_t start
    # Places in `data`.
    cdef Piece _id
    cdef Piece _name
    cdef Piece _meta

    cpdef bytes id(self)
    cpdef bytes name(self)
    cpdef bint names(self, bytes name)
    cpdef bint named_at(self, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef tuple meta_span(self)
    cpdef bint has_meta(self, bytes text)
    cpdef bytes request(self, bytes head, int64_t id, bytes renamed)
    cpdef bytes answer(self, bytes head, bytes response, Py_ssize_t start, int64_t id, bint typed)
    cdef bytes text(self, Piece place)


cpdef CallText maybe_call(bytes data, Py_ssize_t start, Py_ssize_t max_depth)
