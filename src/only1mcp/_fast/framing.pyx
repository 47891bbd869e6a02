# benches/micro/bench_framing.py: a call served 11x, a call made 13x, both with all that surrounds the head.
"""The compiled twin of what `framing_reference` reads: HTTP/1.1 heads that are plain; it declines all others.

What is read here means the same to h11; the tests hold the one against the other. A head is scanned first and made into
objects only when all of it is plain, so that declining costs no allocation.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Check, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_SetItem, PyDict_Size
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF, PyObject
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from only1mcp._fast.http_octets cimport (
    CLASSES, IN_HOST, NOT_PLAIN, TOKENS, is_blank, is_crlf, is_digit, skip_blanks, skip_target, skip_value
)

cdef extern from "Python.h":
    # The reference that it returns is borrowed.
    PyObject* PyDict_SetDefault(object mapping, object key, object default) except NULL

cdef enum:
    # Fewer than the checks around h11 allow: a body of more than that is refused there in any case.
    MAX_LENGTH_DIGITS = 15

cdef tuple NAMES = (
    b"host", b"content-length", b"transfer-encoding", b"connection",
    b"content-encoding", b"expect", b"http2-settings", b"te", b"trailer", b"upgrade",
    b"accept", b"accept-encoding", b"accept-language", b"access-control-allow-origin",
    b"access-control-expose-headers", b"access-control-request-headers", b"access-control-request-method",
    b"authorization", b"baggage", b"cache-control", b"content-type", b"cookie", b"date", b"dnt", b"etag", b"forwarded",
    b"keep-alive", b"last-event-id", b"last-modified", b"mcp-method", b"mcp-name", b"mcp-protocol-version",
    b"mcp-session-id", b"origin", b"pragma", b"priority", b"referer", b"retry-after", b"sec-ch-ua",
    b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"server",
    b"set-cookie", b"strict-transport-security", b"traceparent", b"tracestate", b"user-agent", b"vary", b"via",
    b"www-authenticate", b"x-accel-buffering", b"x-api-key", b"x-content-type-options", b"x-forwarded-for",
    b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-frame-options", b"x-powered-by", b"x-real-ip",
    b"x-request-id",
)
cdef const char* NAME_TEXTS[MAX_NAMES]
cdef Py_ssize_t NAME_LENGTHS[MAX_NAMES]
cdef int8_t PLACES[SLOTS]  # in NAMES, by the hash of the name; the next slot where another name has it

cdef tuple METHODS = (b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS")
cdef bytes CHUNKED = b"chunked"

cdef inline uint32_t hashed(uint32_t hash, uint8_t byte) noexcept:
    return hash * 31 + byte


cdef int fill_tables() except -1:
    cdef bytes name
    cdef int place
    cdef Py_ssize_t i
    cdef uint32_t hash
    assert NAMES[MCP_NAME] == b"mcp-name"
    for place in range(SLOTS):
        PLACES[place] = UNKNOWN
    for place, name in enumerate(NAMES):
        assert place < MAX_NAMES and len(name) <= LONGEST_NAME
        NAME_TEXTS[place] = PyBytes_AS_STRING(name)
        NAME_LENGTHS[place] = len(name)
        hash = 0
        for i in range(len(name)):
            hash = hashed(hash, <uint8_t>name[i])
        while PLACES[hash % SLOTS] != UNKNOWN:
            hash += 1
        PLACES[hash % SLOTS] = <int8_t>place
    return 0


fill_tables()


def read_request(buffer not None, Py_ssize_t max_head_bytes):
    """See `framing_reference.read_request`."""
    cdef Py_ssize_t n
    cdef const uint8_t* p = octets_of(buffer, max_head_bytes, &n)
    cdef int method = method_at(p, n)
    cdef Py_ssize_t target, target_end, end
    cdef Head head
    cdef dict index
    head.response = False
    if method == NOT_PLAIN:
        return None
    target = PyBytes_GET_SIZE(METHODS[method]) + 1
    target_end = skip_target(p, target, n)
    if target_end == NOT_PLAIN or n - target_end < 11 or memcmp(p + target_end, b" HTTP/1.1\r\n", 11) != 0:
        return None
    end = scan_fields(p, target_end + 11, n, &head)
    if end == NOT_PLAIN or not head.has_host:
        return None
    index = {}
    fields = make_fields(p, &head, index)
    return (
        METHODS[method],
        PyBytes_FromStringAndSize(<const char*>p + target, target_end - target),
        fields,
        index,
        None if head.length < 0 else head.length,
        head.chunked,
        head.close,
        end,
    )


def read_response(buffer not None, Py_ssize_t max_head_bytes):
    """See `framing_reference.read_response`."""
    cdef Py_ssize_t n
    cdef const uint8_t* p = octets_of(buffer, max_head_bytes, &n)
    cdef Py_ssize_t end
    cdef int status
    cdef Head head
    cdef dict index
    head.response = True
    if n < 15 or memcmp(p, b"HTTP/1.1 ", 9) != 0 or p[12] != 0x20:
        return None
    if not (is_digit(p[9]) and is_digit(p[10]) and is_digit(p[11])):
        return None
    status = (p[9] - 0x30) * 100 + (p[10] - 0x30) * 10 + (p[11] - 0x30)
    if status < 200 or status > 599 or status == 204 or status == 304:
        return None
    end = skip_value(p, 13, n)
    if not is_crlf(p, end, n):
        return None
    end = scan_fields(p, end + 2, n, &head)
    # Without either, the end of the connection ends the body.
    if end == NOT_PLAIN or head.chunked == (head.length >= 0):
        return None
    index = {}
    fields = make_fields(p, &head, index)
    return status, fields, index, None if head.length < 0 else head.length, head.chunked, head.close, end


cdef const uint8_t* octets_of(object buffer, Py_ssize_t most, Py_ssize_t* size) except NULL:
    if PyByteArray_Check(buffer):
        size[0] = min(PyByteArray_GET_SIZE(buffer), most)
        return <const uint8_t*>PyByteArray_AS_STRING(buffer)
    size[0] = min(PyBytes_GET_SIZE(<bytes?>buffer), most)
    return <const uint8_t*>PyBytes_AS_STRING(<bytes>buffer)


cdef inline int method_at(const uint8_t* p, Py_ssize_t n) noexcept:
    """Return the place in METHODS of the one at the start, NOT_PLAIN for another."""
    if n < 8:
        return NOT_PLAIN
    if memcmp(p, b"POST ", 5) == 0:
        return 1
    if memcmp(p, b"GET ", 4) == 0:
        return 0
    if memcmp(p, b"DELETE ", 7) == 0:
        return 2
    if memcmp(p, b"HEAD ", 5) == 0:
        return 3
    return 4 if memcmp(p, b"OPTIONS ", 8) == 0 else NOT_PLAIN


cdef Py_ssize_t scan_fields(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Head* head) noexcept:
    """Scan the field lines at `i` and the empty line; return where they end, NOT_PLAIN unless all of it is plain."""
    cdef Field* field
    head.count = 0
    head.has_host = head.has_connection = head.close = head.chunked = False
    head.length = -1
    while not is_crlf(p, i, n):
        if head.count == MAX_FIELDS:
            return NOT_PLAIN
        field = &head.fields[head.count]
        head.count += 1
        field.name = i
        field.known = find_name(p, i, n, &field.name_end)
        i = field.name_end
        if i == field.name or i == n or p[i] != c":":
            return NOT_PLAIN
        field.value = i = skip_blanks(p, i + 1, n)
        i = skip_value(p, i, n)
        if not is_crlf(p, i, n):
            return NOT_PLAIN
        field.value_end = i
        while field.value_end > field.value and is_blank(p[field.value_end - 1]):
            field.value_end -= 1
        if UNKNOWN < field.known < FIRST_ORDINARY and not heed(p, head, field):
            return NOT_PLAIN
        i += 2
    return i + 2


cdef inline int find_name(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t* end) noexcept:
    """Find the end of the name at `i`, and return its place in NAMES or UNKNOWN."""
    cdef uint8_t lower[LONGEST_NAME]
    cdef Py_ssize_t length = 0
    cdef uint32_t hash = 0
    cdef uint8_t byte
    cdef int place
    while i < n:
        byte = TOKENS[p[i]]
        if byte == 0:
            break
        if length < LONGEST_NAME:
            lower[length] = byte
        hash = hashed(hash, byte)
        length += 1
        i += 1
    end[0] = i
    if length > LONGEST_NAME:
        return UNKNOWN
    while True:
        place = PLACES[hash % SLOTS]
        if place == UNKNOWN:
            return UNKNOWN
        if NAME_LENGTHS[place] == length and memcmp(NAME_TEXTS[place], lower, <size_t>length) == 0:
            return place
        hash += 1


cdef bint heed(const uint8_t* p, Head* head, Field* field) noexcept:
    """Take in a field that concerns the connection; False when it is there twice or not plain."""
    cdef const uint8_t* value = p + field.value
    cdef Py_ssize_t length = field.value_end - field.value
    if field.known == HOST:
        if head.has_host:
            return False
        head.has_host = True
        return is_plain_host(value, length)
    if field.known == CONTENT_LENGTH:
        if head.length >= 0 or head.chunked:
            return False
        head.length = decimal(value, length)
        return head.length >= 0
    if field.known == TRANSFER_ENCODING:
        if head.length >= 0 or head.chunked:
            return False
        head.chunked = is_word(value, length, b"chunked", 7)
        return head.chunked
    if field.known == CONNECTION:
        if head.has_connection:
            return False
        head.has_connection = True
        head.close = is_word(value, length, b"close", 5)
        return head.close or is_word(value, length, b"keep-alive", 10)
    # A request with a coding is refused; what the body of a response is in, is not a matter of framing.
    return field.known == CONTENT_ENCODING and head.response


cdef int64_t decimal(const uint8_t* text, Py_ssize_t length) noexcept:
    """Return the number that 1 to 15 digits spell, NOT_PLAIN for anything else."""
    cdef int64_t number = 0
    cdef Py_ssize_t i
    if length == 0 or length > MAX_LENGTH_DIGITS:
        return NOT_PLAIN
    for i in range(length):
        if not is_digit(text[i]):
            return NOT_PLAIN
        number = number * 10 + (text[i] - 0x30)
    return number


cdef inline bint is_word(const uint8_t* text, Py_ssize_t length, const char* word, Py_ssize_t word_length) noexcept:
    """Tell whether `text` is the lower-case `word`, in whatever case."""
    cdef Py_ssize_t i
    if length != word_length:
        return False
    for i in range(length):
        if TOKENS[text[i]] != <uint8_t>word[i]:
            return False
    return True


cdef inline bint is_plain_host(const uint8_t* text, Py_ssize_t length) noexcept:
    """Tell whether `text` is a name, an IPv4 address or [::1], with or without a port."""
    cdef Py_ssize_t i = 0
    cdef int64_t port
    if length >= 5 and memcmp(text, b"[::1]", 5) == 0:
        i = 5
    else:
        while i < length and CLASSES[text[i]] & IN_HOST:
            i += 1
        if i == 0:
            return False
    if i == length:
        return True
    if text[i] != c":" or length - i > 6:
        return False
    port = decimal(text + i + 1, length - i - 1)
    return 0 <= port <= 65535


cdef list make_fields(const uint8_t* p, Head* head, dict index):
    """Return the (name, value) pairs, and fill `index` as `framing_reference.index_fields` would."""
    cdef list fields = PyList_New(head.count)
    cdef Py_ssize_t distinct = 0
    cdef Field* field
    cdef int i
    cdef bytes name, value
    cdef tuple pair
    cdef object held
    for i in range(head.count):
        field = &head.fields[i]
        if field.known != UNKNOWN:
            name = <bytes>NAMES[field.known]
        else:
            name = lowered(p + field.name, field.name_end - field.name)
        if field.known == TRANSFER_ENCODING:
            value = CHUNKED
        else:
            value = PyBytes_FromStringAndSize(<const char*>p + field.value, field.value_end - field.value)
        pair = (name, value)
        Py_INCREF(pair)
        PyList_SET_ITEM(fields, i, pair)
        held = <object>PyDict_SetDefault(index, name, value)
        if PyDict_Size(index) > distinct:
            distinct += 1
        elif type(held) is list:
            (<list>held).append(value)
        else:
            PyDict_SetItem(index, name, [held, value])
    return fields


cdef inline bytes lowered(const uint8_t* text, Py_ssize_t length):
    cdef bytes name = PyBytes_FromStringAndSize(NULL, length)
    cdef char* to = PyBytes_AS_STRING(name)
    cdef Py_ssize_t i
    for i in range(length):
        to[i] = <char>TOKENS[text[i]]
    return name
