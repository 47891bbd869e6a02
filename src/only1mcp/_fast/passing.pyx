# benches/micro/bench_passing.py: 30x for 1 MB of text, 8x for JSON in a string, 250x for a list of small items.
"""The compiled twin of `passing_reference.PassingScanner`: one pass, however it is cut, and no copy of what passes."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from only1mcp._fast.json_walk cimport MAX_DEPTH, is_digit, skip_number, skip_space
from only1mcp._fast.passing_walk cimport (
    COLON, END, ESCAPE, HEX, KEY, KEY_OR_CLOSER, LITERAL, LOW_ESCAPE, LOW_U, MINUS, NEXT, STRING, TOP, UTF8, VALUE,
    VALUE_OR_CLOSER, Number, State, begin_number, hex_digit, skip_items, take_digit
)
from only1mcp._fast.text_run cimport is_escape, skip_text

from only1mcp._fast.passing_reference import Message, broken, lone_surrogate, not_utf8, too_deep, too_large

cdef enum:
    # Pieces below this are copied, which costs less than a view of them.
    COPIED_OCTETS = 1024


@cython.final
cdef class PassingScanner:
    """See `passing_reference.PassingScanner`."""

    cdef object message
    cdef State state
    cdef Py_ssize_t depth
    cdef Py_ssize_t limit
    cdef uint8_t closers[MAX_DEPTH]
    cdef bint in_key
    # The top-level token that is being kept, where in the piece it began, and how much of it is wanted.
    cdef bint keeping
    cdef bytes token
    cdef Py_ssize_t token_start
    # Of the id the old octets do not pass.
    cdef bint withheld
    cdef Py_ssize_t passed  # up to where the piece has passed
    # Strings: hexadecimal digits or continuation octets to come, and what they may be.
    cdef int pending
    cdef int unit
    cdef bint low_half
    cdef uint8_t least
    cdef uint8_t greatest
    cdef const char* literal
    cdef Number number

    def __init__(self, bytes id not None, bytes replacement not None, Py_ssize_t max_depth=64):
        self.message = Message(id, replacement)
        self.limit = min(max_depth, <Py_ssize_t>MAX_DEPTH)
        self.state = TOP
        self.token = b""

    @property
    def has_result(self):
        return self.message.has_result

    @property
    def complete(self):
        return self.state == END

    def receive_data(self, bytes data not None):
        """See `passing_reference.PassingScanner.receive_data`."""
        cdef list out = []
        self.passed = 0
        self.token_start = 0
        self.scan(data, <const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), out)
        if self.keeping:
            self.keep(data, PyBytes_GET_SIZE(data))
        if not self.withheld:
            self.let_pass(data, PyBytes_GET_SIZE(data), out)
        return out

    def receive_eof(self):
        """See `passing_reference.PassingScanner.receive_eof`."""
        if self.state == UTF8:
            raise not_utf8()
        if self.state != END:
            raise broken()

    cdef int scan(self, bytes data, const uint8_t* p, Py_ssize_t n, list out) except -1:
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t after
        cdef Py_ssize_t depth = self.depth
        cdef State state = self.state
        cdef uint8_t byte
        while i < n:
            if state == STRING:
                i = skip_text(p, i, n)
                if i == n:
                    break
                byte = p[i]
                i += 1
                if byte == c'"':
                    if self.in_key:
                        self.in_key = False
                        state = COLON
                        if depth == 1:
                            self.end_key(data, i)
                    else:
                        state = NEXT
                        if depth == 1:
                            self.end_value(data, i, out)
                elif byte == c"\\":
                    state = ESCAPE
                elif byte < 0x20:
                    raise broken()
                else:
                    self.begin_character(byte)
                    state = UTF8
                continue
            if state <= NEXT:
                if depth > 1:
                    i = skip_items(p, i, n, self.closers, self.limit, &depth, &state)
                    if depth == 1:
                        self.end_value(data, i, out)
                    if state == STRING:
                        continue
                i = skip_space(p, i, n)
                if i == n:
                    break
            byte = p[i]
            if state == NEXT:
                i += 1
                if byte == c",":
                    state = KEY if self.closers[depth - 1] == c"}" else VALUE
                elif byte == self.closers[depth - 1]:
                    depth -= 1
                    state = NEXT if depth else self.end_message()
                    if depth == 1:
                        self.end_value(data, i, out)
                else:
                    raise broken()
            elif state == KEY or state == KEY_OR_CLOSER:
                if byte == c'"':
                    self.in_key = True
                    state = STRING
                    if depth == 1:
                        self.begin_key(i)
                    i += 1
                elif byte == c"}" and state == KEY_OR_CLOSER:
                    i += 1
                    depth -= 1
                    state = NEXT if depth else self.end_message()
                    if depth == 1:
                        self.end_value(data, i, out)
                else:
                    raise broken()
            elif state == COLON:
                if byte != c":":
                    raise broken()
                i += 1
                state = VALUE
            elif state == VALUE or state == VALUE_OR_CLOSER or state == TOP:
                if state == TOP and byte != c"{":
                    raise Message.no_object(byte)
                if byte == c"]" and state == VALUE_OR_CLOSER:
                    i += 1
                    depth -= 1
                    state = NEXT
                    if depth == 1:
                        self.end_value(data, i, out)
                    continue
                if depth == 1:
                    self.begin_value(data, i, byte, out)
                if byte == c'"':
                    i += 1
                    state = STRING
                elif byte == c"{" or byte == c"[":
                    if depth >= self.limit:
                        raise too_deep(self.limit)
                    self.closers[depth] = byte + 2  # the closer of either
                    depth += 1
                    i += 1
                    state = KEY_OR_CLOSER if byte == c"{" else VALUE_OR_CLOSER
                elif byte == c"-" or is_digit(byte):
                    after = skip_number(p, i, n)
                    if 0 < after < n:
                        i = after
                        state = NEXT
                        if depth == 1:
                            self.end_value(data, i, out)
                    else:
                        # It goes on in the next piece, or is none: the octets decide one by one.
                        state = begin_number(&self.number, byte)
                        i += 1
                else:
                    self.literal = b"true" if byte == c"t" else b"false" if byte == c"f" else b"null"
                    state = LITERAL
            elif state == LITERAL:
                if byte != <uint8_t>self.literal[0]:
                    raise broken()
                self.literal += 1
                i += 1
                if self.literal[0] == 0:
                    state = NEXT
                    if depth == 1:
                        self.end_value(data, i, out)
            elif state == UTF8:
                if not self.least <= byte <= self.greatest:
                    raise not_utf8()
                self.least = 0x80
                self.greatest = 0xBF
                self.pending -= 1
                i += 1
                if self.pending == 0:
                    state = STRING
            elif state >= MINUS:
                state = take_digit(&self.number, state, byte)
                if state == TOP:
                    raise broken()
                if state == END:
                    raise too_large()
                if state != NEXT:
                    i += 1
                elif depth == 1:
                    self.end_value(data, i, out)
            elif state == END:
                raise broken()
            else:
                state = self.take_escaped(state, byte)
                i += 1
        self.state = state
        self.depth = depth
        return 0

    cdef State end_message(self) except? TOP:
        self.message.check()
        return END

    cdef int begin_key(self, Py_ssize_t i) except -1:
        self.keeping = True
        self.token_start = i
        return 0

    cdef int end_key(self, bytes data, Py_ssize_t i) except -1:
        self.keep(data, i)
        self.message.begin_member(self.take_token())
        return 0

    cdef int begin_value(self, bytes data, Py_ssize_t i, uint8_t byte, list out) except -1:
        if self.message.wanted:
            self.message.begin_value(byte)
            self.keeping = True
            self.token_start = i
            if self.message.in_id:
                self.let_pass(data, i, out)
                self.withheld = True
        return 0

    cdef int end_value(self, bytes data, Py_ssize_t i, list out) except -1:
        if self.keeping:
            self.keep(data, i)
            replacement = self.message.end_member(self.take_token())
            if self.withheld:
                self.withheld = False
                self.passed = i
                out.append(replacement)
        return 0

    cdef int keep(self, bytes data, Py_ssize_t end) except -1:
        """Add what the piece has of the token, up to `end`, as far as it makes a difference."""
        cdef Py_ssize_t room = self.message.room - PyBytes_GET_SIZE(self.token)
        if room > 0:
            self.token += data[self.token_start : min(end, self.token_start + room)]
        self.token_start = end
        return 0

    cdef bytes take_token(self):
        cdef bytes token = self.token
        self.keeping = False
        self.token = b""
        return token

    cdef int let_pass(self, bytes data, Py_ssize_t end, list out) except -1:
        if end > self.passed:
            if self.passed == 0 and end == PyBytes_GET_SIZE(data):
                out.append(data)
            elif end - self.passed < COPIED_OCTETS:
                out.append(data[self.passed : end])
            else:
                out.append(memoryview(data)[self.passed : end])
            self.passed = end
        return 0

    cdef State take_escaped(self, State state, uint8_t byte) except? TOP:
        """Take one octet behind a backslash inside a string."""
        cdef int digit
        if state == ESCAPE:
            if byte == c"u":
                self.pending = 4
                self.unit = 0
                self.low_half = False
                return HEX
            if not is_escape(byte):
                raise broken()
            return STRING
        if state == LOW_ESCAPE:
            if byte != c"\\":
                raise lone_surrogate()
            return LOW_U
        if state == LOW_U:
            if byte != c"u":
                raise lone_surrogate()
            self.pending = 4
            self.unit = 0
            self.low_half = True
            return HEX
        digit = hex_digit(byte)
        if digit < 0:
            raise lone_surrogate() if self.low_half else broken()
        self.unit = self.unit * 16 + digit
        self.pending -= 1
        if self.pending:
            return HEX
        if self.low_half:
            if not 0xDC00 <= self.unit <= 0xDFFF:
                raise lone_surrogate()
            return STRING
        if 0xDC00 <= self.unit <= 0xDFFF:
            raise lone_surrogate()
        return LOW_ESCAPE if 0xD800 <= self.unit <= 0xDBFF else STRING

    cdef int begin_character(self, uint8_t byte) except -1:
        """Begin a character beyond ASCII (RFC 3629)."""
        self.least = 0x80
        self.greatest = 0xBF
        if 0xC2 <= byte <= 0xDF:
            self.pending = 1
        elif 0xE0 <= byte <= 0xEF:
            self.pending = 2
            if byte == 0xE0:
                self.least = 0xA0
            elif byte == 0xED:
                self.greatest = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            self.pending = 3
            if byte == 0xF0:
                self.least = 0x90
            elif byte == 0xF4:
                self.greatest = 0x8F
        else:
            raise not_utf8()
        return 0
