cimport cython


cdef class Page:
    cdef public bytes head
    cdef public bytes tail

    cpdef bytes answer(self, bytes id, Py_ssize_t fresh_ms)


cdef class Pages:
    cdef public object _catalog
    cdef public object _groups
    cdef public double _age_s
    cdef public double _lifetime_s
    cdef public Py_ssize_t _limit_bytes
    cdef public dict _pages
    cdef public set _continued
    cdef public dict _fresh
    cdef public Py_ssize_t used_bytes

    cpdef bint has(self, tuple wanted)
    @cython.locals(page=Page)
    cpdef bytes again(self, tuple wanted, bytes id, double now_s, metrics)
    cpdef bytes list(self, message, era, principal, double now_s, metrics)
    cpdef Py_ssize_t _fresh_ms(self, str method, double now_s)


cpdef tuple wanted_by(message, era, principal)
