cimport cython


cdef class Letterhead:
    cdef public long long _date_at
    cdef public tuple _date
    cdef public dict _kept

    cpdef tuple date_field(self)
    cpdef bytes head(self, int status, list headers)


cdef class DatedHead:
    cdef public list _headers
    cdef public bytes _octets
    cdef public long long _second

    @cython.locals(second=longlong)
    cpdef bytes octets(self, Letterhead letterhead)
