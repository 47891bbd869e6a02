"""How many octets need no look of their own: of a JSON string, and of ASCII. Eight or sixty-four are judged at once."""

from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #include <string.h>
    #if defined(_MSC_VER)
    #include <intrin.h>
    #endif

    #define ONLY1MCP_HIGH_BITS 0x8080808080808080ULL
    #define ONLY1MCP_OF_EACH(octet) (0x0101010101010101ULL * (octet))

    #if (defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) || defined(_M_X64) || defined(_M_ARM64)
    #define ONLY1MCP_BY_WORDS 1
    /* The octets before the lowest mark, of eight. */
    static inline int only1mcp_before_mark(unsigned long long marks)
    {
        if (marks == 0)
            return 8;
    #if defined(_MSC_VER) && !defined(__clang__)
        {
            unsigned long place;
            _BitScanForward64(&place, marks);
            return (int)(place >> 3);
        }
    #else
        return __builtin_ctzll(marks) >> 3;
    #endif
    }

    /* Marks quotes, backslashes and control characters, and for some of the octets beyond ASCII their own high bit. Of
       the marks on others only the lowest is sure: what is borrowed from an octet above it may mark that one too. */
    static inline unsigned long long only1mcp_marks(unsigned long long word)
    {
        return (word - ONLY1MCP_OF_EACH(0x20))
               | ((word ^ ONLY1MCP_OF_EACH('"')) - ONLY1MCP_OF_EACH(1))
               | ((word ^ ONLY1MCP_OF_EACH('\\\\')) - ONLY1MCP_OF_EACH(1));
    }
    #endif

    /* The number of octets from the first on, of eight, that are neither quotes nor backslashes nor control
       characters. */
    static inline int only1mcp_unescaped_of_8(const unsigned char *p)
    {
    #ifdef ONLY1MCP_BY_WORDS
        unsigned long long word;
        memcpy(&word, p, 8);
        return only1mcp_before_mark(only1mcp_marks(word) & ~word & ONLY1MCP_HIGH_BITS);
    #else
        int k = 0;
        while (k < 8 && p[k] >= 0x20 && p[k] != '"' && p[k] != '\\\\')
            k++;
        return k;
    #endif
    }

    /* The same, of those that are ASCII too. */
    static inline int only1mcp_plain_of_8(const unsigned char *p)
    {
    #ifdef ONLY1MCP_BY_WORDS
        unsigned long long word;
        memcpy(&word, p, 8);
        return only1mcp_before_mark((only1mcp_marks(word) | word) & ONLY1MCP_HIGH_BITS);
    #else
        int k = 0;
        while (k < 8 && p[k] >= 0x20 && p[k] < 0x80 && p[k] != '"' && p[k] != '\\\\')
            k++;
        return k;
    #endif
    }

    /* Loops of fixed length without branches, which compilers turn into a few vector instructions. As a signed char
       everything beyond ASCII is below 0x20. */
    static inline int only1mcp_is_unescaped64(const unsigned char *p)
    {
        unsigned char special = 0;
        int k;
        for (k = 0; k < 64; k++)
            special |= (unsigned char)((p[k] == '"') | (p[k] == '\\\\') | (p[k] < 0x20));
        return special == 0;
    }

    static inline int only1mcp_is_plain64(const unsigned char *p)
    {
        unsigned char special = 0;
        int k;
        for (k = 0; k < 64; k++)
            special |= (unsigned char)((p[k] == '"') | (p[k] == '\\\\') | ((signed char)p[k] < 0x20));
        return special == 0;
    }

    static inline int only1mcp_is_ascii64(const unsigned char *p)
    {
        unsigned char all = 0;
        int k;
        for (k = 0; k < 64; k++)
            all |= p[k];
        return all < 0x80;
    }
    """
    int unescaped_of_8 "only1mcp_unescaped_of_8"(const uint8_t* p) noexcept nogil
    int plain_of_8 "only1mcp_plain_of_8"(const uint8_t* p) noexcept nogil
    bint is_unescaped64 "only1mcp_is_unescaped64"(const uint8_t* p) noexcept nogil
    bint is_plain64 "only1mcp_is_plain64"(const uint8_t* p) noexcept nogil
    bint is_ascii64 "only1mcp_is_ascii64"(const uint8_t* p) noexcept nogil


cdef inline Py_ssize_t skip_unescaped(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Move to the first quote, backslash or control character, or to `n`."""
    cdef int passed
    while n - i >= 8:
        passed = unescaped_of_8(p + i)
        i += passed
        if passed < 8:
            return i
        # Where one word has none the next ones mostly have none, in text of any length worth the speed.
        while n - i >= 64 and is_unescaped64(p + i):
            i += 64
    while i < n and p[i] >= 0x20 and p[i] != c'"' and p[i] != c"\\":
        i += 1
    return i


cdef inline Py_ssize_t skip_plain(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Move to the first octet that is not ASCII, or is a quote, a backslash or a control character, or to `n`."""
    cdef int passed
    while n - i >= 8:
        passed = plain_of_8(p + i)
        i += passed
        if passed < 8:
            return i
        while n - i >= 64 and is_plain64(p + i):
            i += 64
    while i < n and 0x20 <= p[i] < 0x80 and p[i] != c'"' and p[i] != c"\\":
        i += 1
    return i
