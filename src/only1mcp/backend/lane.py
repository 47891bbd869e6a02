"""The way past tasks: a small call goes out at once where a connection to the endpoint is idle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, cast

from only1mcp.backend import direct
from only1mcp.backend.base import BackendCall, Done
from only1mcp.backend.deadline import DeadlineWatch
from only1mcp.backend.direct import DirectCall
from only1mcp.backend.pool import Pool

# Larger requests are written in slices, by a task.
MAX_DIRECT_BYTES: Final = 64 * 1024
# Heads kept for calls that look alike; URIs are the clients' to choose.
MAX_HEADS: Final = 1024
MAX_HEAD_BYTES: Final = 2048


class Owner(direct.Owner, Protocol):
    """The transport, as its lane sees it."""

    revision: str | None
    session_id: str | None

    def head_of(self, call: BackendCall) -> bytes | None:
        """Return what `maybe_prepare_post` makes of the headers of the call."""


class DirectLane:
    """The direct calls of one transport, and the heads of their requests."""

    __slots__ = ("_heads", "_owner", "_pool", "_revision", "_session_id", "_watch")

    def __init__(self, owner: Owner, pool: Pool) -> None:
        self._owner = owner
        self._pool = pool
        self._watch: DeadlineWatch | None = None
        # By method and name, for the revision and the session that they name.
        self._heads: dict[tuple[str, str | None], bytes] = {}
        self._revision: str | None = None
        self._session_id: str | None = None

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        """Do as `Transport.maybe_begin`."""
        if len(call.message) > MAX_DIRECT_BYTES:
            return None
        head = self._head(call)
        if head is None:
            return None
        connection = self._pool.maybe_acquire()
        if connection is None:
            return None
        if self._watch is None:
            self._watch = DeadlineWatch()
        begun = DirectCall(self._owner, self._pool, self._watch, call, connection, done)
        begun.begin(head)
        return begun.cancel

    def calls(self) -> list[DirectCall]:
        """Return the calls that wait for their answers, the oldest first."""
        return [] if self._watch is None else cast("list[DirectCall]", self._watch.calls())

    def close(self) -> None:
        """End the calls that are left."""
        if self._watch is not None:
            self._watch.close()

    def _head(self, call: BackendCall) -> bytes | None:
        owner = self._owner
        if call.param_headers:
            return owner.head_of(call)
        if owner.revision is not self._revision or owner.session_id is not self._session_id:
            self._revision, self._session_id = owner.revision, owner.session_id
            self._heads.clear()
        key = (call.method, call.name)
        head = self._heads.get(key)
        if head is None:
            head = owner.head_of(call)
            if head is not None and len(head) <= MAX_HEAD_BYTES:
                if len(self._heads) >= MAX_HEADS:
                    self._heads.clear()
                self._heads[key] = head
        return head
