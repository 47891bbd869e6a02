"""What HTTP/1.1 connections report: heads, the end of a message, the end of a connection (body data is plain bytes)."""

from __future__ import annotations

import enum
from typing import Any, Final

from only1mcp._fast import Headers, Index, index_fields
from only1mcp.errors import ProtocolError

__all__ = [
    "CLOSED",
    "END",
    "MAX_KNOWN_BYTES",
    "ClientEvent",
    "Closed",
    "End",
    "Fields",
    "Headers",
    "RequestHead",
    "ResponseHead",
    "ServerEvent",
]


# A longer head is read anew each time it comes: one is kept for as long as a connection is open.
MAX_KNOWN_BYTES: Final = 2048


class End(enum.Enum):
    """The message is complete."""

    END = "end"


class Closed(enum.Enum):
    """The peer closed the connection between two exchanges."""

    CLOSED = "closed"


END: Final = End.END
CLOSED: Final = Closed.CLOSED


class Fields:
    """The header fields of one message, in order, names in lower case; `headers` is not changed any more."""

    __slots__ = ("_index", "headers")

    def __init__(self, headers: Headers, index: Index | None = None) -> None:
        self.headers = headers
        # A request is asked for a dozen fields, so they are looked up; made when first needed.
        self._index = index

    def get(self, name: bytes) -> bytes | None:
        """Return the one value of the field; raise `ProtocolError` when it occurs more than once."""
        index = self._index
        if index is None:
            index = self._index = index_fields(self.headers)
        found = index.get(name)
        if isinstance(found, list):
            raise ProtocolError(f"expected one {name.decode()} header field, got several")
        return found

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the values of every field line with this name, in order."""
        index = self._index
        if index is None:
            index = self._index = index_fields(self.headers)
        found = index.get(name)
        if found is None:
            return []
        return list(found) if isinstance(found, list) else [found]

    def repeats(self, name: bytes) -> bool:
        """Return whether the field occurs more than once."""
        index = self._index
        if index is None:
            index = self._index = index_fields(self.headers)
        return isinstance(index.get(name), list)

    def tokens(self, name: bytes) -> list[bytes]:
        """Return the members of a comma-separated field of tokens, in lower case (RFC 9110 section 5.6.1)."""
        return [t for value in self.get_all(name) for item in value.split(b",") if (t := item.strip(b" \t").lower())]


class RequestHead(Fields):
    """The head of a request; `content_length` is None when the body is chunked or there is none.

    `verdict` is the application's: what it has made of all but the body's length, for when the client sends the same
    head again.
    """

    __slots__ = ("chunked", "content_length", "expect_continue", "http_version", "method", "target", "verdict")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        http_version: bytes = b"1.1",
        content_length: int | None = None,
        chunked: bool = False,
        expect_continue: bool = False,
        index: Index | None = None,
    ) -> None:
        self.headers = headers
        self._index = index
        self.method = method
        self.target = target
        self.http_version = http_version
        self.content_length = content_length
        self.chunked = chunked
        self.expect_continue = expect_continue
        self.verdict: Any = None

    def with_length(self, length: int) -> RequestHead:
        """Return the same head with another Content-Length, and the same verdict."""
        head = RequestHead(self.method, self.target, _with_length(self.headers, length), self.http_version, length)
        head.verdict = self.verdict
        return head

    def __repr__(self) -> str:
        # Values may be credentials; a repr ends up in logs and tracebacks.
        return f"<RequestHead {self.method!r} {self.target!r} fields={len(self.headers)}>"


class ResponseHead(Fields):
    """The head of a final response; `content_length` is None when it is unknown or the body is chunked.

    `plain` is the reader's: whether it has found it to be that of one JSON text, with status 200.
    """

    __slots__ = ("chunked", "content_length", "http_version", "plain", "status")

    def __init__(
        self,
        status: int,
        headers: Headers,
        http_version: bytes = b"1.1",
        content_length: int | None = None,
        chunked: bool = False,
        index: Index | None = None,
    ) -> None:
        self.headers = headers
        self._index = index
        self.status = status
        self.http_version = http_version
        self.content_length = content_length
        self.chunked = chunked
        self.plain = False

    def with_length(self, length: int) -> ResponseHead:
        """Return the same head with another Content-Length."""
        head = ResponseHead(self.status, _with_length(self.headers, length), self.http_version, length)
        head.plain = self.plain
        return head

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} fields={len(self.headers)}>"


def _with_length(headers: Headers, length: int) -> Headers:
    return [(name, b"%d" % length if name == b"content-length" else value) for name, value in headers]


ServerEvent = RequestHead | bytes | End | Closed
ClientEvent = ResponseHead | bytes | End
