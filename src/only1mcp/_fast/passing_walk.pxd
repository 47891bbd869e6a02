"""The states of a scanner that can stop at any octet, and the ways from one to the next that need no object."""

from libc.stdint cimport int64_t, uint8_t

from only1mcp._fast.json_walk cimport (
    LEAST_INFINITE, LEAST_INFINITE_DIGITS, is_digit, skip_literal, skip_number, skip_space
)
from only1mcp._fast.text_run cimport skip_text

cdef enum State:
    TOP  # before the message
    END  # behind it
    VALUE
    VALUE_OR_CLOSER
    KEY
    KEY_OR_CLOSER
    COLON
    NEXT  # a comma or a closer
    LITERAL
    # Inside a string.
    STRING
    ESCAPE
    HEX
    LOW_ESCAPE  # the backslash of the second half of a surrogate pair
    LOW_U
    UTF8
    # Inside a number: after what the name says.
    MINUS
    ZERO
    INTEGER
    POINT
    FRACTION
    E
    SIGN
    EXPONENT


cdef struct Number:
    # How many digits stand before the decimal point without the exponent; below zero where zeros follow it.
    int64_t magnitude
    int64_t exponent
    bint negative  # of the exponent
    bint significant  # a digit other than a leading zero has come
    # How many digits have been compared with those of the least infinite number, and with what result.
    int digits
    int order


cdef inline void count_digit(Number* number, uint8_t byte, bint whole) noexcept nogil:
    """Take a digit of the number as it is written; `json_walk.is_infinite` says what it is counted for."""
    if whole:
        number.magnitude += 1
    elif not number.significant and byte == c"0":
        number.magnitude -= 1
        return
    number.significant = True
    if number.order == 0 and number.digits < LEAST_INFINITE_DIGITS:
        number.order = <int>byte - <int><uint8_t>LEAST_INFINITE[number.digits]
        number.digits += 1


cdef inline bint is_too_great(Number* number) noexcept nogil:
    cdef int64_t magnitude = number.magnitude + (-number.exponent if number.negative else number.exponent)
    if not number.significant or magnitude < LEAST_INFINITE_DIGITS:
        return False
    if magnitude > LEAST_INFINITE_DIGITS or number.order > 0:
        return True
    # Digits that are not written are zeros.
    while number.order == 0 and number.digits < LEAST_INFINITE_DIGITS:
        number.order = <int>c"0" - <int><uint8_t>LEAST_INFINITE[number.digits]
        number.digits += 1
    return number.order == 0


cdef inline State begin_number(Number* number, uint8_t byte) noexcept nogil:
    """Return the state after the first octet of a number."""
    number.magnitude = number.exponent = 0
    number.negative = number.significant = False
    number.digits = number.order = 0
    if byte == c"-":
        return MINUS
    if byte == c"0":
        return ZERO
    count_digit(number, byte, True)
    return INTEGER


cdef inline State take_digit(Number* number, State state, uint8_t byte) noexcept nogil:
    """Return the state after one more octet of a number; NEXT when it is none, and the number right and finite.

    TOP and END, in which no number ends, tell that it is wrong and that it is too large.
    """
    if is_digit(byte):
        if state == ZERO:
            return TOP
        if state == MINUS:
            return begin_number(number, byte)
        if state == INTEGER:
            count_digit(number, byte, True)
            return INTEGER
        if state == POINT or state == FRACTION:
            count_digit(number, byte, False)
            return FRACTION
        # Beyond this no length of digits before it makes a difference.
        if number.exponent < 1000000000000000LL:
            number.exponent = number.exponent * 10 + (byte - 0x30)
        return EXPONENT
    if byte == c"." and (state == ZERO or state == INTEGER):
        return POINT
    if (byte | 0x20) == c"e" and (state == ZERO or state == INTEGER or state == FRACTION):
        return E
    if (byte == c"+" or byte == c"-") and state == E:
        number.negative = byte == c"-"
        return SIGN
    if state == MINUS or state == POINT or state == E or state == SIGN:
        return TOP
    return END if is_too_great(number) else NEXT


cdef inline Py_ssize_t skip_items(
    const uint8_t* p, Py_ssize_t i, Py_ssize_t n, uint8_t* closers, Py_ssize_t limit, Py_ssize_t* level, State* next
) noexcept nogil:
    """Move on inside the containers of the second level and below, up to what takes the octets one by one.

    That is whatever is rare, wrong, or not all there. The states are those from VALUE to NEXT.
    """
    cdef Py_ssize_t depth = level[0]
    cdef State state = next[0]
    cdef Py_ssize_t after
    cdef uint8_t byte
    while True:
        i = skip_space(p, i, n)
        if i >= n:
            break
        byte = p[i]
        if state == NEXT:
            if byte == c",":
                i = skip_space(p, i + 1, n)
                state = KEY if closers[depth - 1] == c"}" else VALUE
                if i >= n:
                    break
                byte = p[i]
            elif byte == closers[depth - 1]:
                i += 1
                depth -= 1
                if depth == 1:
                    break
                continue
            else:
                break
        if state == KEY or (state == KEY_OR_CLOSER and byte == c'"'):
            if byte != c'"':
                break
            after = skip_text(p, i + 1, n)
            if after >= n or p[after] != c'"':
                break
            i = skip_space(p, after + 1, n)
            state = COLON
            if i >= n:
                break
            byte = p[i]
        if state == COLON:
            if byte != c":":
                break
            i = skip_space(p, i + 1, n)
            state = VALUE
            if i >= n:
                break
            byte = p[i]
        if byte == c'"' and state != KEY_OR_CLOSER:
            i = skip_text(p, i + 1, n)
            if i >= n or p[i] != c'"':
                state = STRING
                break
            i += 1
            state = NEXT
        elif (byte == c"]" and state == VALUE_OR_CLOSER) or (byte == c"}" and state == KEY_OR_CLOSER):
            i += 1
            depth -= 1
            state = NEXT
            if depth == 1:
                break
        elif state == KEY_OR_CLOSER:
            break
        elif byte == c"{" or byte == c"[":
            if depth >= limit:
                break
            closers[depth] = byte + 2
            depth += 1
            i += 1
            state = KEY_OR_CLOSER if byte == c"{" else VALUE_OR_CLOSER
        elif byte == c"-" or is_digit(byte):
            after = skip_number(p, i, n)
            if after < 0 or after >= n:
                break
            i = after
            state = NEXT
        else:
            if byte == c"t":
                after = skip_literal(p, i, n, b"true", 4)
            elif byte == c"f":
                after = skip_literal(p, i, n, b"false", 5)
            else:
                after = skip_literal(p, i, n, b"null", 4)
            if after < 0:
                break
            i = after
            state = NEXT
    level[0] = depth
    next[0] = state
    return i


cdef inline int hex_digit(uint8_t byte) noexcept nogil:
    if is_digit(byte):
        return byte - 0x30
    byte |= 0x20
    return byte - 0x61 + 10 if c"a" <= byte <= c"f" else -1
