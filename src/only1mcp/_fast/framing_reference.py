"""The plain-Python twin of `framing.pyx`: it declines everything, and so h11 and the readable decoders do all the work.

There is nothing to choose between two readings of a message: what the compiled twin accepts is what h11 and the checks
around it accept, with the same meaning, and the tests prove it on both.
"""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]
# Values by name; a list where the field occurs more than once.
Index = dict[bytes, bytes | list[bytes]]
# Method, target, fields, their index, Content-Length, whether it is chunked, whether it closes, octets of the head.
Request = tuple[bytes, bytes, Headers, Index, int | None, bool, bool, int]
# Status, and then as above.
Response = tuple[int, Headers, Index, int | None, bool, bool, int]


def read_request(buffer: bytearray | bytes, max_head_bytes: int) -> Request | None:
    """Return what the request head at the front of `buffer` means, or None when it is not there, whole and plain.

    Plain is: GET, POST, DELETE, HEAD or OPTIONS of a path without percent-encoding, at most 8000 octets with its query;
    HTTP/1.1; CRLF line ends; at most 100 fields of tokens and visible ASCII; one Host; one Content-Length of at most 15
    digits, or `Transfer-Encoding: chunked`, or neither; `Connection` absent, `keep-alive` or `close`; and no Expect,
    Upgrade, TE, Trailer or Content-Encoding.
    """
    return None


def read_response(buffer: bytearray | bytes, max_head_bytes: int) -> Response | None:
    """Return what the response head at the front of `buffer` means, or None when it is not there, whole and plain.

    Plain is: HTTP/1.1; a status from 200 to 599 but 204 and 304; one Content-Length or `Transfer-Encoding: chunked`;
    the rest as for requests, but a Content-Encoding is the reader's business.
    """
    return None


class KnownHead:
    """A plain head that is known again, whatever its Content-Length says; `length` is what it said last.

    `octets` are the whole head, from one of the readers above. Raise ValueError for one without Content-Length.
    `name_start` and `name_end` are where the value of Mcp-Name was when `matches_but_name` looked last.
    """

    def __init__(self, octets: bytes) -> None:
        self.length = -1
        self.name_start = self.name_end = 0

    def matches(self, data: bytes) -> int:
        """Return how many octets of `data` are this head again, -1 when it does not begin with it."""
        return -1

    def matches_but_name(self, data: bytes) -> int:
        """Do as `matches`, but the value of Mcp-Name may be another, as long as it means what it says.

        That is visible ASCII, which does not begin as a value in base64 does (MCP 2026-07-28, "Transports").
        """
        return -1


def write_request(method: bytes, target: bytes, headers: Headers, length: int, body: bytes) -> bytes | None:
    """Return a whole request with its Content-Length (below 0: none), or None when one of its parts is not plain.

    What must not be sent is never plain; `headers` starts with Host.
    """
    return None


def write_response(
    status_line: bytes, headers: Headers, length: int, chunked: bool, close: bool, body: bytes
) -> bytes | None:
    """Return a whole response or its start, or None when one of its fields is not plain or must not be sent.

    `status_line` comes with its CRLF. Content-Length (below 0: none), Transfer-Encoding and Connection are added.
    """
    return None


def finish_message(head: bytes, body: bytes) -> bytes:
    """Return the head with Content-Length and the empty line added, and the body."""
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def read_chunks(buffer: bytearray, position: int, data: bytearray, room: int, extension_room: int) -> tuple[int, int]:
    """Add the data of the whole chunks from `position` on to `data`; return the new position and the extension octets.

    Stops before the first chunk that is incomplete, wrong or the last one, or that is beyond one of the two limits.
    """
    return position, 0


def index_fields(headers: Headers) -> Index:
    """Return the values of the fields by name."""
    index: Index = {}
    for name, value in headers:
        held = index.get(name)
        if held is None:
            index[name] = value
        elif isinstance(held, list):
            held.append(value)
        else:
            index[name] = [held, value]
    return index
