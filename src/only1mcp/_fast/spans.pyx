# benches/micro/bench_spans.py: pick 28x, splice 13x, says 41x.
"""The compiled twins of `spans_reference`: values looked up in, read from and put into JSON whose spans are known."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memcpy

from only1mcp._fast.json_walk cimport BROKEN, MAX_DEPTH, next_item, open_container, skip_key, skip_space, skip_value

import orjson

from only1mcp._fast.envelope import members
from only1mcp._fast.spans_reference import splice as splice_any

cdef enum:
    # Members that are compared with each other, and edits that are sorted; more is done the general way.
    FEW = 16

cdef struct Key:
    Py_ssize_t start
    Py_ssize_t length

cdef struct Edit:
    Py_ssize_t start
    Py_ssize_t end
    const char* text
    Py_ssize_t length


def pick(bytes data not None, tuple span not None, tuple names not None):
    """See `spans_reference.pick`."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t start = span[0]
    cdef Py_ssize_t end = span[1]
    cdef Py_ssize_t i, key_end
    cdef Key keys[FEW]
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t k
    cdef bint more
    cdef list found = [None] * len(names)
    cdef bytes name
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data):
        raise IndexError(f"span {start}:{end} of {PyBytes_GET_SIZE(data)} bytes")
    i = skip_space(p, start, end)
    if i == end or p[i] != c"{":
        return pick_any(data, span, names)
    i = open_container(p, i, end, c"}", &more)
    while more:
        if count == FEW:
            return pick_any(data, span, names)
        keys[count].start = i + 1
        i = skip_key(p, i, end, &key_end)
        if i == BROKEN:
            return pick_any(data, span, names)
        keys[count].length = key_end - 1 - keys[count].start
        if has_escape(p, &keys[count]):
            return pick_any(data, span, names)
        for k in range(count):
            if is_same(p, &keys[k], &keys[count]):
                return pick_any(data, span, names)
        start = i
        i = skip_value(p, i, end, 1, MAX_DEPTH)
        if i < 0:
            return pick_any(data, span, names)
        for k in range(len(names)):
            name = <bytes?>names[k]
            if PyBytes_GET_SIZE(name) == keys[count].length and memcmp(
                PyBytes_AS_STRING(name), p + keys[count].start, <size_t>keys[count].length
            ) == 0:
                found[k] = (start, i)
        count += 1
        i = next_item(p, i, end, c"}", &more)
        if i == BROKEN:
            return pick_any(data, span, names)
    if skip_space(p, i, end) != end:
        return pick_any(data, span, names)
    return found


def splice(bytes data not None, edits):
    """See `spans_reference.splice`."""
    cdef Edit sorted_edits[FEW]
    cdef Edit edit
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t k
    cdef bytes made
    cdef char* to
    cdef const char* whole = PyBytes_AS_STRING(data)
    # Held here, so that no text goes away before it is copied.
    cdef tuple held = tuple(edits)
    if len(held) > FEW:
        return splice_any(data, held)
    for item in held:
        edit.start, edit.end, text = <tuple?>item
        if not PyBytes_CheckExact(text) or not 0 <= edit.start <= edit.end <= size:
            return splice_any(data, held)
        edit.text = PyBytes_AS_STRING(<bytes>text)
        edit.length = PyBytes_GET_SIZE(<bytes>text)
        k = count
        while k > 0 and sorted_edits[k - 1].start > edit.start:
            sorted_edits[k] = sorted_edits[k - 1]
            k -= 1
        if k > 0 and sorted_edits[k - 1].start == edit.start:
            return splice_any(data, held)
        sorted_edits[k] = edit
        count += 1
    for k in range(count):
        if sorted_edits[k].start < position:
            return splice_any(data, held)
        position = sorted_edits[k].end
        size += sorted_edits[k].length - (sorted_edits[k].end - sorted_edits[k].start)
    made = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(made)
    position = 0
    for k in range(count):
        to = put(to, whole + position, sorted_edits[k].start - position)
        to = put(to, sorted_edits[k].text, sorted_edits[k].length)
        position = sorted_edits[k].end
    put(to, whole + position, PyBytes_GET_SIZE(data) - position)
    return made


def says(bytes data not None, tuple span not None, bytes text not None):
    """See `spans_reference.says`."""
    cdef Py_ssize_t start = span[0]
    cdef Py_ssize_t end = span[1]
    cdef Py_ssize_t length = PyBytes_GET_SIZE(text)
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef const uint8_t* q = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef Py_ssize_t i
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data) or end - start != length + 2 or p[start] != c'"':
        return False
    for i in range(length):
        if q[i] < 0x20 or q[i] > 0x7E or q[i] == c"\\" or q[i] == c'"':
            return False
    return memcmp(p + start + 1, q, <size_t>length) == 0 and p[end - 1] == c'"'


def string_at(bytes data not None, tuple span not None):
    """See `spans_reference.string_at`."""
    cdef Py_ssize_t start = span[0]
    cdef Py_ssize_t end = span[1]
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t i
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data) or end - start < 2 or p[start] != c'"' or p[end - 1] != c'"':
        return orjson.loads(data[start:end])
    for i in range(start + 1, end - 1):
        if p[i] < 0x20 or p[i] > 0x7E or p[i] == c"\\" or p[i] == c'"':
            return orjson.loads(data[start:end])
    return PyUnicode_DecodeUTF8(<const char*>p + start + 1, end - start - 2, NULL)


def mentions(bytes data not None, tuple span not None, bytes word not None):
    """See `spans_reference.mentions`."""
    cdef Py_ssize_t start = span[0]
    cdef Py_ssize_t end = span[1]
    cdef Py_ssize_t length = PyBytes_GET_SIZE(word)
    cdef const char* p = PyBytes_AS_STRING(data)
    cdef const char* w = PyBytes_AS_STRING(word)
    cdef const char* at
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data):
        raise IndexError(f"span {start}:{end} of {PyBytes_GET_SIZE(data)} bytes")
    if length == 0 or memchr(p + start, c"\\", <size_t>(end - start)) != NULL:
        return True
    while end - start >= length:
        at = <const char*>memchr(p + start, w[0], <size_t>(end - start - length + 1))
        if at == NULL:
            return False
        if memcmp(at, w, <size_t>length) == 0:
            return True
        start = at - p + 1
    return False


cdef inline char* put(char* to, const char* text, Py_ssize_t length) noexcept:
    memcpy(to, text, <size_t>length)
    return to + length


cdef inline bint has_escape(const uint8_t* p, Key* key) noexcept nogil:
    return memchr(p + key.start, c"\\", <size_t>key.length) != NULL


cdef inline bint is_same(const uint8_t* p, Key* one, Key* other) noexcept nogil:
    return one.length == other.length and memcmp(p + one.start, p + other.start, <size_t>one.length) == 0


cdef list pick_any(bytes data, tuple span, tuple names):
    cdef dict found = members(data, span[0], span[1])
    return [found.get(name.decode()) for name in names]
