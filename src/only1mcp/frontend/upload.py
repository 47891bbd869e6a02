"""A request body that comes in pieces: gathered where it is wanted, counted where it is not."""

from __future__ import annotations

from only1mcp.frontend.limits import DISCARD_BYTES


class Upload:
    """The body of the request at hand."""

    __slots__ = ("_data", "_discarded")

    def __init__(self) -> None:
        self._data: bytes | bytearray | None = None
        self._discarded = 0

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        if self._data is None:
            # Mostly the whole body, which then is never copied.
            self._data = data
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += data

    def take(self) -> bytes:
        """Return all that was added, and forget it."""
        data, self._data = self._data, None
        return bytes(data or b"")

    def discard(self, data: bytes) -> bool:
        """Drop a piece that nobody wants; return False when it is more than a connection is worth."""
        self._discarded += len(data)
        return self._discarded <= DISCARD_BYTES

    def reset(self) -> None:
        """The next request begins."""
        self._data = None
        self._discarded = 0
