"""What a backend says to one client and not to all, on its way to that client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from only1mcp.wire.levels import RANK, rank_of

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.proxy.desk import Desk


class ClientAudience:
    """Serves `backend.unasked.Audience`; `level_of` is the level that a session has set, None where it has not."""

    def __init__(self, desk: Desk, level_of: Callable[[str], str | None]) -> None:
        self._desk = desk
        self._level_of = level_of

    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        self._desk.asker.completed(backend, owner, elicitation_id)

    def updated(self, group: str, owner: str, uri: str) -> None:
        self._desk.hub.updated(group, uri, owner)

    def said(self, owner: str, message: Envelope) -> None:
        """Say it on the stream of the session; a principal without sessions has none."""
        level = self._level_of(owner)
        if level is None or rank_of(message) >= RANK[level]:
            self._desk.hub.tell(owner, message.data)
