"""The transport of revision 2024-11-05, "HTTP with SSE": one stream that brings every message, a POST for each of ours.

A session is what its stream is: it begins with GET and ends with it, and only whoever opened it may post to it. What is
posted is served as the messages of a client that launched us are (`frontend/messages.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from only1mcp.errors import INVALID_REQUEST, Overloaded, RequestRefused
from only1mcp.frontend.http_exchange import Application
from only1mcp.frontend.messages import MessageClient
from only1mcp.wire import sse

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

STREAM_PATH: Final = "/sse"
MESSAGES_PATH: Final = "/messages"
# The query that every message is posted with: whoever knows it may speak in the session, if it is the same principal.
_QUERY: Final = "session_id="
SECRET_BYTES: Final = 24
# Each holds a connection, a few kilobytes and whatever its client leaves unread. Clients that are nobody in particular
# are told apart by their address.
MAX_SESSIONS: Final = 1024
# A connection carries one request at a time elsewhere; here one stream may have any number of calls.
MAX_CALLS: Final = 256
# Requests wait while this much of the answers to others is unread, so that a client that is slow slows itself.
SLOW_BYTES: Final = 1 << 20
# A client that leaves more unread, and what it already holds the largest message of, is cut off: that is 256 answers as
# large as those that do not wait for their client.
MAX_UNREAD_BYTES: Final = 16 << 20
# How long calls that are stopped when we shut down have to answer with an error.
STOP_S: Final = 1.0


class EventStream(Protocol):
    """The response to GET, kept alive while nothing is said."""

    def open(self, first: bytes) -> None: ...

    def send(self, message: bytes) -> None: ...

    def close(self) -> None:
        """End it in order."""

    def cut(self) -> None:
        """End it so that the client sees that something is missing."""

    @property
    def waiting_bytes(self) -> int: ...

    async def drain(self) -> None: ...


class SseSession:
    """One stream and what is said on it, from `begin` until `over`; the `Sink` of its own messages.

    `vouched` is who opened it for the application, `owner` the id of that, `caller` who it counts for. `on_end` is
    called once.
    """

    def __init__(
        self,
        app: Application,
        id: str,
        vouched: Any,
        *,
        owner: str,
        caller: str,
        max_depth: int,
        on_end: Callable[[SseSession], None],
    ) -> None:
        self.id = id
        self.owner = owner
        self.caller = caller
        self.over = False
        # Posts that wait until the client has read more.
        self.waiting = 0
        self._on_end = on_end
        self._stream: EventStream | None = None
        # Of the messages that the client has not read, one may be as large as this.
        self._largest = 0
        self._client = MessageClient(
            app,
            self,
            vouched,
            path=MESSAGES_PATH.encode(),
            peer="",
            max_depth=max_depth,
            stateless=False,
            on_expired=self.close,
        )

    def __repr__(self) -> str:
        return f"<SseSession owner={self.owner} calls={self._client.answering} over={self.over}>"

    @property
    def vouched(self) -> Any:
        """Who has posted last."""
        return self._client.vouched

    def begin(self, stream: EventStream) -> None:
        """Begin the stream: the first event says where messages go."""
        self._stream = stream
        stream.open(sse.encode(f"{MESSAGES_PATH}?{_QUERY}{self.id}".encode(), "endpoint"))

    def check_room(self) -> None:
        """Raise `Overloaded` where another request would be one too many."""
        if self._client.answering + self.waiting >= MAX_CALLS:
            raise Overloaded("too many requests in this session", data={"hint": "wait for some of the answers"})

    def take(self, text: bytes, message: Envelope, vouched: Any, peer: str) -> None:
        """Serve a message that `vouched` has posted; raise `RequestRefused` (404) when the session is over."""
        if self.over:
            raise _unknown()
        self._client.vouched = vouched
        self._client.peer = peer
        self._client.hear(text, message)

    async def finish(self, timeout_s: float) -> None:
        """We shut down: let calls end in that time, then end them with an error, and the stream with them."""
        for stop_s in (timeout_s, STOP_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(stop_s):
                    await self._client.idle()
            self._client.stop()
        self.close()

    def close(self) -> None:
        """End the stream in order, and the session with it."""
        if self._stream is not None:
            self._stream.close()

    def stream_ended(self, _stream: EventStream) -> None:
        """The stream has ended, however: calls are cancelled, nobody could be told of them."""
        if not self.over:
            self.over = True
            self._stream = None
            self._client.close()
            self._on_end(self)

    # What messages are sent to.

    def send(self, message: bytes) -> None:
        stream = self._stream
        if stream is None or self.over:
            return
        waiting = stream.waiting_bytes
        if waiting > MAX_UNREAD_BYTES + self._largest:
            stream.cut()
            return
        if waiting <= SLOW_BYTES:
            self._largest = 0
        self._largest = max(self._largest, len(message))
        stream.send(message)

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._stream is None else self._stream.waiting_bytes

    async def drain(self) -> None:
        if self._stream is not None:
            await self._stream.drain()


class LegacySse:
    """All sessions of one process. `worker` is its number, which every session's id begins with."""

    def __init__(self, app: Application, *, worker: int = 0) -> None:
        self._app = app
        self._worker = worker
        self._sessions: dict[str, SseSession] = {}
        self._of_caller: dict[str, int] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, vouched: Any, *, owner: str, caller: str, max_depth: int) -> SseSession:
        """Return a new session, whose stream is begun next; raise `Overloaded`."""
        if self._draining:
            raise Overloaded("the proxy is shutting down", data={"hint": "connect again after a moment"})
        count = self._of_caller.get(caller, 0)
        if count >= MAX_SESSIONS:
            raise Overloaded("too many streams", data={"hint": "close one, or send more requests in one"})
        id = f"{self._worker}.{secrets.token_urlsafe(SECRET_BYTES)}"
        session = SseSession(
            self._app, id, vouched, owner=owner, caller=caller, max_depth=max_depth, on_end=self._ended
        )
        self._sessions[session.id] = session
        self._of_caller[caller] = count + 1
        return session

    def find(self, target: bytes, owner: str) -> SseSession:
        """Return the session that a POST names; raise `RequestRefused`, 400 where it names none, 404 for another's."""
        _, _, query = target.decode("latin-1").partition("?")
        ids = [each.removeprefix(_QUERY) for each in query.split("&") if each.startswith(_QUERY)]
        if len(ids) != 1:
            raise RequestRefused(
                f"expected one {_QUERY[:-1]} in the query: messages are posted to where the stream's first event says",
                code=INVALID_REQUEST,
            )
        session = self._sessions.get(ids[0])
        if session is None or session.owner != owner:
            raise _unknown()
        return session

    async def drain(self, timeout_s: float) -> None:
        """Open no more sessions, and end those there are when nothing goes on in them, at the latest then."""
        self._draining = True
        await asyncio.gather(*(session.finish(timeout_s) for session in list(self._sessions.values())))

    def _ended(self, session: SseSession) -> None:
        del self._sessions[session.id]
        left = self._of_caller[session.caller] - 1
        if left:
            self._of_caller[session.caller] = left
        else:
            del self._of_caller[session.caller]


def _unknown() -> RequestRefused:
    return RequestRefused("there is no such session; open the stream again", code=INVALID_REQUEST, http_status=404)
