"""What carries one client's call to a backend: the endpoint that all share, or an instance of the client's own."""

from __future__ import annotations

from typing import Protocol

from only1mcp._fast import Envelope
from only1mcp.backend.base import BackendCall, Outcome
from only1mcp.backend.era import Peer
from only1mcp.backend.replies import Replies


class Line(Protocol):
    """`Endpoint` is one (instances: shared), `backend.instances.Instance` is another (per_session)."""

    id: str
    peer: Peer | None

    @property
    def replies(self) -> Replies:
        """The way back over the connection at hand."""

    def next_id(self) -> bytes:
        """Return a JSON-RPC id, unique on this line."""

    async def call(self, call: BackendCall) -> Outcome:
        """Carry one call; raise `BackendError`."""

    def hear(self, message: Envelope) -> bool:
        """Take what concerns the backend and no client; False: not for it."""
