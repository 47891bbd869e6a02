# benches/micro/bench_relay.py: 1000x for a thousand progress messages, of which each costs 0.2 microseconds.
"""The compiled twin of `relay_reference.relay_events`: one pass over the bytes, nothing is decoded."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memcpy

from only1mcp._fast.json_walk cimport is_utf8, next_item, open_container, skip_key, skip_space, skip_value

cdef enum:
    UNFINISHED = -1
    UNUSUAL = -2
    # The depth at which `scan` stops.
    LIMIT = 64
    PREFIX_OCTETS = 21
    SUFFIX_OCTETS = 2

cdef const char* PREFIX = b"event: message\ndata: "

# The members of a message and of the params of either notification; the place in the list is the bit in a set.
cdef enum:
    JSONRPC = 0
    METHOD = 1
    PARAMS = 2
    TOP_KEYS = 3
    TOKEN = 3
    PROGRESS_KEYS = 7
    LOG_KEYS = 10
    META = 10
    KEYS = 11

cdef const char* KEY_TABLE[11]
KEY_TABLE[:] = [
    b'"jsonrpc"', b'"method"', b'"params"',
    b'"progressToken"', b'"progress"', b'"total"', b'"message"',
    b'"level"', b'"logger"', b'"data"',
    b'"_meta"',
]
cdef Py_ssize_t KEY_LENGTHS[11]
KEY_LENGTHS[:] = [9, 8, 8, 15, 10, 7, 9, 7, 8, 6, 7]

cdef struct Piece:
    Py_ssize_t start
    Py_ssize_t end

cdef struct Message:
    bint is_log
    Piece token


def relay_events(bytes data not None, Py_ssize_t position, bytes token not None, bytes replacement, bint logs):
    """See `relay_reference.relay_events`."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t size, end
    cdef bint usual
    cdef Piece value
    cdef Message message = Message(False, Piece(0, 0))
    cdef bytearray out = bytearray()
    cdef Py_ssize_t used = 0
    cdef char* to
    while True:
        end = read_event(p, position, n, &value, &usual)
        if end < 0 or not usual:
            break
        if value.end > value.start:
            if not read_message(p, value.start, value.end, &message):
                break
            if message.is_log:
                if not logs:
                    break
                size = 0
            else:
                size = message.token.end - message.token.start
                if replacement is None or size != PyBytes_GET_SIZE(token):
                    break
                if memcmp(p + message.token.start, PyBytes_AS_STRING(token), <size_t>size) != 0:
                    break
                size = PyBytes_GET_SIZE(replacement)
            size += PREFIX_OCTETS + SUFFIX_OCTETS + value.end - value.start - (message.token.end - message.token.start)
            if used + size > PyByteArray_GET_SIZE(out):
                PyByteArray_Resize(out, max(used + size, 2 * PyByteArray_GET_SIZE(out), n - position))
            to = PyByteArray_AS_STRING(out) + used
            to = put(to, PREFIX, PREFIX_OCTETS)
            to = put(to, <const char*>p + value.start, message.token.start - value.start)
            if not message.is_log:
                to = put(to, PyBytes_AS_STRING(replacement), PyBytes_GET_SIZE(replacement))
            to = put(to, <const char*>p + message.token.end, value.end - message.token.end)
            put(to, b"\n\n", SUFFIX_OCTETS)
            used += size
        position = end
    return position, PyBytes_FromStringAndSize(PyByteArray_AS_STRING(out), used), end


cdef inline char* put(char* to, const char* source, Py_ssize_t size) noexcept nogil:
    memcpy(to, source, <size_t>size)
    return to + size


cdef Py_ssize_t read_event(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Piece* value, bint* usual
) noexcept nogil:
    """Return the end of the event at `i`; `value` is that of its data, `usual` tells whether all its lines are."""
    cdef const uint8_t* found
    cdef Py_ssize_t start, stop
    cdef bint with_data = False
    value.start = value.end = 0
    usual[0] = True
    while True:
        start = i
        found = <const uint8_t*>memchr(p + i, c"\n", <size_t>(n - i)) if i < n else NULL
        stop = found - p if found != NULL else n
        i = stop + 1
        # The CR of CRLF, also where its LF has not come yet; any other ends a line by itself.
        if stop > start and p[stop - 1] == c"\r":
            stop -= 1
        if stop > start and memchr(p + start, c"\r", <size_t>(stop - start)) != NULL:
            return UNUSUAL
        if found == NULL:
            return UNFINISHED
        if stop == start:
            return i
        if stop - start >= 5 and memcmp(p + start, b"data:", 5) == 0:
            if with_data:
                usual[0] = False
            with_data = True
            value.start = start + 5
            if value.start < stop and p[value.start] == c" ":
                value.start += 1
            value.end = stop
        elif not (
            p[start] == c":"
            or (stop - start == 14 and memcmp(p + start, b"event: message", 14) == 0)
            or (stop - start >= 3 and memcmp(p + start, b"id:", 3) == 0)
            or (stop - start >= 6 and memcmp(p + start, b"retry:", 6) == 0)
        ):
            usual[0] = False


cdef bint read_message(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Message* message) noexcept nogil:
    """Tell whether the text is progress or a log message of the plainest form."""
    cdef Py_ssize_t key, start
    cdef Py_ssize_t key_end = i
    cdef Py_ssize_t params = -1
    cdef int place
    cdef int seen = 0
    cdef bint more
    cdef bint in_order = False
    message.is_log = False
    if not is_utf8(p + i, n - i):
        return False
    i = skip_space(p, i, n)
    if i >= n or p[i] != c"{":
        return False
    i = open_container(p, i, n, c"}", &more)
    while more:
        key = i
        i = skip_key(p, i, n, &key_end)
        if i < 0:
            return False
        place = find_key(p, key, key_end, 0, TOP_KEYS)
        if place < 0 or seen & (1 << place):
            return False
        seen |= 1 << place
        start = i
        if place == PARAMS:
            if i >= n or p[i] != c"{":
                return False
            # Walked over where the method comes later: it says what they may hold.
            params = i
            i = read_params(p, i, n, message) if seen & (1 << METHOD) else skip_value(p, i, n, 1, LIMIT)
            in_order = bool(seen & (1 << METHOD))
        else:
            i = skip_value(p, i, n, 1, LIMIT)
        if i < 0:
            return False
        if place == JSONRPC and not (i - start == 5 and memcmp(p + start, b'"2.0"', 5) == 0):
            return False
        if place == METHOD:
            if i - start == 24 and memcmp(p + start, b'"notifications/progress"', 24) == 0:
                message.is_log = False
            elif i - start == 23 and memcmp(p + start, b'"notifications/message"', 23) == 0:
                message.is_log = True
            else:
                return False
        i = next_item(p, i, n, c"}", &more)
        if i < 0:
            return False
    if skip_space(p, i, n) != n or seen != (1 << TOP_KEYS) - 1:
        return False
    return in_order or read_params(p, params, n, message) > 0


cdef Py_ssize_t read_params(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Message* message) noexcept nogil:
    """Move past the object at `i`; below zero when it is broken or not what the method says."""
    cdef Py_ssize_t key, start
    cdef Py_ssize_t key_end = i
    cdef int first = PROGRESS_KEYS if message.is_log else TOP_KEYS
    cdef int last = LOG_KEYS if message.is_log else PROGRESS_KEYS
    cdef int place
    cdef int seen = 0
    cdef bint more
    # Of a log message, where nothing is replaced.
    message.token.start = message.token.end = n
    i = open_container(p, i, n, c"}", &more)
    while more:
        key = i
        i = skip_key(p, i, n, &key_end)
        if i < 0:
            return -1
        place = find_key(p, key, key_end, first, last)
        if place < 0:
            place = find_key(p, key, key_end, META, KEYS)
        if place < 0 or seen & (1 << place) or (place == META and (i >= n or p[i] != c"{")):
            return -1
        seen |= 1 << place
        start = i
        i = skip_value(p, i, n, 2, LIMIT)
        if i < 0:
            return -1
        if place == TOKEN:
            message.token.start = start
            message.token.end = i
        i = next_item(p, i, n, c"}", &more)
        if i < 0:
            return -1
    return i if message.is_log or seen & (1 << TOKEN) else -1


cdef inline int find_key(const uint8_t* p, Py_ssize_t i, Py_ssize_t end, int first, int last) noexcept nogil:
    """Return the place in the table of the key at `i:end`, quotes included, -1 for another."""
    cdef int place
    for place in range(first, last):
        if end - i == KEY_LENGTHS[place] and memcmp(p + i, KEY_TABLE[place], <size_t>(end - i)) == 0:
            return place
    return -1
