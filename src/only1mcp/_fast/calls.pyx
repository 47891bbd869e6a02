# benches/micro/bench_calls.py: a request 129x, an answer 196x.
"""The compiled twin of `calls_reference`: plain calls of tools and their answers, whole HTTP messages in and out."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr, memcmp

from only1mcp._fast.envelope cimport (
    ERROR_MEMBER, ID, JSONRPC, MAX_ID_OCTETS, META, METHOD, NAME, PARAMS, RESULT_MEMBER, URI, Found, Piece, is_message
)
from only1mcp._fast.http_octets cimport DIGITS, LENGTH_OCTETS, put, put_length, spell
from only1mcp._fast.json_walk cimport MAX_DEPTH, is_digit

cdef enum:
    ANSWER_DEPTH = 64  # as `scan` has it


@cython.final
@cython.freelist(64)
cdef class CallText:
    """See `calls_reference.CallText`."""

    def __init__(self):
        raise TypeError("calls come from maybe_call()")

    cpdef bytes id(self):
        return self.text(self._id)

    cpdef bytes name(self):
        return PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self.data) + self._name.start + 1, self._name.end - self._name.start - 2
        )

    cpdef bint names(self, bytes name):
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
        return self._name.end - self._name.start == length + 2 and memcmp(
            PyBytes_AS_STRING(self.data) + self._name.start + 1, PyBytes_AS_STRING(name), <size_t>length
        ) == 0

    cpdef bint named_at(self, Py_ssize_t start, Py_ssize_t end) except -1:
        """See `calls_reference.CallText.named_at`."""
        cdef const char* p = PyBytes_AS_STRING(self.data)
        if not 0 <= start <= end <= PyBytes_GET_SIZE(self.data):
            raise IndexError(f"span {start}:{end} of {PyBytes_GET_SIZE(self.data)} bytes")
        return self._name.end - self._name.start == end - start + 2 and memcmp(
            p + self._name.start + 1, p + start, <size_t>(end - start)
        ) == 0

    cpdef tuple meta_span(self):
        return None if self._meta.start < 0 else (self._meta.start, self._meta.end)

    cpdef bint has_meta(self, bytes text):
        cdef Py_ssize_t length = PyBytes_GET_SIZE(text)
        return self._meta.start >= 0 and self._meta.end - self._meta.start == length and memcmp(
            PyBytes_AS_STRING(self.data) + self._meta.start, PyBytes_AS_STRING(text), <size_t>length
        ) == 0

    cpdef bytes request(self, bytes head, int64_t id, bytes renamed):
        """See `calls_reference.CallText.request`."""
        cdef char digits[DIGITS]
        cdef char id_digits[DIGITS]
        cdef Py_ssize_t id_count = spell(id_digits, id)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data) - self.start + id_count - (self._id.end - self._id.start)
        cdef Py_ssize_t count
        cdef const char* p = PyBytes_AS_STRING(self.data)
        cdef bytes message
        cdef char* to
        cdef Py_ssize_t at = self.start
        if renamed is not None:
            size += PyBytes_GET_SIZE(renamed) - (self._name.end - self._name.start)
        count = spell(digits, size)
        message = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(head) + LENGTH_OCTETS + count + size)
        to = put(PyBytes_AS_STRING(message), PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        to = put(put_length(to, digits, count), b"\r\n", 2)
        if renamed is not None and self._name.start < self._id.start:
            to = put(to, p + at, self._name.start - at)
            to = put(to, PyBytes_AS_STRING(renamed), PyBytes_GET_SIZE(renamed))
            at = self._name.end
        to = put(to, p + at, self._id.start - at)
        to = put(to, id_digits, id_count)
        at = self._id.end
        if renamed is not None and self._name.start > self._id.start:
            to = put(to, p + at, self._name.start - at)
            to = put(to, PyBytes_AS_STRING(renamed), PyBytes_GET_SIZE(renamed))
            at = self._name.end
        put(to, p + at, PyBytes_GET_SIZE(self.data) - at)
        return message

    cpdef bytes answer(self, bytes head, bytes response, Py_ssize_t start, int64_t id, bint typed):
        """See `calls_reference.CallText.answer`."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(response) + start
        cdef Py_ssize_t n = PyBytes_GET_SIZE(response) - start
        cdef char digits[DIGITS]
        cdef Py_ssize_t count = spell(digits, id)
        cdef Found top, inner
        cdef Piece place
        cdef Py_ssize_t id_size = self._id.end - self._id.start
        cdef Py_ssize_t size
        cdef bytes message
        cdef char* to
        if start < 0 or n < 0 or not is_message(p, n, ANSWER_DEPTH, &top, &inner) or top.ambiguous >= 0:
            return None
        place = top.pieces[ID]
        if place.start < 0 or place.end - place.start != count or memcmp(p + place.start, digits, <size_t>count) != 0:
            return None
        if not is_version(p, top.pieces[JSONRPC]) or top.pieces[RESULT_MEMBER].start < 0:
            return None
        if top.pieces[METHOD].start >= 0 or top.pieces[ERROR_MEMBER].start >= 0:
            return None
        if typed and not top.typed:
            return None
        size = n - count + id_size
        count = spell(digits, size)
        message = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(head) + LENGTH_OCTETS + count + size)
        to = put(PyBytes_AS_STRING(message), PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        to = put(put_length(to, digits, count), b"\r\n", 2)
        to = put(to, <const char*>p, place.start)
        to = put(to, PyBytes_AS_STRING(self.data) + self._id.start, id_size)
        put(to, <const char*>p + place.end, n - place.end)
        return message

    cdef bytes text(self, Piece place):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + place.start, place.end - place.start)


cpdef CallText maybe_call(bytes data, Py_ssize_t start, Py_ssize_t max_depth):
    """See `calls_reference.maybe_call`."""
    cdef const uint8_t* p
    cdef Py_ssize_t n
    cdef Found top, inner
    cdef Piece place
    cdef CallText call
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        raise IndexError(f"position {start} of {PyBytes_GET_SIZE(data)} bytes")
    p = <const uint8_t*>PyBytes_AS_STRING(data) + start
    n = PyBytes_GET_SIZE(data) - start
    if not is_message(p, n, min(max_depth, <Py_ssize_t>MAX_DEPTH), &top, &inner):
        return None
    if top.ambiguous >= 0 or inner.ambiguous >= 0 or top.unknown:
        return None
    if top.pieces[RESULT_MEMBER].start >= 0 or top.pieces[ERROR_MEMBER].start >= 0:
        return None
    place = top.pieces[METHOD]
    if place.end - place.start != 12 or memcmp(p + place.start, b'"tools/call"', 12) != 0:
        return None
    if not is_version(p, top.pieces[JSONRPC]) or not is_plain_id(p, top.pieces[ID]):
        return None
    if top.pieces[PARAMS].start < 0 or p[top.pieces[PARAMS].start] != c"{" or not is_plain_name(p, inner.pieces[NAME]):
        return None
    if inner.pieces[URI].start >= 0 and p[inner.pieces[URI].start] != c'"':
        return None
    if not is_plain_meta(p, inner.pieces[META]):
        return None
    call = CallText.__new__(CallText)
    call.data = data
    call.start = start
    call._id = moved(top.pieces[ID], start)
    call._name = moved(inner.pieces[NAME], start)
    call._meta = moved(inner.pieces[META], start)
    return call


cdef inline Piece moved(Piece place, Py_ssize_t by) noexcept nogil:
    if place.start >= 0:
        place.start += by
        place.end += by
    return place


cdef inline bint is_version(const uint8_t* p, Piece place) noexcept nogil:
    return place.end - place.start == 5 and memcmp(p + place.start, b'"2.0"', 5) == 0


cdef inline bint is_plain_id(const uint8_t* p, Piece place) noexcept nogil:
    cdef Py_ssize_t i
    if place.start < 0 or place.end - place.start > MAX_ID_OCTETS:
        return False
    if p[place.start] != c'"':
        for i in range(place.start + (p[place.start] == c"-"), place.end):
            if not is_digit(p[i]):
                return False
    return True


cdef inline bint is_plain_name(const uint8_t* p, Piece place) noexcept nogil:
    """Tell whether it is a string of which every octet stands for itself."""
    cdef Py_ssize_t i
    if place.start < 0 or p[place.start] != c'"':
        return False
    for i in range(place.start + 1, place.end - 1):
        if p[i] < 0x20 or p[i] > 0x7E or p[i] == c"\\":
            return False
    return True


cdef inline bint is_plain_meta(const uint8_t* p, Piece place) noexcept nogil:
    """Tell whether it is absent, or an object that holds no progress token however that is spelled."""
    cdef const uint8_t* at
    cdef const uint8_t* end
    if place.start < 0:
        return True
    if p[place.start] != c"{":
        return False
    at = p + place.start
    end = p + place.end
    if memchr(at, c"\\", <size_t>(end - at)) != NULL:
        return False
    while end - at >= 13:
        at = <const uint8_t*>memchr(at, c"p", <size_t>(end - at - 12))
        if at == NULL:
            return True
        if memcmp(at, b"progressToken", 13) == 0:
            return False
        at += 1
    return True
