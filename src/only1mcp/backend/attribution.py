"""Whose call a child's request belongs to: on a pipe that many share nothing names it, so it is known or refused."""

from __future__ import annotations

from collections.abc import Reversible
from typing import TYPE_CHECKING, Final

from only1mcp.backend.base import Asked
from only1mcp.backend.stdio_lane import StdioCall
from only1mcp.wire.asks import MULTI_ROUND

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

NOT_OURS: Final = "the request belongs to no call of one client; see instances: per_session"
# Requests of one call that its child may call off later; what a child asks beyond them it cannot.
MAX_OPEN_ASKS: Final = 64


class Attribution:
    """Knows the one owner whom a child has served since its start, and that there was another.

    What a child learnt from one client it may ask about at any time later. So a request is passed on only while the
    child has served nobody else, and only into a call that is waiting for it.
    """

    def __init__(self) -> None:
        self._owner: str | None = None
        self.shared = False

    def serve(self, asked: Asked) -> bool:
        """Note whose call goes to the child; return whether that need not be told any more."""
        if not self.shared:
            owner = asked.owner
            if self._owner is None:
                self._owner = owner
            self.shared = owner != self._owner
        return self.shared

    def ask(self, begun: StdioCall, message: Envelope) -> None:
        """Ask whoever made the call what its child asks."""
        asked, id = begun.call.asked, message.id
        assert asked is not None
        if begun.asks is None:
            begun.asks = set()
        if id is not None and len(begun.asks) < MAX_OPEN_ASKS:
            begun.asks.add(id)
        asked.asked(message, begun)

    def find(self, calls: Reversible[StdioCall]) -> StdioCall | None:
        """Return the outstanding call that may be asked, the newest of them, None where it is not certain.

        The calls of one session have one client. Those of a principal without sessions may come from several, so that
        such a call must be the only one.
        """
        if self.shared:
            return None
        newest = None
        for begun in reversed(calls):
            asked = begun.call.asked
            if asked is None or begun.call.method not in MULTI_ROUND:
                continue
            if asked.in_session:
                return begun
            if newest is not None:
                return None
            newest = begun
        return newest
