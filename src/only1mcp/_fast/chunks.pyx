# benches/micro/bench_framing.py: 160x for a million chunks of one octet.
"""The compiled twin of `framing_reference.read_chunks`: the chunks that are whole, in one pass over the bytes."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.stdint cimport uint8_t, uint64_t

from only1mcp._fast.http_octets cimport (
    CLASSES, IN_VALUE, NOT_PLAIN, is_crlf, is_digit, put, skip_blanks, skip_token
)

cdef enum:
    MAX_SIZE_DIGITS = 16
    MAX_LINE = 4096
    # Octets of a chunk line, its CRLF included, that do not count as extension.
    FREE_LINE = 18


def read_chunks(
    bytearray buffer not None, Py_ssize_t position, bytearray data not None, Py_ssize_t room, Py_ssize_t extension_room
):
    """See `framing_reference.read_chunks`."""
    cdef Py_ssize_t n = PyByteArray_GET_SIZE(buffer)
    cdef Py_ssize_t held = PyByteArray_GET_SIZE(data)
    cdef Py_ssize_t extensions = 0
    cdef const uint8_t* p
    cdef char* to
    cdef Py_ssize_t start, end, extension
    cdef uint64_t size
    if buffer is data or position < 0 or position > n:
        raise ValueError("expected a position in the buffer, and another bytearray for the data")
    # A chunk is never shorter than its data, so that there is room for all of them.
    PyByteArray_Resize(data, held + n - position)
    p = <const uint8_t*>PyByteArray_AS_STRING(buffer)
    to = PyByteArray_AS_STRING(data) + held
    while True:
        start = skip_line(p, position, min(n, position + MAX_LINE), &size)
        if start == NOT_PLAIN or size == 0 or size > <uint64_t>room or size > <uint64_t>(n - start):
            break
        end = start + <Py_ssize_t>size
        extension = max(0, start - position - FREE_LINE)
        if not is_crlf(p, end, n) or extension > extension_room - extensions:
            break
        extensions += extension
        to = put(to, <const char*>p + start, end - start)
        room -= end - start
        position = end + 2
    PyByteArray_Resize(data, to - PyByteArray_AS_STRING(data))
    return position, extensions


cdef inline Py_ssize_t skip_line(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, uint64_t* size) noexcept:
    """Move past the chunk line at `i`; NOT_PLAIN unless it is there, whole and right."""
    cdef Py_ssize_t start = i
    cdef uint64_t number = 0
    cdef uint8_t byte
    while i < n and i - start <= MAX_SIZE_DIGITS:
        byte = p[i]
        if is_digit(byte):
            number = number * 16 + <uint64_t>(byte - 0x30)
        else:
            byte |= 0x20
            if not c"a" <= byte <= c"f":
                break
            number = number * 16 + <uint64_t>(byte - 0x61 + 10)
        i += 1
    size[0] = number
    if i == start or i - start > MAX_SIZE_DIGITS:
        return NOT_PLAIN
    while i < n and p[i] == c";":
        i = skip_extension(p, i + 1, n)
        if i == NOT_PLAIN:
            return NOT_PLAIN
    return i + 2 if is_crlf(p, i, n) else NOT_PLAIN


cdef Py_ssize_t skip_extension(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    """Move past a name and perhaps its value (RFC 9112 section 7.1.1), with blanks before each of them."""
    cdef Py_ssize_t start = skip_blanks(p, i, n)
    cdef Py_ssize_t end = skip_token(p, start, n)
    if end == start:
        return NOT_PLAIN
    i = skip_blanks(p, end, n)
    if i == n or p[i] != c"=":
        return end
    start = skip_blanks(p, i + 1, n)
    if start < n and p[start] == c'"':
        return skip_quoted(p, start + 1, n)
    end = skip_token(p, start, n)
    return NOT_PLAIN if end == start else end


cdef inline Py_ssize_t skip_quoted(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    while i < n and p[i] != c'"':
        if p[i] == c"\\":
            i += 1
            if i == n:
                return NOT_PLAIN
        if p[i] < 0x80 and not CLASSES[p[i]] & IN_VALUE:
            return NOT_PLAIN
        i += 1
    return i + 1 if i < n else NOT_PLAIN
