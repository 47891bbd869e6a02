"""What may be skipped at once inside a JSON string."""

from libc.stdint cimport uint8_t

from only1mcp._fast.json_walk cimport hex4

cdef extern from *:
    """
    #include <string.h>
    #if defined(_MSC_VER)
    #include <intrin.h>
    #endif

    /* A loop of fixed length without branches, which compilers turn into a few vector instructions. As a signed char
       everything beyond ASCII is below 0x20. */
    static inline int only1mcp_is_plain64(const unsigned char *p)
    {
        unsigned char special = 0;
        int k;
        for (k = 0; k < 64; k++)
            special |= (unsigned char)((p[k] == '"') | (p[k] == '\\\\') | ((signed char)p[k] < 0x20));
        return special == 0;
    }

    /* The number of octets from the first on that are plain, of eight. Of the marks only the lowest is sure: what is
       borrowed from an octet above it may mark that one too. */
    static inline int only1mcp_plain_of_8(const unsigned char *p)
    {
    #if (defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) || defined(_M_X64) || defined(_M_ARM64)
        unsigned long long word, marks;
        memcpy(&word, p, 8);
        marks = (word | (word - 0x2020202020202020ULL)
                 | ((word ^ 0x2222222222222222ULL) - 0x0101010101010101ULL)
                 | ((word ^ 0x5C5C5C5C5C5C5C5CULL) - 0x0101010101010101ULL)) & 0x8080808080808080ULL;
        if (marks == 0)
            return 8;
    #if defined(_MSC_VER) && !defined(__clang__)
        unsigned long place;
        _BitScanForward64(&place, marks);
        return (int)(place >> 3);
    #else
        return __builtin_ctzll(marks) >> 3;
    #endif
    #else
        int k = 0;
        while (k < 8 && p[k] >= 0x20 && p[k] < 0x80 && p[k] != '"' && p[k] != '\\\\')
            k++;
        return k;
    #endif
    }
    """
    bint is_plain64 "only1mcp_is_plain64"(const uint8_t* p) noexcept nogil
    int plain_of_8 "only1mcp_plain_of_8"(const uint8_t* p) noexcept nogil


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
    cdef int plain, unit
    while i < n:
        while n - i >= 8:
            plain = plain_of_8(p + i)
            i += plain
            if plain < 8:
                break
            # Where one word is plain the next ones mostly are, in text of any length worth the speed.
            while n - i >= 64 and is_plain64(p + i):
                i += 64
        while i < n and 0x20 <= p[i] < 0x80 and p[i] != c'"' and p[i] != c"\\":
            i += 1
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
