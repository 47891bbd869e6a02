"""A request that comes again on its connection with nothing but its id changed, and what was found out about it.

Reading and checking a request is a function of its octets, so the outcome holds for the next one of which all octets
but those of the id are the same. What depends on anything else (the time, who may do what by now, how often) is asked
again by the application every time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from only1mcp._fast import read_request
from only1mcp.frontend.letterhead import DatedHead
from only1mcp.wire.http1_events import Headers, RequestHead

# Of requests that are remembered: each connection may hold one.
MAX_REQUEST_BYTES: Final = 4096

# Ids are told from other text where they are integers of so many digits, or strings of which every octet stands for
# itself; whatever else they may be is read in the ordinary way.
MAX_DIGITS: Final = 15
_PLAIN_STRING: Final = re.compile(rb'"[0-9A-Za-z._:-]*"')
_ZERO: Final = ord("0")


class Repeat:
    """A request that was answered with 200, the fields of `headers`, and a body; `span` is that of the id in its own.

    `answer` is the application's: it returns the body for another id, given the event loop's time, or None where the
    request must be read and decided on in the ordinary way. `state` is the application's own.
    """

    __slots__ = (
        "_after",
        "_before",
        "_body",
        "_id",
        "_proven",
        "_size",
        "_span",
        "answer",
        "head",
        "headers",
        "peer",
        "state",
    )

    def __init__(
        self,
        head: RequestHead,
        body: bytes,
        span: tuple[int, int],
        peer: str,
        headers: Headers,
        answer: Callable[[Repeat, bytes, float], bytes | None],
        state: Any,
    ) -> None:
        self.head = head
        self.peer = peer
        self.headers = DatedHead(headers)
        self.answer = answer
        self.state = state
        self._body = body
        self._span = span
        # The whole request as it came: what stands before its id, the id, and what stands behind; nothing until known.
        self._size = 0
        self._before = b""
        self._id = b""
        self._after = b""
        # Whether these octets, read once more, are this request and no other.
        self._proven = False

    def came_as(self, data: bytes) -> None:
        """Say in which octets the request arrived; one that came in several pieces is not recognized."""
        if self._size != 0 or len(data) > MAX_REQUEST_BYTES or not data.endswith(self._body):
            return
        start, end = self._span
        head_size = len(data) - len(self._body)
        self._size = len(data)
        self._before = data[: head_size + start]
        self._id = data[head_size + start : head_size + end]
        self._after = data[head_size + end :]

    def maybe_id(self, data: bytes) -> bytes | None:
        """Return the id when `data` is this request, whole and alone, with this id; None when it may be anything."""
        if len(data) != self._size or not data.startswith(self._before) or not data.endswith(self._after):
            return None
        start = len(self._before)
        id = data[start : start + len(self._id)]
        if id.isdigit():
            if len(id) > MAX_DIGITS or (id[0] == _ZERO and len(id) > 1):
                return None
        elif _PLAIN_STRING.fullmatch(id) is None:
            return None
        return id if self._proven or self._proves() else None

    def _proves(self) -> bool:
        """Whether the octets are this request, whole and alone; not looked at before the request comes again."""
        head, size = self.head, self._size - len(self._body)
        plain = read_request(self._before + self._id + self._after, size)
        if plain is not None:
            method, target, headers, _, length, chunked, close, end = plain
            self._proven = (
                end == size
                and length == len(self._body)
                and not (chunked or close)
                and (method, target, headers) == (head.method, head.target, head.headers)
            )
        if not self._proven:
            self._size = -1  # as long as nothing that arrives
        return self._proven
