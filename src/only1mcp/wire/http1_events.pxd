cdef class Fields:
    cdef public list headers
    cdef public dict _index

    cpdef get(self, bytes name)
    cpdef list get_all(self, bytes name)
    cpdef bint repeats(self, bytes name)


cdef class RequestHead(Fields):
    cdef public bytes method
    cdef public bytes target
    cdef public bytes http_version
    cdef public object content_length
    cdef public bint chunked
    cdef public bint expect_continue
    cdef public object verdict

    cpdef RequestHead with_length(self, length)


cdef class ResponseHead(Fields):
    cdef public int status
    cdef public bint plain
    cdef public bytes http_version
    cdef public object content_length
    cdef public bint chunked

    cpdef ResponseHead with_length(self, length)
