from only1mcp.process.logsink cimport Sink


cdef class EventLines:
    cdef object _format
    cdef Sink _sink
    cdef str _level
    cdef str _logger
    cdef str _event
    cdef tuple _names
    cdef bint _quoted
    cdef bytes _before
    cdef bytes _between
    cdef bytes _end
    cdef tuple _encoded
    cdef long long _second
    cdef bytes _until_second
    cdef int _milliseconds
    cdef bytes _start

    cpdef write(self, double created, tuple values)
    cpdef _tick(self, long long second, int milliseconds)
