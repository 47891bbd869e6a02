cdef class Endpoint:
    cdef public object config
    cdef public str id
    cdef public double timeout_s
    cdef public object _make_transport
    cdef public object _on_change
    cdef public object _on_stale
    cdef public object _backoff
    cdef public object state
    cdef public object peer
    cdef public object inventory
    cdef public object former
    cdef public double read_at
    cdef public dict ttl_ms
    cdef public Py_ssize_t in_flight
    cdef public object last_error
    cdef public object transport
    cdef public long long _last_id
    cdef public object _wake
    cdef public object _lost
    cdef public bint _stale
    cdef public bint _probe
    cdef public Py_ssize_t _rereads
    cdef public object _reread
    cdef public object lists_read
    cdef public object _ear
    cdef public object _replies
    cdef public object era
    cdef public object on_era
    cdef public object interest
    cdef public object audience
    cdef public bint exclusive
    cdef public object _attempt_over
    cdef public object _task
    cdef public object _stream
    cdef public object _grace

    cpdef bytes next_id(self)
    cpdef long long next_number(self)
