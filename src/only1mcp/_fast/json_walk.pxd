"""Walks over JSON (RFC 8259) in memory without decoding it: what `envelope.pyx` is made of.

Nothing here recurses, and no function reads at or beyond `n`. A position below zero is a verdict.
What is accepted is what orjson accepts; the grammar is easier to read in the plain-Python twin, json_walk.py.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from only1mcp._fast.octet_run cimport is_ascii64, skip_unescaped

cdef enum:
    BROKEN = -1
    TOO_DEEP = -2
    # JSON by its grammar, but no value that orjson or we could pass on: they have reasons of their own.
    LONE_SURROGATE = -3
    TOO_LARGE = -4
    MAX_DEPTH = 1024
    MAX_MEMBERS = 16384
    LEAST_INFINITE_DIGITS = 309

cdef extern from *:
    """
    /* The least integer that rounds to infinity as a double: 2**1024 - 2**970. */
    static const char ONLY1MCP_LEAST_INFINITE[] =
        "1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070963"
        "3028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027"
        "0069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904174497792";
    """
    const char* LEAST_INFINITE "ONLY1MCP_LEAST_INFINITE"


cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return 0x30 <= byte <= 0x39


cdef inline int hex4(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Return the value of the four hexadecimal digits at `i`, -1 when they are not there."""
    cdef int value = 0
    cdef int k
    cdef uint8_t byte
    if n - i < 4:
        return -1
    for k in range(4):
        byte = p[i + k]
        if is_digit(byte):
            value = value * 16 + (byte - 0x30)
        else:
            byte |= 0x20
            if not c"a" <= byte <= c"f":
                return -1
            value = value * 16 + (byte - 0x61 + 10)
    return value


cdef inline Py_ssize_t skip_space(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    while i < n and p[i] <= 0x20 and (p[i] == 0x20 or p[i] == 0x0A or p[i] == 0x0D or p[i] == 0x09):
        i += 1
    return i


cdef inline Py_ssize_t skip_literal(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, const char* text, Py_ssize_t length
) noexcept nogil:
    return i + length if n - i >= length and memcmp(p + i, text, <size_t>length) == 0 else BROKEN


cdef inline Py_ssize_t skip_digits(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    while i < n and is_digit(p[i]):
        i += 1
    return i


cdef inline bint is_infinite(
    const uint8_t* p, Py_ssize_t whole, Py_ssize_t point, Py_ssize_t end, int64_t exponent
) noexcept nogil:
    """Tell whether the digits at `whole:point` and behind the point, times 10**exponent, are too much for a double."""
    cdef Py_ssize_t i = whole
    cdef int64_t magnitude  # digits before the decimal point once the exponent is applied
    cdef Py_ssize_t k
    cdef uint8_t digit
    if p[whole] != c"0":
        magnitude = point - whole
    else:
        i = point + 1
        while i < end and p[i] == c"0":
            i += 1
        if i >= end:
            return False
        magnitude = point + 1 - i
    magnitude += exponent
    if magnitude != LEAST_INFINITE_DIGITS:
        return magnitude > LEAST_INFINITE_DIGITS
    for k in range(LEAST_INFINITE_DIGITS):
        if i == point:
            i += 1
        digit = p[i] if i < end else c"0"
        if digit != <uint8_t>LEAST_INFINITE[k]:
            return digit > <uint8_t>LEAST_INFINITE[k]
        i += 1
    return True


cdef inline Py_ssize_t skip_number(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Move past the number at `i`, which starts with a minus or a digit."""
    cdef Py_ssize_t whole, point, fraction_end
    cdef int64_t exponent = 0
    cdef bint negative = False
    if p[i] == c"-":
        i += 1
    whole = i
    point = i = skip_digits(p, i, n)
    if point == whole or (p[whole] == c"0" and point - whole > 1):
        return BROKEN
    if i < n and p[i] == c".":
        i = skip_digits(p, i + 1, n)
        if i == point + 1:
            return BROKEN
    fraction_end = i
    if i < n and (p[i] | 0x20) == c"e":
        i += 1
        if i < n and (p[i] == c"+" or p[i] == c"-"):
            negative = p[i] == c"-"
            i += 1
        if i >= n or not is_digit(p[i]):
            return BROKEN
        while i < n and is_digit(p[i]):
            # Beyond this no length of digits before it makes a difference.
            if exponent < 1000000000000000LL:
                exponent = exponent * 10 + (p[i] - 0x30)
            i += 1
    elif point - whole < LEAST_INFINITE_DIGITS:
        return i
    if negative:
        exponent = -exponent
    return TOO_LARGE if is_infinite(p, whole, point, fraction_end, exponent) else i


cdef inline Py_ssize_t skip_string(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Move past the string whose opening quote is at `i`."""
    cdef uint8_t byte
    cdef int unit
    i += 1
    while True:
        i = skip_unescaped(p, i, n)
        if i < n and p[i] == c'"':
            return i + 1
        if n - i < 2 or p[i] != c"\\":
            return BROKEN
        byte = p[i + 1]
        i += 2
        if byte == c"u":
            unit = hex4(p, i, n)
            i += 4
            if unit < 0:
                return BROKEN
            if 0xDC00 <= unit <= 0xDFFF:
                return LONE_SURROGATE
            if 0xD800 <= unit <= 0xDBFF:
                if n - i < 6 or p[i] != c"\\" or p[i + 1] != c"u":
                    return LONE_SURROGATE
                unit = hex4(p, i + 2, n)
                if unit < 0xDC00 or unit > 0xDFFF:
                    return LONE_SURROGATE
                i += 6
        elif (
            byte != c'"' and byte != c"\\" and byte != c"/" and byte != c"b"
            and byte != c"f" and byte != c"n" and byte != c"r" and byte != c"t"
        ):
            return BROKEN


cdef inline Py_ssize_t skip_key(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t* key_end) noexcept nogil:
    """Move past a key and its colon to the value."""
    if i >= n or p[i] != c'"':
        return BROKEN
    i = skip_string(p, i, n)
    if i < 0:
        return i
    key_end[0] = i
    i = skip_space(p, i, n)
    if i >= n or p[i] != c":":
        return BROKEN
    return skip_space(p, i + 1, n)


cdef inline Py_ssize_t open_container(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, uint8_t closer, bint* more
) noexcept nogil:
    """Enter the container at `i`; `more` tells whether it has a first item, an empty one is left again."""
    i = skip_space(p, i + 1, n)
    more[0] = i >= n or p[i] != closer
    return i if more[0] else i + 1


cdef inline Py_ssize_t next_item(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, uint8_t closer, bint* more
) noexcept nogil:
    """Move past the comma after an item, or past the closer; `more` tells which."""
    i = skip_space(p, i, n)
    if i >= n:
        return BROKEN
    more[0] = p[i] == c","
    if more[0]:
        return skip_space(p, i + 1, n)
    return i + 1 if p[i] == closer else BROKEN


cdef inline Py_ssize_t skip_value(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t depth, Py_ssize_t limit
) noexcept nogil:
    """Move past the value at `i`, which lies in `depth` containers."""
    cdef uint8_t closers[MAX_DEPTH]
    cdef Py_ssize_t open_count = 0
    cdef Py_ssize_t key_end
    cdef uint8_t byte
    cdef bint more
    while True:
        if i >= n:
            return BROKEN
        byte = p[i]
        if byte == c'"':
            i = skip_string(p, i, n)
        elif byte == c"{" or byte == c"[":
            if depth + open_count >= limit:
                return TOO_DEEP
            byte += 2  # the closer of either
            i = open_container(p, i, n, byte, &more)
            if more:
                closers[open_count] = byte
                open_count += 1
                if byte == c"}":
                    i = skip_key(p, i, n, &key_end)
                    if i < 0:
                        return i
                continue
        elif byte == c"-" or is_digit(byte):
            i = skip_number(p, i, n)
        elif byte == c"t":
            i = skip_literal(p, i, n, b"true", 4)
        elif byte == c"f":
            i = skip_literal(p, i, n, b"false", 5)
        elif byte == c"n":
            i = skip_literal(p, i, n, b"null", 4)
        else:
            return BROKEN
        if i < 0:
            return i
        more = False
        while open_count and not more:
            byte = closers[open_count - 1]
            i = next_item(p, i, n, byte, &more)
            if i < 0:
                return i
            if not more:
                open_count -= 1
            elif byte == c"}":
                i = skip_key(p, i, n, &key_end)
                if i < 0:
                    return i
        if not more:
            return i


cdef inline Py_ssize_t skip_object(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t depth, Py_ssize_t limit,
    const char* token, Py_ssize_t length, bint* has
) noexcept nogil:
    """Move past the object at `i`, setting `has` where one of its keys is written as `token`."""
    cdef Py_ssize_t key_start, key_end
    cdef bint more
    if depth >= limit:
        return TOO_DEEP
    i = open_container(p, i, n, c"}", &more)
    while more:
        key_start = i
        i = skip_key(p, i, n, &key_end)
        if i < 0:
            return i
        if key_end - key_start == length and memcmp(p + key_start, token, <size_t>length) == 0:
            has[0] = True
        i = skip_value(p, i, n, depth + 1, limit)
        if i < 0:
            return i
        i = next_item(p, i, n, c"}", &more)
        if i < 0:
            return i
    return i


cdef inline bint is_utf8(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Check RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF."""
    cdef Py_ssize_t i = 0
    cdef uint64_t word
    cdef uint8_t byte, low, high
    cdef int following
    while i < n:
        while n - i >= 64 and is_ascii64(p + i):
            i += 64
        while n - i >= 8:
            memcpy(&word, p + i, 8)
            if word & 0x8080808080808080ULL:
                break
            i += 8
        if i >= n:
            break
        byte = p[i]
        i += 1
        if byte < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= byte <= 0xDF:
            following = 1
        elif 0xE0 <= byte <= 0xEF:
            following = 2
            if byte == 0xE0:
                low = 0xA0
            elif byte == 0xED:
                high = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            following = 3
            if byte == 0xF0:
                low = 0x90
            elif byte == 0xF4:
                high = 0x8F
        else:
            return False
        if n - i < following or p[i] < low or p[i] > high:
            return False
        if following > 1 and not 0x80 <= p[i + 1] <= 0xBF:
            return False
        if following > 2 and not 0x80 <= p[i + 2] <= 0xBF:
            return False
        i += following
    return True
