from libc.stdint cimport uint8_t

cdef enum:
    MAX_ID_OCTETS = 256

# Members of a message, then those of params; the place in the list is the place in the table of what was found.
cdef enum:
    JSONRPC = 0
    ID = 1
    METHOD = 2
    PARAMS = 3
    RESULT_MEMBER = 4
    ERROR_MEMBER = 5
    NAME = 6
    URI = 7
    META = 8
    NAMES = 9


cdef struct Piece:
    Py_ssize_t start  # -1: absent
    Py_ssize_t end


cdef struct Found:
    Piece pieces[9]
    int ambiguous  # the first name that is repeated or spelled in another case, or -1
    bint ambiguous_id
    bint unknown
    bint typed  # `result` has a member resultType


cdef class Envelope:
    cdef readonly bytes data
    cdef readonly int kind
    cdef readonly bytes id
    cdef readonly str method
    cdef readonly bint typed
    cdef Piece pieces[9]  # of the members that have a place in NAME_TABLE


# Whether the octets are one JSON object and nothing else; its members are noted in `top`, those of params in `inner`.
cdef bint is_message(const uint8_t* p, Py_ssize_t n, Py_ssize_t limit, Found* top, Found* inner) noexcept nogil
