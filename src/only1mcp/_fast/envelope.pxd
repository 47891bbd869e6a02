cdef struct Piece:
    Py_ssize_t start  # -1: absent
    Py_ssize_t end


cdef class Envelope:
    cdef readonly bytes data
    cdef readonly int kind
    cdef readonly bytes id
    cdef readonly str method
    cdef readonly bint typed
    cdef Piece pieces[9]  # of the members that have a place in NAME_TABLE
