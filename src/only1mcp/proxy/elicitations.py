"""The ids of URL elicitations: what a handshake backend calls one, what a session calls it, and who hears of its end.

MCP 2025-11-25 "URL Mode Elicitation": an id is the server's own, and a client of many servers behind one proxy would
meet the same one twice. So each session gets ids of ours, and `notifications/elicitation/complete` with them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from only1mcp.proxy.exchange import Exchange

# An elicitation that is never completed is remembered until its session ends; of more than these the oldest is
# forgotten, whose client then is not told that it is complete.
MAX_OF_SESSION: Final = 64
MAX_ELICITATIONS: Final = 4_096
# A longer id would only fill the memory; it is passed as ours all the same, and its completion as nobody's.
MAX_ID_CHARS: Final = 256

# The backend, and the id it gave.
Key = tuple[str, str]


class Elicitation:
    """One elicitation of one session; `exchange` is the call in the middle of which it was asked, while that runs."""

    __slots__ = ("exchange", "id")

    def __init__(self, exchange: Exchange | None) -> None:
        self.exchange = exchange
        self.id = os.urandom(16).hex()


class Elicitations:
    """Those that have not been completed, by session."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[Key, Elicitation]] = {}
        # Whom a backend means by an id, and all of them in the order in which they were begun.
        self._holders: dict[Key, dict[str, None]] = {}
        self._ages: dict[tuple[str, Key], None] = {}

    def __len__(self) -> int:
        return len(self._ages)

    def give(self, backend: str, theirs: str, session: str, exchange: Exchange | None) -> str:
        """Return the id under which this session is asked, the same one for the same elicitation."""
        if len(theirs) > MAX_ID_CHARS:
            return Elicitation(None).id
        key = (backend, theirs)
        own = self._sessions.setdefault(session, {})
        known = own.get(key)
        if known is None:
            if len(own) >= MAX_OF_SESSION:
                self._forget(session, next(iter(own)))
            elif len(self._ages) >= MAX_ELICITATIONS:
                self._forget(*next(iter(self._ages)))
            known = Elicitation(exchange)
            self._sessions.setdefault(session, own)[key] = known
            self._holders.setdefault(key, {})[session] = None
            self._ages[session, key] = None
        elif exchange is not None:
            known.exchange = exchange
        return known.id

    def take(self, backend: str, theirs: str, owner: str | None) -> tuple[str, Elicitation] | None:
        """Return the session that was asked, and what it knows of it; it is complete, and forgotten.

        `owner` is the only session that the backend can mean, None where it serves many. What several could be meant by
        is nobody's.
        """
        key = (backend, theirs)
        holders = self._holders.get(key, {})
        session = owner if owner is not None else next(iter(holders)) if len(holders) == 1 else None
        if session is None or session not in holders:
            return None
        found = self._sessions[session][key]
        self._forget(session, key)
        return session, found

    def over(self, session: str, exchange: Exchange) -> None:
        """The call has ended: nothing more is said on its stream."""
        for each in self._sessions.get(session, {}).values():
            if each.exchange is exchange:
                each.exchange = None

    def ended(self, session: str) -> None:
        for key in list(self._sessions.get(session, {})):
            self._forget(session, key)

    def _forget(self, session: str, key: Key) -> None:
        own = self._sessions[session]
        del own[key]
        if not own:
            del self._sessions[session]
        holders = self._holders[key]
        del holders[session]
        if not holders:
            del self._holders[key]
        del self._ages[session, key]
