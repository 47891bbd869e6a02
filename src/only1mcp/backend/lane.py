"""The way past tasks: a small call goes out at once where a connection to the endpoint is idle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, cast

from only1mcp.backend import direct
from only1mcp.backend.base import BackendCall, Done
from only1mcp.backend.connection import HttpConnection
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

    def serve(self, owner: str) -> None:
        """Note whose call is sent; sets `sole` when that need not be told any more."""

    def head_of(self, call: BackendCall) -> bytes | None:
        """Return what `maybe_prepare_post` makes of the headers of the call."""


class Begun(Protocol):
    """A call that waits for its answer: a direct one, or a plain one (`proxy/plain.py`)."""

    def ordinary(self) -> DirectCall:
        """Return it as a direct call."""


class DirectLane:
    """The direct calls of one transport, and the heads of their requests."""

    __slots__ = ("_call_heads", "_closed", "_heads", "_owner", "_revision", "_session_id", "_watch", "pool", "sole")

    def __init__(self, owner: Owner, pool: Pool) -> None:
        self._owner = owner
        self.pool = pool
        self._watch: DeadlineWatch | None = None
        self._closed = False
        # All calls so far have had one owner, so that it has to be told of everyone's.
        self.sole = True
        # By method and name, for the revision and the session that they name.
        self._heads: dict[tuple[str, str | None], bytes] = {}
        # Those of `tools/call` once more, by name.
        self._call_heads: dict[str, bytes] = {}
        self._revision: str | None = None
        self._session_id: str | None = None

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        """Do as `Transport.maybe_begin`."""
        if len(call.message) > MAX_DIRECT_BYTES:
            return None
        head = self._head(call)
        if head is None:
            return None
        connection = self.pool.maybe_acquire()
        if connection is None:
            return None
        begun = DirectCall(self._owner, self.pool, self.watch(), call, connection, done)
        begun.begin(head)
        return begun.cancel

    def serve(self, owner: str) -> None:
        """Say whose call is sent, where that is asked (`sole`)."""
        self._owner.serve(owner)

    def watch(self) -> DeadlineWatch:
        """Return the watch over the deadlines of its calls."""
        if self._watch is None:
            self._watch = DeadlineWatch()
        return self._watch

    def head_of_call(self, tool: str) -> bytes | None:
        """Return the head with which a `tools/call` of that name was sent before; None when there was none."""
        if self._closed:
            return None
        self._forget_former()
        return self._call_heads.get(tool)

    def resume(self, call: BackendCall, connection: HttpConnection, deadline: float, done: Done) -> DirectCall:
        """Return a call that another has begun on that connection, which is to hear of its answer from now on."""
        direct = DirectCall(self._owner, self.pool, self.watch(), call, connection, done)
        direct.take_over(deadline)
        return direct

    def calls(self) -> list[DirectCall]:
        """Return the calls that wait for their answers, the oldest first; those that were plain are so no more."""
        calls = [] if self._watch is None else cast("list[Begun]", self._watch.calls())
        # One that was plain is behind younger ones in the watch.
        return sorted((call.ordinary() for call in calls), key=lambda direct: int(direct.call.id))

    def close(self) -> None:
        """End the calls that are left."""
        self._closed = True
        if self._watch is not None:
            self._watch.close()

    def _forget_former(self) -> None:
        """Forget the heads that name another revision or session than the one at hand."""
        owner = self._owner
        if owner.revision is not self._revision or owner.session_id is not self._session_id:
            self._revision, self._session_id = owner.revision, owner.session_id
            self._heads.clear()
            self._call_heads.clear()

    def _head(self, call: BackendCall) -> bytes | None:
        owner = self._owner
        if call.param_headers:
            return owner.head_of(call)
        self._forget_former()
        key = (call.method, call.name)
        head = self._heads.get(key)
        if head is None:
            head = owner.head_of(call)
            if head is not None and len(head) <= MAX_HEAD_BYTES:
                if len(self._heads) >= MAX_HEADS:
                    self._heads.clear()
                    self._call_heads.clear()
                self._heads[key] = head
                if call.method == "tools/call" and call.name is not None:
                    self._call_heads[call.name] = head
        return head
