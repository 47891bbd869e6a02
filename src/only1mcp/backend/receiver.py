"""Who began a request on a connection without waiting for its answer, as the connection sees them."""

from __future__ import annotations

from typing import Protocol

from only1mcp.wire.http1_events import ResponseHead


class Receiver(Protocol):
    """Who began a request without waiting for it."""

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """The answer is here, whole and plain."""

    def begun(self) -> None:
        """The first bytes of any other answer are here: go on with `next_event`."""

    def lost(self, reason: str) -> None:
        """The connection ended before any byte of the answer."""


class Shortcut(Protocol):
    """Who began a request and takes a plain answer as it comes."""

    def maybe_answered(self, data: bytes, size: int) -> bool:
        """Take an answer: whole, one JSON text with status 200 and a head of `size` octets.

        Call `took_answer` first. False where it must be looked at closely: then nothing has changed.
        """

    def ordinary(self) -> Receiver:
        """Become a receiver, because the answer is anything else, or there will be none."""
