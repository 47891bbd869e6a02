cdef class WriteGate:
    cdef public bint paused
    cdef public bint _released
    cdef public list _waiters


cdef class ReaderWatch:
    cdef public Py_ssize_t _min_progress
    cdef public Py_ssize_t _written
    cdef public Py_ssize_t _goal
    cdef public object _since
    cdef public int _probes

    cpdef note_written(self, Py_ssize_t count)
    cpdef reset(self)
    cpdef note_probe(self)
    cpdef double probe_s(self)
    cpdef double stalled_s(self, double now, Py_ssize_t unsent)
