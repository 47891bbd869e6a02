"""What may be skipped at once inside a JSON string."""

from libc.stdint cimport uint8_t

from only1mcp._fast.json_walk cimport hex4
from only1mcp._fast.octet_run cimport skip_plain


cdef inline bint is_escape(uint8_t byte) noexcept nogil:
    """Tell whether the octet ends an escape that a backslash has begun."""
    return (
        byte == c"n" or byte == c'"' or byte == c"\\" or byte == c"/"
        or byte == c"t" or byte == c"r" or byte == c"b" or byte == c"f"
    )


cdef inline bint continues(uint8_t byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef inline Py_ssize_t skip_text(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Move over valid text inside a string: to its closing quote, to `n`, or to what must be read octet by octet.

    That is whatever is rare, invalid, or not all there.
    """
    cdef uint8_t byte
    cdef int unit
    while i < n:
        i = skip_plain(p, i, n)
        if i == n:
            break
        byte = p[i]
        if byte == c"\\":
            if n - i < 2:
                break
            if is_escape(p[i + 1]):
                i += 2
                continue
            unit = hex4(p, i + 2, n) if p[i + 1] == c"u" else -1
            if unit < 0 or 0xD800 <= unit <= 0xDFFF:
                break
            i += 6
            continue
        # Characters of two, three and four octets. The corners, where not every continuation is right, are left out.
        if byte < 0xC2:
            break
        while 0xE1 <= byte <= 0xEF and byte != 0xED and n - i >= 3 and continues(p[i + 1]) and continues(p[i + 2]):
            i += 3
            byte = p[i] if i < n else 0
        if 0xC2 <= byte <= 0xDF and n - i >= 2 and continues(p[i + 1]):
            i += 2
        elif (
            0xF1 <= byte <= 0xF3 or (byte == 0xF0 and n - i >= 4 and p[i + 1] >= 0x90)
        ) and n - i >= 4 and continues(p[i + 1]) and continues(p[i + 2]) and continues(p[i + 3]):
            i += 4
        elif byte >= 0x80:
            break
    return i
