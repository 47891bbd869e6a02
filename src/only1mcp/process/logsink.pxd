cdef class Sink:
    cdef object _target
    cdef object _notice
    cdef Py_ssize_t _limit_bytes
    cdef list _lines
    cdef object _lock
    cdef object _changed
    cdef Py_ssize_t _pending_bytes
    cdef bint _busy
    cdef bint _urgent
    cdef bint _stuck
    cdef bint _closed
    cdef object _thread
    cdef public Py_ssize_t dropped
    cdef Py_ssize_t _told
    cdef bint _warned
    cdef bint _broken

    cpdef put(self, bytes line)
