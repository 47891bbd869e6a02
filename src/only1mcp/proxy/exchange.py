"""One client request and everything done for it until its last byte."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from only1mcp.config.schema import Config
from only1mcp.errors import Only1MCPError, error_message
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.runner import advice_headers
from only1mcp.frontend.session import Session
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.cache import Key
from only1mcp.proxy.capabilities import offers_tasks
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.desk import Desk, Journal
from only1mcp.proxy.group import Group
from only1mcp.proxy.pages import Pages
from only1mcp.wire import sse
from only1mcp.wire.http1_events import Headers
from only1mcp.wire.mcp import Era

if TYPE_CHECKING:
    from collections.abc import Mapping

    from only1mcp._fast.envelope import Envelope
    from only1mcp.proxy.forward import Forwarding
    from only1mcp.proxy.route import Route

JSON = (b"content-type", b"application/json")
# A longer body is sent beside its head and not copied behind it.
COPIED_BYTES = 64 * 1024
# Interim messages are dropped while a client reads so slowly that this much waits for it, unless their sender waits.
MAX_WAITING_BYTES = 1 << 20


def forget(http: HttpExchange) -> None:
    """Be the `on_finish` of an exchange that is no request of its own: neither counted nor logged."""
    http.state = http.on_finish = None


class Snapshot:
    """Configuration, backends and catalog at one moment; replaced whole, never changed."""

    __slots__ = (
        "catalog",
        "config",
        "desk",
        "groups",
        "mark",
        "max_depth",
        "max_in_flight",
        "pages",
        "path",
        "plain",
        "prompts",
        "request_s",
        "rewrites",
        "rewrites_uris",
        "tools",
    )

    def __init__(self, config: Config, groups: Mapping[str, Group], catalog: Catalog, desk: Desk | None = None) -> None:
        self.config = config
        self.groups = groups
        self.catalog = catalog
        self.desk = Desk() if desk is None else desk
        self.pages = Pages(catalog, groups, config.proxy.cache)
        # Routes to tools and prompts by the names under which they were asked for, as far as there are such.
        self.tools: dict[str, Route] = {}
        self.prompts: dict[str, Route] = {}
        # Routes of tools that may be called plainly, by the octets of their names, None for one that may not; and what
        # tells this snapshot from others without keeping it alive.
        self.plain: dict[bytes, Route | None] = {}
        self.mark = object()
        # What every request asks of the catalog and the configuration.
        self.rewrites_uris = catalog.rewrites_uris
        # Whether there is anything in results that clients must be given in another form: URIs, ids of tasks.
        self.rewrites = self.rewrites_uris or offers_tasks(catalog.capabilities)
        self.path = config.proxy.path.encode()
        self.max_depth = config.proxy.limits.max_depth
        self.max_in_flight = config.proxy.limits.max_in_flight
        self.request_s = float(config.proxy.timeouts.request_s)


class Exchange:
    """Carries one request through the pipeline; knows who asked, what was asked, and how it was answered."""

    __slots__ = (
        "backend",
        "began",
        "cache_key",
        "cors",
        "era",
        "error",
        "forwarded",
        "http",
        "journal",
        "message",
        "method",
        "passing",
        "principal",
        "revision",
        "session",
        "snapshot",
        "streaming",
        "work",
    )

    def __init__(self, http: HttpExchange, snapshot: Snapshot) -> None:
        self.http = http
        # For durations: event loops count whole milliseconds.
        self.began = perf_counter()
        self.snapshot = snapshot
        self.principal: Principal | None = None
        self.era: Era | None = None
        self.revision = ""
        self.session: Session | None = None
        self.message: Envelope | None = None
        self.method: str | None = None
        self.backend: str | None = None
        self.cache_key: Key | None = None
        # Counted among the requests in flight until the exchange ends.
        self.forwarded = False
        # The response is a stream of events.
        self.streaming = False
        # The response is a result that has begun and cannot be taken back.
        self.passing = False
        # What the response stream can say again to a client that comes back.
        self.journal: Journal | None = None
        # What can be parked, for whoever is asked in the middle of it.
        self.work: Forwarding | None = None
        self.error: Only1MCPError | None = None
        self.cors: Headers = []

    @property
    def id(self) -> bytes:
        """The client's request id as it wrote it."""
        assert self.message is not None
        assert self.message.id is not None
        return self.message.id

    @property
    def owner(self) -> str:
        """Whose calls may share an instance of a backend with this one: the session's, else the principal's."""
        assert self.principal is not None
        return self.principal.id if self.session is None else self.session.id

    def reply(self, status: int, body: bytes, extra: Headers | None = None) -> None:
        """Answer with a JSON body, on the stream if one has been started, else as a whole response."""
        if self.http.started_response:
            if self.journal is None:
                self.http.write(sse.encode(body))
            else:
                event = self.journal.keep(body)
                self.journal.end()
                if self.http.client_gone or self.http.finished:
                    return
                self.http.write(event)
            self.http.end_stream()
            return
        headers: Headers = [JSON, *self.cors]
        if extra:
            headers += extra
        if len(body) <= COPIED_BYTES:
            self.http.respond(status, headers, body)
        else:
            self.http.start_stream(status, headers, len(body))
            self.http.write_parts([body])
            self.http.end_stream()

    def empty(self, status: int, extra: Headers | None = None) -> None:
        """Answer without a body."""
        self.http.respond(status, [*self.cors, *(extra or ())], b"")

    def interim(self, message: bytes) -> None:
        """Send a message that precedes the answer: the response becomes an SSE stream with the first one."""
        if self.http.waiting_bytes <= MAX_WAITING_BYTES:
            self.interim_events(sse.encode(message))

    def ask(self, message: bytes) -> None:
        """Send a request to the client; one that comes back to its stream is asked again."""
        if not self.http.started_response:
            self.interim_events(b"")
        self.interim_events(sse.encode(message) if self.journal is None else self.journal.keep(message))

    def interim_events(self, events: bytes) -> None:
        """Send events that precede the answer, however much waits; their sender sees to it that it is not too much."""
        http = self.http
        if http.finished or http.client_gone:
            return
        if not http.started_response:
            stream: Headers = [
                (b"content-type", b"text/event-stream"),
                (b"cache-control", b"no-cache, no-transform"),
                (b"x-accel-buffering", b"no"),
            ]
            http.start_stream(200, stream + self.cors)
            self.streaming = True
            if self.session is not None:
                self.journal = self.snapshot.desk.sessions.journal(self)
                if self.journal is not None:
                    events = self.journal.priming + events
        if events:
            http.write_parts([events])

    # A large result on its way through (`backend.base.Passage`).

    def begin_passing(self, length: int | None) -> bool:
        """Begin the response with a result of `length` octets; False where it must be whole first."""
        http = self.http
        if self.journal is not None:
            if http.client_gone:
                return False  # it is kept for a client that comes back
            self.journal.give_up()
        if self.streaming:
            http.write(b"event: message\ndata: ")
        elif length is None and http.head.http_version == b"1.0":
            return False  # to this client the end of the connection would be the end of the result, even where it broke
        else:
            http.start_stream(200, [JSON, *self.cors], length)
        self.passing = True
        return True

    def let_pass(self, parts: list[bytes | memoryview]) -> None:
        """Send parts of the result."""
        if self.streaming:
            # Line ends between JSON tokens; there are none within.
            parts = [bytes(part).replace(b"\n", b"\ndata: ") for part in parts]
        self.http.write_parts(parts)

    @property
    def must_drain(self) -> bool:
        return self.http.must_drain

    async def drain(self) -> None:
        await self.http.drain()

    def end_passing(self) -> None:
        """The result is complete."""
        if self.streaming:
            self.http.write(b"\n\n")
        self.http.end_stream()

    def refuse(self, error: Only1MCPError) -> None:
        """Answer with a JSON-RPC error and the HTTP status that belongs to it.

        Inside a session of the handshake era the status is 200: clients of that era take any other for the end of the
        session, or of the connection, and would lose every other call with it.
        """
        self.error = error.with_traceback(None)  # whose frames hold this exchange
        if self.passing:
            self.http.cut()
            return
        id = self.message.id if self.message is not None else None
        self.reply(
            200 if self.session is not None else error.http_status, error_message(error, id), advice_headers(error)
        )
