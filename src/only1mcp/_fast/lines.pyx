# benches/micro/bench_lines.py: 23x.
"""The compiled twin of `lines_reference`: log lines whose values are plain."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1

cdef enum:
    MAX_LINE_BYTES = 4096
    DIGITS = 20  # of the largest 64-bit number

cdef double MAX_FLOAT = 1e12


def event_line(
    bytes start not None, tuple names not None, tuple values not None, bytes end not None, bint quoted
):
    """See `lines_reference.event_line`."""
    cdef char line[MAX_LINE_BYTES]
    cdef Py_ssize_t size = put_text(line, 0, PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start))
    cdef Py_ssize_t i
    if len(names) != len(values):
        raise ValueError("expected as many names as values")
    for i in range(len(names)):
        value = values[i]
        if value is None:
            continue
        name = names[i]
        if not PyBytes_CheckExact(name):
            raise TypeError("expected names in bytes")
        size = put_text(line, size, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        size = put_value(line, size, value, quoted)
        if size < 0:
            return None
    size = put_text(line, size, PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end))
    return None if size < 0 else PyBytes_FromStringAndSize(line, size)


cdef Py_ssize_t put_value(char* line, Py_ssize_t size, object value, bint quoted) except? -1:
    """Return the size of the line with `value`, below zero where it is not plain or the line too long."""
    cdef Py_ssize_t length = 0
    cdef const char* text
    cdef long long number
    cdef int overflow = 0
    if PyUnicode_CheckExact(value):
        if not PyUnicode_IS_ASCII(value):
            return -2
        text = PyUnicode_AsUTF8AndSize(value, &length)
        return put_string(line, size, text, length, quoted)
    if PyBytes_CheckExact(value):
        return put_string(line, size, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), quoted)
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        return -2 if overflow != 0 or number < 0 else put_number(line, size, number)
    if PyFloat_CheckExact(value):
        return put_decimals(line, size, PyFloat_AS_DOUBLE(value))
    return -2


cdef Py_ssize_t put_string(char* line, Py_ssize_t size, const char* text, Py_ssize_t length, bint quoted) noexcept:
    cdef Py_ssize_t i
    cdef uint8_t byte
    if quoted:
        for i in range(length):
            byte = <uint8_t>text[i]
            if byte < 0x20 or byte > 0x7E or byte == c'"' or byte == c"\\":
                return -2
        size = put_text(line, size, b'"', 1)
        size = put_text(line, size, text, length)
        return put_text(line, size, b'"', 1)
    if length == 0:
        return -2
    for i in range(length):
        byte = <uint8_t>text[i]
        if byte < 0x21 or byte > 0x7E or byte == c'"' or byte == c"\\" or byte == c"=":
            return -2
    return put_text(line, size, text, length)


cdef Py_ssize_t put_decimals(char* line, Py_ssize_t size, double value) noexcept:
    cdef long long thousandths
    cdef char digits[4]
    cdef int rest
    cdef Py_ssize_t kept = 4
    if not 0 < value < MAX_FLOAT:
        return -2
    thousandths = <long long>(value * 1000 + 0.5)
    if <double>thousandths / 1000 != value:
        return -2
    rest = <int>(thousandths % 1000)
    digits[0] = c"."
    digits[1] = <char>(0x30 + rest // 100)
    digits[2] = <char>(0x30 + rest // 10 % 10)
    digits[3] = <char>(0x30 + rest % 10)
    while kept > 2 and digits[kept - 1] == c"0":
        kept -= 1
    return put_text(line, put_number(line, size, thousandths // 1000), digits, kept)


cdef Py_ssize_t put_number(char* line, Py_ssize_t size, long long number) noexcept:
    cdef char digits[DIGITS]
    cdef Py_ssize_t first = DIGITS
    while number > 0 or first == DIGITS:
        first -= 1
        digits[first] = <char>(0x30 + number % 10)
        number = number // 10
    return put_text(line, size, digits + first, DIGITS - first)


cdef inline Py_ssize_t put_text(char* line, Py_ssize_t size, const char* text, Py_ssize_t length) noexcept:
    if size < 0 or length > MAX_LINE_BYTES - size:
        return -2
    memcpy(line + size, text, <size_t>length)
    return size + length
