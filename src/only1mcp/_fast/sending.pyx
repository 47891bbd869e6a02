# benches/micro/bench_framing.py: 4.7x for a response with four fields.
"""The compiled twin of what `framing_reference` writes: HTTP/1.1 messages with plain fields, checked and joined."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from only1mcp._fast.http_octets cimport (
    DIGITS, LENGTH_OCTETS, NOT_PLAIN, TOKENS, is_blank, put, put_length, skip_target, skip_value, spell
)

cdef tuple METHODS = (b"POST", b"GET", b"DELETE", b"HEAD", b"OPTIONS")
# What nobody but the connection sets, and what would make a request unusual to h11. Names in another case than lower
# are not plain anyway.
cdef frozenset FRAMING = frozenset((b"connection", b"content-length", b"transfer-encoding"))
cdef frozenset UNUSUAL = FRAMING | {b"expect", b"te", b"trailer", b"upgrade"}


def write_request(
    bytes method not None, bytes target not None, list headers not None, Py_ssize_t length, bytes body not None
):
    """See `framing_reference.write_request`."""
    cdef Py_ssize_t target_size = PyBytes_GET_SIZE(target)
    cdef Py_ssize_t fields = fields_size(headers, True)
    cdef char digits[DIGITS]
    cdef Py_ssize_t digit_count = spell(digits, length)
    cdef bytes message
    cdef char* to
    if fields == NOT_PLAIN or method not in METHODS:
        return None
    if skip_target(<const uint8_t*>PyBytes_AS_STRING(target), 0, target_size) != target_size:
        return None
    message = PyBytes_FromStringAndSize(
        NULL,
        PyBytes_GET_SIZE(method) + 1 + target_size + 11 + fields + (18 + digit_count if digit_count else 0)
        + 2 + PyBytes_GET_SIZE(body),
    )
    to = put_bytes(PyBytes_AS_STRING(message), method)
    to = put_bytes(put(to, b" ", 1), target)
    to = put_fields(put(to, b" HTTP/1.1\r\n", 11), headers)
    to = put_length(to, digits, digit_count)
    put_bytes(put(to, b"\r\n", 2), body)
    return message


def write_response(
    bytes status_line not None, list headers not None, Py_ssize_t length, bint chunked, bint close, bytes body not None
):
    """See `framing_reference.write_response`."""
    cdef Py_ssize_t fields = fields_size(headers, False)
    cdef char digits[DIGITS]
    cdef Py_ssize_t digit_count = spell(digits, length)
    cdef bytes message
    cdef char* to
    if fields == NOT_PLAIN:
        return None
    message = PyBytes_FromStringAndSize(
        NULL,
        PyBytes_GET_SIZE(status_line) + fields + (19 if close else 0) + (18 + digit_count if digit_count else 0)
        + (28 if chunked else 0) + 2 + PyBytes_GET_SIZE(body),
    )
    to = put_fields(put_bytes(PyBytes_AS_STRING(message), status_line), headers)
    if close:
        to = put(to, b"connection: close\r\n", 19)
    to = put_length(to, digits, digit_count)
    if chunked:
        to = put(to, b"transfer-encoding: chunked\r\n", 28)
    put_bytes(put(to, b"\r\n", 2), body)
    return message


def finish_message(bytes head not None, bytes body not None):
    """See `framing_reference.finish_message`."""
    cdef char digits[DIGITS]
    cdef Py_ssize_t digit_count = spell(digits, PyBytes_GET_SIZE(body))
    cdef bytes message = PyBytes_FromStringAndSize(
        NULL, PyBytes_GET_SIZE(head) + LENGTH_OCTETS + digit_count + PyBytes_GET_SIZE(body)
    )
    cdef char* to = put_length(put_bytes(PyBytes_AS_STRING(message), head), digits, digit_count)
    put_bytes(put(to, b"\r\n", 2), body)
    return message


cdef Py_ssize_t fields_size(list headers, bint request):
    """Return how many octets the field lines take; NOT_PLAIN for what is no field or is the connection's own to set."""
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t length, i
    cdef const uint8_t* p
    cdef bint first = True
    for field in headers:
        if type(field) is not tuple or len(<tuple>field) != 2:
            return NOT_PLAIN
        name, value = <tuple>field
        if not PyBytes_CheckExact(name) or not PyBytes_CheckExact(value):
            return NOT_PLAIN
        # One Host, and it comes first: h11 would move it there.
        if request and (name == b"host") != first or name in (UNUSUAL if request else FRAMING):
            return NOT_PLAIN
        first = False
        length = PyBytes_GET_SIZE(name)
        p = <const uint8_t*>PyBytes_AS_STRING(name)
        if length == 0:
            return NOT_PLAIN
        for i in range(length):
            if p[i] == 0 or TOKENS[p[i]] != p[i]:
                return NOT_PLAIN
        size += length + 4
        length = PyBytes_GET_SIZE(value)
        if length > 0:
            p = <const uint8_t*>PyBytes_AS_STRING(value)
            if skip_value(p, 0, length) != length or is_blank(p[0]) or is_blank(p[length - 1]):
                return NOT_PLAIN
        size += length
    return NOT_PLAIN if request and first else size


cdef inline char* put_bytes(char* to, bytes text) noexcept:
    return put(to, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef char* put_fields(char* to, list headers):
    """Write the field lines, which `fields_size` has checked."""
    for field in headers:
        to = put(put_bytes(to, <bytes>(<tuple>field)[0]), b": ", 2)
        to = put(put_bytes(to, <bytes>(<tuple>field)[1]), b"\r\n", 2)
    return to
