# benches/micro/bench_framing.py: a head that comes again is known in a hundredth of the time it takes to read it.
"""The compiled twin of `framing_reference.KnownHead`."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from only1mcp._fast.framing cimport CONTENT_LENGTH, MCP_NAME, Head, decimal, scan_fields
from only1mcp._fast.http_octets cimport NOT_PLAIN, is_crlf, is_digit


@cython.final
cdef class KnownHead:
    """See `framing_reference.KnownHead`."""

    def __init__(self, bytes octets not None):
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(octets)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(octets)
        cdef Py_ssize_t i = 0
        cdef Head head
        head.response = True  # it may say more than a request
        while i < n and not is_crlf(p, i, n):
            i += 1
        if i == n or scan_fields(p, i + 2, n, &head) != n or head.length < 0:
            raise ValueError("expected a plain head with a Content-Length")
        self._name = -1
        for i in range(head.count):
            if head.fields[i].known == CONTENT_LENGTH:
                self._digits = head.fields[i].value
                self._digits_end = head.fields[i].value_end
            elif head.fields[i].known == MCP_NAME:
                self._name = head.fields[i].value
                self._name_end = head.fields[i].value_end
        self._octets = octets
        self.length = head.length

    cpdef Py_ssize_t matches(self, bytes data):
        """See `framing_reference.KnownHead`."""
        cdef const char* p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t known = PyBytes_GET_SIZE(self._octets)
        cdef Py_ssize_t i
        if not self.same(p, 0, n, 0, self._digits):
            return NOT_PLAIN
        i = self.pass_length(p, self._digits, n)
        if i == NOT_PLAIN or not self.same(p, i, n, self._digits_end, known):
            return NOT_PLAIN
        return i + known - self._digits_end

    cpdef Py_ssize_t matches_but_name(self, bytes data):
        """See `framing_reference.KnownHead`."""
        cdef const char* p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t known = PyBytes_GET_SIZE(self._octets)
        cdef bint name_first = self._name < self._digits
        # The end of the first hole, and both ends of the second one.
        cdef Py_ssize_t first_end, second, second_end, i
        self.name_start = self.name_end = 0
        if self._name < 0:
            return self.matches(data)
        first_end = self._name_end if name_first else self._digits_end
        second = self._digits if name_first else self._name
        second_end = self._digits_end if name_first else self._name_end
        i = self._name if name_first else self._digits
        if not self.same(p, 0, n, 0, i):
            return NOT_PLAIN
        i = self.pass_name(p, i, n) if name_first else self.pass_length(p, i, n)
        if i == NOT_PLAIN or not self.same(p, i, n, first_end, second):
            return NOT_PLAIN
        i += second - first_end
        i = self.pass_length(p, i, n) if name_first else self.pass_name(p, i, n)
        if i == NOT_PLAIN or not self.same(p, i, n, second_end, known):
            return NOT_PLAIN
        return i + known - second_end

    cdef Py_ssize_t pass_length(self, const char* p, Py_ssize_t i, Py_ssize_t n) noexcept:
        """Move past the digits at `i`, noting what they say."""
        cdef Py_ssize_t start = i
        # What follows the digits is no digit, so they end where it begins.
        while i < n and is_digit(<uint8_t>p[i]):
            i += 1
        self.length = decimal(<const uint8_t*>p + start, i - start)
        return NOT_PLAIN if self.length < 0 else i

    cdef Py_ssize_t pass_name(self, const char* p, Py_ssize_t i, Py_ssize_t n) noexcept:
        """Move past the value at `i`, noting where it is; NOT_PLAIN for one that may stand for another."""
        self.name_start = i
        while i < n and c"!" <= p[i] <= c"~":
            i += 1
        self.name_end = i
        if i == self.name_start or (p[self.name_start] == c"=" and i - self.name_start > 1):
            return NOT_PLAIN
        return i

    cdef bint same(self, const char* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t start, Py_ssize_t end) noexcept:
        """Tell whether what is at `i` is what is known from `start` to `end`."""
        cdef const char* known = PyBytes_AS_STRING(self._octets)
        return n - i >= end - start and memcmp(p + i, known + start, <size_t>(end - start)) == 0
