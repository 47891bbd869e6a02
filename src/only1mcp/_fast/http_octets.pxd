"""Walks over the octets of HTTP/1.1 (RFC 9110 section 5, RFC 9112): what framing, sending and chunks are made of.

No function reads at or beyond `n`. A position below zero, NOT_PLAIN, leaves the message to the readers around h11.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    NOT_PLAIN = -1
    # What an octet may be part of.
    IN_TARGET = 1
    IN_VALUE = 2
    IN_HOST = 4
    MAX_TARGET = 8000
    DIGITS = 20  # of the largest 64-bit number
    LENGTH_OCTETS = 20  # of the Content-Length field and the empty line but for the digits

cdef extern from *:
    """
    /* Of IN_TARGET, IN_VALUE and IN_HOST, whatever holds; nothing does beyond ASCII. */
    static const unsigned char ONLY1MCP_CLASSES[256] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        2, 3, 2, 2, 3, 2, 3, 3, 3, 3, 3, 3, 3, 7, 7, 3,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 3, 3, 2, 3, 2, 2,
        3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2, 2, 2, 2, 7,
        2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2, 2, 2, 7, 0
    };
    /* An octet of a token in lower case, 0 for what no token holds. */
    static const unsigned char ONLY1MCP_TOKENS[256] = {
          0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
          0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
          0,  33,   0,  35,  36,  37,  38,  39,   0,   0,  42,  43,   0,  45,  46,   0,
         48,  49,  50,  51,  52,  53,  54,  55,  56,  57,   0,   0,   0,   0,   0,   0,
          0,  97,  98,  99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
        112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122,   0,   0,   0,  94,  95,
         96,  97,  98,  99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
        112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122,   0, 124,   0, 126,   0
    };
    """
    const uint8_t* CLASSES "ONLY1MCP_CLASSES"
    const uint8_t* TOKENS "ONLY1MCP_TOKENS"


cdef inline bint is_digit(uint8_t byte) noexcept:
    return 0x30 <= byte <= 0x39


cdef inline bint is_crlf(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    return n - i >= 2 and p[i] == 0x0D and p[i + 1] == 0x0A


cdef inline bint is_blank(uint8_t byte) noexcept:
    return byte == 0x20 or byte == 0x09


cdef inline Py_ssize_t skip_blanks(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    while i < n and is_blank(p[i]):
        i += 1
    return i


cdef inline Py_ssize_t skip_token(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    while i < n and TOKENS[p[i]]:
        i += 1
    return i


cdef inline Py_ssize_t skip_value(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    """Move past visible ASCII, blanks and tabs."""
    cdef uint64_t word
    while n - i >= 8:
        memcpy(&word, p + i, 8)
        # Below 0x20, above 0x7E: then the octets are looked at one by one.
        if ((word - 0x2020202020202020ULL) | (word + 0x0101010101010101ULL) | word) & 0x8080808080808080ULL:
            break
        i += 8
    while i < n and CLASSES[p[i]] & IN_VALUE:
        i += 1
    return i


cdef inline Py_ssize_t skip_target(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    """Move past the target at `i`: a path without percent-encoding, and perhaps a query, which may have it."""
    cdef Py_ssize_t start = i
    if i == n or p[i] != c"/":
        return NOT_PLAIN
    while i < n and CLASSES[p[i]] & IN_TARGET:
        i += 1
    if i < n and p[i] == c"?":
        while i < n and (CLASSES[p[i]] & IN_TARGET or p[i] == c"?" or p[i] == c"%"):
            i += 1
    return i if i - start <= MAX_TARGET else NOT_PLAIN


cdef inline char* put(char* to, const char* text, Py_ssize_t length) noexcept:
    memcpy(to, text, <size_t>length)
    return to + length


cdef inline Py_ssize_t spell(char* digits, int64_t number) noexcept:
    """Write `number` in decimal digits and return how many they are, 0 for a negative one."""
    cdef char backwards[DIGITS]
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t i
    if number < 0:
        return 0
    while number > 0 or count == 0:
        backwards[count] = <char>(0x30 + number % 10)
        number = number // 10
        count += 1
    for i in range(count):
        digits[i] = backwards[count - 1 - i]
    return count


cdef inline char* put_length(char* to, const char* digits, Py_ssize_t digit_count) noexcept:
    """Write the Content-Length field."""
    if digit_count == 0:
        return to
    return put(put(put(to, b"content-length: ", 16), digits, digit_count), b"\r\n", 2)
