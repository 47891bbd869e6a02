"""The one interface that stdio children and HTTP servers share: a request goes out, its one response comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from only1mcp import __version__
from only1mcp._fast import Envelope
from only1mcp.errors import BackendError
from only1mcp.wire.eras import Caller

if TYPE_CHECKING:
    from only1mcp.backend.era import Peer
    from only1mcp.backend.lane import DirectLane

# What a stateless request says of its sender. No capability is declared: nothing that a backend asks is relayed.
CALLER = Caller(client_info=b'{"name":"only1mcp","version":"' + __version__.encode() + b'"}')

OnMessage = Callable[[Envelope], None]


class Flow(Protocol):
    """The way to whoever reads what a call brings."""

    @property
    def must_drain(self) -> bool:
        """Whether so much waits for the reader that `drain` comes before more."""

    async def drain(self) -> None: ...


class Reader(Flow, Protocol):
    """Who takes the progress and log messages of a call's own stream, many at once."""

    @property
    def progress_token(self) -> bytes | None:
        """The reader's own token, which takes the place of the call's id; without one no progress is relayed."""

    @property
    def wants_logs(self) -> bool: ...

    def take_events(self, events: bytes) -> None:
        """Take messages, each an event by itself and with the reader's token."""


class Clock(Protocol):
    """The time that a call has left; that for which its reader or its client makes it wait is not the backend's.

    Stops are counted: the clock goes on when every one of them is over.
    """

    def stop(self) -> None: ...

    def go_on(self) -> None: ...


class Asked(Protocol):
    """Who is asked what a backend wants to know in the middle of a call."""

    @property
    def owner(self) -> str:
        """Whose call it is: the id of a session, or of a principal where there are no sessions."""

    @property
    def in_session(self) -> bool:
        """Whether all calls of the owner come from one client."""

    def asked(self, message: Envelope, clock: Clock | None) -> None:
        """Take a request of the backend; never raises. `clock` is that of the call, None where it has ended."""


class Interest(Protocol):
    """What clients want of a backend beyond calls: resources they subscribe to, how much it shall log."""

    def apply(self, transport: Transport, peer: Peer) -> None:
        """Ask for it over a connection that has just come up; never raises, and does its work in tasks of its own."""


class Passage(Flow, Protocol):
    """Where a result that is too large to be gathered goes as it comes, with the id that its reader knows."""

    @property
    def id(self) -> bytes:
        """The JSON text that takes the place of the call's id."""

    def begin_passing(self, length: int | None) -> bool:
        """Get ready for a result of `length` octets, None when that is not known; False where it must come whole."""

    def let_pass(self, parts: list[bytes | memoryview]) -> None: ...


@dataclass(frozen=True, slots=True)
class Passed:
    """What a call comes to whose result has gone to its passage, complete but for the end of the response."""


PASSED = Passed()
Outcome = Envelope | Passed
Done = Callable[[Outcome | BackendError], None]


class BackendCall:
    """One JSON-RPC request on its way to an endpoint.

    `message` is the complete request whose id is the JSON text `id`, unique among the requests outstanding on this
    endpoint. `name` and `param_headers` are what the stateless era mirrors into `Mcp-Name` (plain, unencoded) and
    `Mcp-Param-*` headers (already encoded); transports without headers ignore them. `timeout_s` bounds the time until
    the answer is complete, waiting for a passage not counted; None means no limit (subscriptions). `on_message`
    receives every notification that arrives on this request's own stream, in order, before `call` returns, less those
    that go to the `reader`, many at once; server-to-client requests go to `asked`, where there is one, else to
    `on_message` too. Where messages come faster than the `reader` takes them, the transport waits if it can. A large
    result may go to the `passage` piece by piece: when the call fails after that, the reader must be shown that the
    end is missing.
    """

    __slots__ = (
        "asked",
        "id",
        "message",
        "method",
        "name",
        "on_message",
        "param_headers",
        "passage",
        "reader",
        "timeout_s",
    )

    def __init__(
        self,
        method: str,
        message: bytes,
        id: bytes,
        timeout_s: float | None,
        name: str | None = None,
        param_headers: tuple[tuple[bytes, bytes], ...] = (),
        on_message: OnMessage | None = None,
        reader: Reader | None = None,
        passage: Passage | None = None,
        asked: Asked | None = None,
    ) -> None:
        self.method = method
        self.message = message
        self.id = id
        self.timeout_s = timeout_s
        self.name = name
        self.param_headers = param_headers
        self.on_message = on_message
        self.reader = reader
        self.passage = passage
        self.asked = asked


class Transport(ABC):
    """One endpoint of a backend: carries messages, knows nothing of what they mean.

    `revision` (None until the era is known) and `session_id` are set by `backend.era.establish` and by the transport
    itself (an HTTP answer may carry a session id); HTTP sends them as headers. `on_message` receives what belongs to no
    request of ours: notifications and server-to-client requests of a stdio child, or of an HTTP server's own stream.
    `on_lost` is called once, with the reason, when a started endpoint dies without `aclose`.
    """

    revision: str | None = None
    session_id: str | None = None
    # Of transports whose small calls go out at once.
    lane: DirectLane | None = None
    on_message: OnMessage | None = None
    on_lost: Callable[[str], None] | None = None

    @abstractmethod
    async def start(self) -> None:
        """Spawn the child, or do nothing where connections open on demand. Raise `BackendUnavailable`."""

    @abstractmethod
    async def call(self, call: BackendCall) -> Envelope:
        """Send the request and return its response, a result or a JSON-RPC error, whose id equals `call.id`.

        Raise `BackendUnavailable` when no byte of the request left us, `BackendTimeout` after `timeout_s`,
        `BackendRefused` for an HTTP error without a JSON-RPC body, `BackendAnswerError` for anything else that is not
        an answer. When the awaiting task is cancelled the request is cancelled at the backend as its revision and
        transport prescribe.
        """

    async def forward(self, call: BackendCall) -> Outcome:
        """Do as `call`, but a large result may go to the passage of the call instead."""
        return await self.call(call)

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        """Send the request at once if that needs no waiting, else return None, with nothing done.

        `done` is called once, later, with what `forward` would return or raise. The function that is returned cancels
        the request as the cancellation of `call` does; `done` is not called after it.
        """
        return None

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """Send a notification or a response to a server-to-client request; raise `BackendError` if it cannot leave."""

    @abstractmethod
    async def listen(self) -> None:
        """Hold open the stream on which a handshake-era HTTP server speaks unasked; return when there is none."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the session where there is one, close every connection, stop the child; never raises, may be repeated."""
