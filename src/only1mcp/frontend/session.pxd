cdef class SessionSealer:
    cdef public object _sealer
    cdef public int _worker
    cdef public int _lifetime_s
    cdef public object _opened
    cdef public object _terminated

    cpdef open(self, str token, str principal_id, double now)
    cpdef bint holds(self, str token, session, double now)
