from libc.stdint cimport int64_t, uint8_t

cdef enum:
    MAX_FIELDS = 100

# Places in NAMES. Those before FIRST_ORDINARY are looked at; of them, only these five are ever plain.
cdef enum:
    HOST = 0
    CONTENT_LENGTH = 1
    TRANSFER_ENCODING = 2
    CONNECTION = 3
    CONTENT_ENCODING = 4
    FIRST_ORDINARY = 10
    MCP_NAME = 30
    UNKNOWN = -1
    LONGEST_NAME = 32
    MAX_NAMES = 127
    SLOTS = 512


cdef struct Field:
    Py_ssize_t name
    Py_ssize_t name_end
    Py_ssize_t value
    Py_ssize_t value_end
    int known  # place in NAMES, or UNKNOWN

cdef struct Head:
    Field fields[MAX_FIELDS]
    int count
    bint response
    bint has_host
    bint has_connection
    bint close
    bint chunked
    int64_t length  # -1: there is no Content-Length


# Note the fields of a head from `i` on, up to its end, which is returned; NOT_PLAIN where they are not plain.
cdef Py_ssize_t scan_fields(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Head* head) noexcept

# The number that 1 to 15 digits spell, NOT_PLAIN for anything else.
cdef int64_t decimal(const uint8_t* text, Py_ssize_t length) noexcept
