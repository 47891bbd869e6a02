"""HTTP/1.1 message heads: cut them out of the bytes, check what h11 lets pass, and let h11 read the rest.

h11 decides what a head means. The checks here only ever refuse more than it does: whatever two parsers on the way could
read differently (RFC 9112 sections 2.2, 3, 5, 6 and 11.2). The verdict depends on the bytes alone, never on how they
were cut into segments.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final, Literal

import h11

from only1mcp.errors import ProtocolError
from only1mcp.wire.http1_events import RequestHead, ResponseHead

# A parsed field costs some 200 octets of memory; without a bound a head of tiny fields is amplified twentyfold.
MAX_FIELDS: Final = 100
# RFC 9112 section 3 wants at least 8000 octets for the request line; longer targets are probes or loops, not calls.
MAX_TARGET_BYTES: Final = 8000
# More digits overflow a 64-bit length in some parser on the way.
MAX_LENGTH_DIGITS: Final = 18

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

# Every octet that a head must not hold: controls but TAB (RFC 9110 section 5.5), and a CR or LF that is not part of a
# CRLF (RFC 9112 section 2.2 lets a recipient accept those; request smuggling is what comes of it).
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n")
_NO_CONTROLS: Final = bytes(octet for octet in range(256) if octet == 9 or (octet >= 32 and octet != 127))
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.[0-9]\r\n")
_OTHER_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/([0-9]+)(?:\.[0-9]+)?\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
# RFC 9112 section 3.2.1 (origin-form) with the characters of RFC 3986; the query may also hold what browsers leave
# unencoded. `#` is in neither.
_ORIGIN_FORM = re.compile(
    rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]{}|^`]*)?"
)
# Stricter than RFC 3986: no sub-delims and no percent-encoding, which no DNS name holds and no two parsers agree on.
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_FRAMING_FIELD = re.compile(rb"\n(content-length|transfer-encoding):([^\r]*)\r", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]+")
_NAME = re.compile(TOKEN)


class HeadCutter:
    """Cuts complete heads off the front of a buffer; refuses forbidden octets as soon as they are there.

    `check_first_line` gets the request or status line with its CRLF before the rest of the head has arrived.
    """

    __slots__ = ("_check_first_line", "_limit", "_role", "first_line", "seen")

    def __init__(
        self, limit_bytes: int, role: Literal["request", "response"], check_first_line: Callable[[bytes], None]
    ) -> None:
        self._limit = limit_bytes
        self._role = role
        self._check_first_line = check_first_line
        # That of the head at hand, or else of the last one; empty while it is incomplete.
        self.first_line = b""
        # Octets of an incomplete head that have been looked at; 0 between two heads.
        self.seen = 0

    def maybe_cut(self, buffer: bytearray) -> bytes | None:
        """Remove and return the head at the front of `buffer` without its empty line, or None when it is incomplete."""
        limit = self._limit
        if not self.seen:
            self.first_line = b""
        end = buffer.find(b"\r\n\r\n", max(0, self.seen - 3))
        stop = len(buffer) if end < 0 else end + 4
        # One octet beyond the limit is in sight, so that a CR in the last place is judged the same at every split.
        bad_at = _first_forbidden(buffer, max(0, self.seen - 1), min(stop, limit + 1), limit)
        if not self.first_line:
            line_end = buffer.find(b"\n", self.seen, min(stop, limit)) + 1
            if line_end and bad_at >= line_end:
                self.first_line = bytes(buffer[:line_end])
                self._check_first_line(self.first_line)
        if bad_at < limit:
            raise ProtocolError(f"octet not allowed in a {self._role} head: {bytes(buffer[bad_at : bad_at + 1])!r}")
        if stop > limit:
            raise self._too_long(bytes(buffer[:limit]))
        if end < 0:
            self.seen = stop
            return None
        head = bytes(buffer[: end + 2])
        del buffer[:stop]
        self.seen = 0
        return head

    def _too_long(self, head: bytes) -> ProtocolError:
        if self._role == "response":
            return ProtocolError(f"expected a response head of at most {self._limit} bytes")
        if self.first_line:
            return ProtocolError(f"expected a request head of at most {self._limit} bytes", http_status=431)
        if b" " in head:
            return ProtocolError(f"expected a target of at most {MAX_TARGET_BYTES} bytes", http_status=414)
        return ProtocolError("expected a request line")


def _first_forbidden(buffer: bytearray, start: int, stop: int, otherwise: int) -> int:
    piece = buffer[start:stop]
    # Mostly nothing but CRLFs is left without what is harmless. The expression, which is sure of the place and knows
    # what stands around the piece, takes fifty times as long: too much for a head that is only long.
    if len(piece.translate(None, _NO_CONTROLS)) == 2 * piece.count(b"\r\n"):
        return otherwise
    found = _FORBIDDEN.search(buffer, start, stop)
    return otherwise if found is None else found.start()


def check_request_line(line: bytes) -> None:
    """Raise `ProtocolError` 400, 414 or 505 for a request line (with its CRLF) that is not served."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or match[3] != b"1":
        other = _OTHER_VERSION.fullmatch(line)
        if other is not None and other[1] != b"1":
            raise ProtocolError("expected HTTP/1.1", http_status=505)
        raise ProtocolError("expected a request line: method SP target SP HTTP/1.1")
    method, target = match[1], match[2]
    if len(target) > MAX_TARGET_BYTES:
        raise ProtocolError(f"expected a target of at most {MAX_TARGET_BYTES} bytes", http_status=414)
    if method == b"CONNECT":
        raise ProtocolError("this is no tunnel: CONNECT is not served")
    if _ORIGIN_FORM.fullmatch(target) is None:
        raise ProtocolError("expected a target in origin form: a path that starts with / and an optional query")


def check_status_line(line: bytes) -> None:
    """Raise `ProtocolError` for a status line (with its CRLF) that HTTP/1.1 does not allow."""
    if _STATUS_LINE.fullmatch(line) is None:
        raise ProtocolError(f"expected an HTTP/1.1 status line, got {line[:80]!r}")


def read_request_head(raw: bytes, max_body_bytes: int) -> RequestHead:
    """Return what `raw` (from `HeadCutter`) means; raise `ProtocolError` 400, 413, 415, 417, 431 or 501."""
    _check_field_lines(raw, "request")
    length, chunked = _framing(raw, "request", http10=b" HTTP/1.0\r\n" in raw[: raw.index(b"\n") + 1])
    event = _h11_event(h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 2), raw)
    assert isinstance(event, h11.Request)
    head = RequestHead(
        bytes(event.method),
        bytes(event.target),
        list(event.headers),
        event.http_version,
        content_length=length,
        chunked=chunked,
    )
    _check_host(head)
    for coding in head.tokens(b"content-encoding"):
        if coding != b"identity":
            raise ProtocolError("expected a body without Content-Encoding", http_status=415)
    # "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation"
    # (RFC 9110 section 10.1.1).
    if head.http_version != b"1.0":
        for expectation in head.tokens(b"expect"):
            if expectation != b"100-continue":
                raise ProtocolError("expected no expectation but 100-continue", http_status=417)
            head.expect_continue = chunked or bool(length)
    if length is not None and length > max_body_bytes:
        raise ProtocolError(f"expected a body of at most {max_body_bytes} bytes", http_status=413)
    return head


def read_response_head(raw: bytes, connection: h11.Connection) -> ResponseHead | None:
    """Return what `raw` means, None for an interim response; `connection` is h11's, waiting for the response."""
    _check_field_lines(raw, "response")
    length, chunked = _framing(raw, "response", http10=raw.startswith(b"HTTP/1.0"))
    event = _h11_event(connection, raw)
    if isinstance(event, h11.InformationalResponse):
        if event.status_code == 101:
            raise ProtocolError("got 101 Switching Protocols without having asked for it")
        return None
    assert isinstance(event, h11.Response)
    return ResponseHead(
        event.status_code, list(event.headers), event.http_version, content_length=length, chunked=chunked
    )


def check_trailer(line: bytes) -> None:
    """Raise `ProtocolError` for a trailer field line (with its CRLF) that is malformed or would change the framing."""
    name, colon, _ = line.partition(b":")
    if not colon or _NAME.fullmatch(name) is None or _FORBIDDEN.search(line) is not None:
        raise ProtocolError("expected a trailer field line")
    # "A sender MUST NOT generate a trailer field unless ..." (RFC 9110 section 6.5.1); these would be smuggling.
    if name.lower() in (b"content-length", b"transfer-encoding", b"host"):
        raise ProtocolError(f"{name.decode()} is not allowed in a trailer")


def _check_field_lines(raw: bytes, role: str) -> None:
    status = 400 if role == "request" else 502
    if raw.count(b"\n") - 1 > MAX_FIELDS:
        raise ProtocolError(
            f"expected at most {MAX_FIELDS} header fields", http_status=431 if role == "request" else status
        )
    if b"\n " in raw or b"\n\t" in raw:
        raise ProtocolError("line folding in a header field is not allowed")


def _framing(raw: bytes, role: str, *, http10: bool) -> tuple[int | None, bool]:
    """Return the body's length and whether it is chunked (RFC 9112 section 6), from the bytes as they came.

    h11 merges equal Content-Length lines and lets Transfer-Encoding override them; here both are refused.
    """
    status = 400 if role == "request" else 502
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in _FRAMING_FIELD.findall(raw):
        if len(name) == len(b"content-length"):
            lengths.append(value.strip(b" \t"))
        else:
            codings.append(value.strip(b" \t").lower())
    if codings:
        if lengths:
            raise ProtocolError("Content-Length and Transfer-Encoding in one message")
        if http10:
            raise ProtocolError("Transfer-Encoding in an HTTP/1.0 message")
        if codings != [b"chunked"]:
            names = [item.strip(b" \t") for item in b",".join(codings).split(b",")]
            # "If ... the chunked transfer coding is not the final encoding ... the server MUST respond with the 400
            # status code" (section 6.3); a coding that we do not understand before it: 501 (section 6.1).
            known = names[-1] == b"chunked" and names.count(b"chunked") == 1 and len(codings) == 1
            raise ProtocolError(
                "expected Transfer-Encoding: chunked",
                http_status=501 if known and role == "request" else status,
            )
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1:
        raise ProtocolError("expected one Content-Length, got several")
    if _DIGITS.fullmatch(lengths[0]) is None:
        raise ProtocolError("expected Content-Length to be a decimal number")
    if len(lengths[0]) > MAX_LENGTH_DIGITS:
        raise ProtocolError(
            f"expected Content-Length to have at most {MAX_LENGTH_DIGITS} digits",
            http_status=413 if role == "request" else status,
        )
    return int(lengths[0]), False


def _h11_event(connection: h11.Connection, raw: bytes) -> object:
    connection.receive_data(raw + b"\r\n")
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        # The rest of h11's message quotes the peer's bytes.
        reason = str(error).partition(":")[0].lower()
        raise ProtocolError(f"malformed head: {reason}", http_status=error.error_status_hint) from None


def _check_host(head: RequestHead) -> None:
    """Raise `ProtocolError` unless there is one well-formed Host (RFC 9112 section 3.2; HTTP/1.0 may lack it)."""
    values = head.get_all(b"host")
    if not values and head.http_version == b"1.0":
        return
    if len(values) != 1:
        raise ProtocolError("expected one Host header field")
    match = _HOST.fullmatch(values[0])
    if match is None or (match[2] and int(match[2]) > 65535):
        raise ProtocolError("expected Host to be a name or an address with an optional port")
    if match[1] is not None:
        try:
            ipaddress.IPv6Address(match[1].decode("ascii"))
        except ValueError:
            raise ProtocolError("expected Host to be a name or an address with an optional port") from None
