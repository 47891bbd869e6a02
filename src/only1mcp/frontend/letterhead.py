"""The heads of responses as octets, up to Content-Length: most are the same as a moment ago, so they are kept."""

from __future__ import annotations

import time
from typing import Final

from only1mcp.wire.http1_events import Headers
from only1mcp.wire.http1_write import response_bytes

# A head lives for a second at most; one that is longer, or comes when there are as many, is made for itself.
MAX_KEPT: Final = 64
MAX_KEPT_BYTES: Final = 1024

_DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


class Letterhead:
    """Writes the heads of one listener; `kept` are those with the Date of this second."""

    __slots__ = ("_date", "_date_at", "_kept")

    def __init__(self) -> None:
        self._date_at = -1
        self._date = (b"date", b"")
        self._kept: dict[tuple[int, tuple[tuple[bytes, bytes], ...]], bytes] = {}

    def date_field(self) -> tuple[bytes, bytes]:
        """Return the Date field (RFC 9110 section 6.6.1), made anew once a second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = (b"date", _date_of(now))
            self._kept.clear()
        return self._date

    def head(self, status: int, headers: Headers) -> bytes:
        """Return the head of a response, with Date, but for Content-Length and the empty line.

        Raise ValueError for header fields that must not be sent.
        """
        date = self.date_field()
        key = (status, tuple(headers))
        kept = self._kept.get(key)
        if kept is None:
            kept = response_bytes(status, [*headers, date], -1, False, False, b"")[:-2]
            if len(kept) <= MAX_KEPT_BYTES and len(self._kept) < MAX_KEPT:
                self._kept[key] = kept
        return kept


class DatedHead:
    """The head of one connection's responses with status 200 and always the same fields, made anew once a second."""

    __slots__ = ("_headers", "_octets", "_second")

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._octets = b""
        self._second = -1

    def octets(self, letterhead: Letterhead) -> bytes:
        """Return the head but for Content-Length and the empty line."""
        second = int(time.time())
        if second != self._second:
            self._octets = letterhead.head(200, self._headers)
            self._second = second
        return self._octets


def _date_of(unix_s: int) -> bytes:
    """Return an IMF-fixdate (RFC 9110 section 5.6.7), in English whatever the locale."""
    at = time.gmtime(unix_s)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[at.tm_wday],
        at.tm_mday,
        _MONTHS[at.tm_mon - 1],
        at.tm_year,
        at.tm_hour,
        at.tm_min,
        at.tm_sec,
    )
