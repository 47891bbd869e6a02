"""What outlives an exchange: requests to clients, parked calls, sessions' soft state, streams, listeners.

The protocols are the borders between the modules behind them; `Quiet` serves each of them by refusing, as long as there
is nothing better. One desk per process, reached as `exchange.snapshot.desk`, and only by what is rare: a plain call
never looks here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from only1mcp.errors import METHOD_NOT_FOUND, Only1MCPError, RequestRefused
from only1mcp.proxy.asking import Asking
from only1mcp.proxy.streams import Unread

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.frontend.session import Session
    from only1mcp.proxy.call import Answer
    from only1mcp.proxy.catalog import Catalog
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.forward import Forwarding
    from only1mcp.proxy.route import Target
    from only1mcp.proxy.tasks import Place

Work = Coroutine[Any, Any, None] | None


class Asker(Protocol):
    """Asks handshake clients (`proxy/asker.py`)."""

    def relay(self, exchange: Exchange, asking: Asking) -> None:
        """Ask the client of the exchange, on its response stream, what a handshake backend asks; never raises."""

    def declared(self, session: Session) -> bytes:
        """Return the capabilities (a JSON text) with which a stateless backend is asked for this client."""

    def wants_rounds(self, exchange: Exchange, answer: Answer) -> bool:
        """Whether a stateless backend's answer to a handshake client's request is `input_required`."""

    async def rounds(self, exchange: Exchange, target: Target, method: str, answer: Answer) -> Answer:
        """Ask the client and send the request again until there is an answer; raise `BackendError` if none."""

    def answered(self, session: Session, message: Envelope) -> None:
        """A client posted a response; what answers nothing that this session was asked reaches nobody."""

    def notified(self, session: Session, message: Envelope) -> bool:
        """A client posted `notifications/progress` or `/cancelled`; False: it concerns nothing that we asked."""

    def cancelled(self, exchange: Exchange, message: Envelope) -> bool:
        """A backend cancels a request of its own on the stream of this exchange."""

    def explained(self, exchange: Exchange, body: bytes) -> bytes:
        """Return a handshake backend's error as this handshake client may be given it: -32042 with ids of ours."""

    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        """A handshake backend says that the user has done what an URL asked for.

        `owner` is the session whose connection said so, None where it serves many.
        """

    def over(self, exchange: Exchange) -> None:
        """The exchange has its answer, or will have none: withdraw what its client was still asked."""

    def ended(self, session_id: str) -> None:
        """The session was deleted."""

    async def aclose(self) -> None:
        """Withdraw everything."""


class Lot(Protocol):
    """Parks calls of stateless clients (`proxy/parking.py`)."""

    def takes(self, forwarding: Forwarding) -> bool:
        """Look at a stateless client's request for a handshake backend before it begins.

        True: it was a retry, and its parked call goes on instead. Raise `RequestRefused` (-32602) for a `requestState`
        that is forged, late, used, of another principal, or of another request.
        """

    def asked(self, forwarding: Forwarding, asking: Asking, relay: Relay) -> None:
        """A handshake backend asks in the middle of a stateless client's call; never raises."""

    def cancelled(self, forwarding: Forwarding, message: Envelope) -> bool:
        """A backend cancels, on the stream of this call, a request of its own; False: it asked nothing like that."""

    def settles(self, forwarding: Forwarding, outcome: Answer | Only1MCPError) -> bool:
        """Hear what became of a call that `takes` has seen; True: the client is told by us, now or later."""

    async def aclose(self) -> None:
        """Give up every parked call."""


class Relay(Protocol):
    """What a call says before its answer, on its way to one exchange or another."""

    def attach(self, exchange: Exchange, progress_token: bytes | None) -> None: ...


class SessionDesk(Protocol):
    """Soft state and streams of handshake sessions (`proxy/sessions.py`, `proxy/journal.py`)."""

    def open_stream(self, exchange: Exchange) -> None:
        """GET: open the session's stream, or resume the one that Last-Event-ID names; raise `RequestRefused`."""

    def set_level(self, exchange: Exchange, message: Envelope) -> Work:
        """`logging/setLevel`."""

    def level(self, session: Session) -> str | None:
        """Return the level that the session has set, None where it has not."""

    def log_rank(self, session: Session) -> int | None:
        """Return the least rank of messages the session is given, None where nothing has to be filtered."""

    def journal(self, exchange: Exchange) -> Journal | None:
        """Return what makes a response stream resumable, None where it cannot be."""

    def ended(self, session_id: str) -> None:
        """The session was deleted."""

    async def aclose(self) -> None:
        """Give up what goes on for clients that have left."""


class Journal(Protocol):
    """What a response stream must be able to say again. Progress and log messages pass by it."""

    @property
    def priming(self) -> bytes:
        """The events that a stream begins with: an id without data, and `retry`."""

    def keep(self, message: bytes) -> bytes:
        """Return the event, with an id, that carries the message, which is kept until the journal ends."""

    def detached(self, abandon: Callable[[], None]) -> bool:
        """The client has gone, or says that it does not wait; True: the work goes on, since it may come back.

        `abandon` is called when it has not come back in time.
        """

    def give_up(self) -> None:
        """What comes next cannot be said again: the stream goes on without a journal."""

    def end(self) -> None:
        """The last message was kept."""


class Hub(Protocol):
    """Who wants to hear of what (`proxy/hub.py`)."""

    def listen(self, exchange: Exchange, message: Envelope) -> None:
        """`subscriptions/listen`: begin the stream; raise `RequestRefused`."""

    def attach(self, exchange: Exchange, last_event_id: str | None) -> None:
        """Make this GET exchange the session's stream of notifications."""

    def subscribe(self, exchange: Exchange, message: Envelope, *, on: bool) -> Work:
        """`resources/subscribe` and `resources/unsubscribe`."""

    def catalog_changed(self, catalog: Catalog) -> None:
        """The merged view may be another; those who asked are told once for any number of changes at a time."""

    def updated(self, group: str, uri: str, owner: str = "") -> None:
        """A backend says that this resource of its own has changed: for all, or for the owner of one instance of it."""

    def tell(self, session_id: str, message: bytes) -> bool:
        """Say this on the stream of the session; False: it has none."""

    def ended(self, session_id: str) -> None: ...

    async def aclose(self) -> None:
        """End every stream in order."""


class TaskDesk(Protocol):
    """Ids of tasks (`proxy/tasks.py`)."""

    def route(self, exchange: Exchange, message: Envelope, method: str) -> Target:
        """Return who holds the task that `tasks/get` and its like name.

        Raise `RequestRefused`: -32601 where no backend has tasks, -32021 for a stateless client that has not declared
        them, -32602 for an id that is none of this client's.
        """

    def outward(self, exchange: Exchange, method: str, body: bytes) -> bytes:
        """Return the answer with the id by which this client knows the task, if it is about one.

        Raise `RequestRefused` (-32021) for a task that a stateless client has not declared to want, `BackendError`
        for an id that cannot be one.
        """

    def relayed(self, exchange: Exchange, request: Envelope) -> Envelope:
        """Return what a backend asks in the middle of `tasks/result` with the id by which its client knows the task."""

    def find(self, exchange: Exchange, id: str) -> Place | None:
        """Return where the task is that this client knows by `id`; None: it has none like that."""


class Quiet:
    """Serves every protocol above by refusing."""

    def relay(self, exchange: Exchange, asking: Asking) -> None:
        asking.refuse("this client does not serve requests from servers")

    def declared(self, session: Session) -> bytes:
        return b"{}"

    def wants_rounds(self, exchange: Exchange, answer: Answer) -> bool:
        return False

    async def rounds(self, exchange: Exchange, target: Target, method: str, answer: Answer) -> Answer:
        return answer

    def answered(self, session: Session, message: Envelope) -> None:
        return None

    def notified(self, session: Session, message: Envelope) -> bool:
        return False

    def cancelled(self, exchange: Exchange | Forwarding, message: Envelope) -> bool:
        return False

    def explained(self, exchange: Exchange, body: bytes) -> bytes:
        return body

    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        return None

    def over(self, exchange: Exchange) -> None:
        return None

    def takes(self, forwarding: Forwarding) -> bool:
        return False

    def asked(self, forwarding: Forwarding, asking: Asking, relay: Relay) -> None:
        asking.refuse("this client does not serve requests from servers")

    def settles(self, forwarding: Forwarding, outcome: Answer | Only1MCPError) -> bool:
        return False

    def open_stream(self, exchange: Exchange) -> None:
        exchange.empty(405, [(b"allow", b"POST, DELETE")])

    def set_level(self, exchange: Exchange, message: Envelope) -> Work:
        raise _unserved(message)

    def level(self, session: Session) -> str | None:
        return None

    def log_rank(self, session: Session) -> int | None:
        return None

    def journal(self, exchange: Exchange) -> Journal | None:
        return None

    def ended(self, session_id: str) -> None:
        return None

    def listen(self, exchange: Exchange, message: Envelope) -> None:
        raise _unserved(message)

    def attach(self, exchange: Exchange, last_event_id: str | None) -> None:
        self.open_stream(exchange)

    def subscribe(self, exchange: Exchange, message: Envelope, *, on: bool) -> Work:
        raise _unserved(message)

    def catalog_changed(self, catalog: Catalog) -> None:
        return None

    def updated(self, group: str, uri: str, owner: str = "") -> None:
        return None

    def tell(self, session_id: str, message: bytes) -> bool:
        return False

    async def aclose(self) -> None:
        return None

    def route(self, exchange: Exchange, message: Envelope, method: str) -> Target:
        raise _unserved(message)

    def outward(self, exchange: Exchange, method: str, body: bytes) -> bytes:
        return body

    def relayed(self, exchange: Exchange, request: Envelope) -> Envelope:
        return request

    def find(self, exchange: Exchange, id: str) -> Place | None:
        return None


def _unserved(message: Envelope) -> RequestRefused:
    return RequestRefused(f"the method {message.method!r:.80} is not served", code=METHOD_NOT_FOUND, http_status=404)


_QUIET = Quiet()


@dataclass(slots=True)
class Desk:
    """All of it. `worker` is the number that every handle carries which only this process can honour."""

    asker: Asker = _QUIET
    lot: Lot = _QUIET
    sessions: SessionDesk = _QUIET
    hub: Hub = _QUIET
    tasks: TaskDesk = _QUIET
    unread: Unread = field(default_factory=Unread)
    worker: int = 0
    # Who else is told that a session has ended, and that its client has other roots: the registry of backends.
    on_session_ended: Callable[[str], None] = lambda _: None
    on_roots_changed: Callable[[str], None] = lambda _: None

    def session_ended(self, session_id: str) -> None:
        """Forget everything that was kept for a session."""
        self.asker.ended(session_id)
        self.sessions.ended(session_id)
        self.hub.ended(session_id)
        self.on_session_ended(session_id)

    async def aclose(self) -> None:
        await self.hub.aclose()
        await self.asker.aclose()
        await self.lot.aclose()
        await self.sessions.aclose()
