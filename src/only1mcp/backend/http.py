"""Streamable HTTP towards one backend: each message is a POST, its answer one JSON text or a stream of events.

MCP 2025-11-25 and 2026-07-28, "Transports", "Streamable HTTP". Reading the answers is `backend.answer`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from only1mcp._fast import Envelope, scan
from only1mcp.backend import answer
from only1mcp.backend.attribution import Attribution
from only1mcp.backend.base import BackendCall, Done, Outcome, Transport
from only1mcp.backend.connecting import connect
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.direct import DirectCall
from only1mcp.backend.lane import DirectLane
from only1mcp.backend.listening import StreamReader
from only1mcp.backend.outstanding import Outstanding
from only1mcp.backend.passing import TimeoutClock
from only1mcp.backend.pool import Pool
from only1mcp.backend.resume import StreamBroken, go_on
from only1mcp.backend.surplus import drain, skim
from only1mcp.backend.target import constant_headers, parse_target
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import (
    BackendAnswerError,
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ConfigError,
)
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.http1_events import Headers, ResponseHead
from only1mcp.wire.http1_write import maybe_prepare_post
from only1mcp.wire.mcp import HANDSHAKE
from only1mcp.wire.mirror import encode_header

log = logging.getLogger("only1mcp.backend")

T = TypeVar("T")

# Asking twice changes nothing at the backend: these may be repeated when a kept connection turns out to be dead.
REPEATABLE: Final = frozenset(
    {*mcp.LIST_METHODS, "resources/read", "prompts/get", "completion/complete", "server/discover", "ping"}
    | {"tasks/get", "tasks/result"}
)
# Telling a backend of a cancelled call, or of the end of a session, is a courtesy: it may not hold us up.
CANCEL_TIMEOUT_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 2.0
# Clients that cancel by the thousand must not make a slow backend's cancellations pile up here; nor its requests, those
# that are refused.
MAX_CANCELS: Final = 64
# Server to client answers and notifications go out within this long; the configured call timeout if that is shorter.
SEND_TIMEOUT_S: Final = 30.0


class HttpTransport(Transport):
    """One HTTP endpoint. Connections open on demand, so `start` does nothing and `on_lost` is never called."""

    def __init__(self, config: BackendConfig, *, name: str) -> None:
        """Raise `ConfigError` when the URL or the headers cannot be used."""
        try:
            self._target = parse_target(config.url or "")
        except ValueError as error:
            raise ConfigError([f"servers[{config.id}].url: {error}"]) from None
        self.name = name
        self._blame = {"backend": name}
        self._constant = constant_headers(config, self._target)
        self._post = [
            *self._constant,
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
        ]
        self._listening = [*self._constant, (b"accept", b"text/event-stream")]
        self._send_timeout_s = min(SEND_TIMEOUT_S, config.timeout_ms / 1000)
        self._tls = ssl.create_default_context() if self._target.tls else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])

        self._pool = Pool(self._connect)
        self.lane: DirectLane = DirectLane(self, self._pool)
        self._outstanding = Outstanding(self.lane.calls)
        self._attribution = Attribution(name, self._outstanding, self._send_soon, log)
        self._cancels: set[asyncio.Task[None]] = set()
        self._drains: set[asyncio.Task[None]] = set()
        self._directs: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<HttpTransport {self.name} revision={self.revision} {self._pool!r}>"

    async def start(self) -> None:
        """Do nothing."""

    async def call(self, call: BackendCall) -> Envelope:
        outcome = await self._call(call)
        assert isinstance(outcome, Envelope), "a call without a passage"
        return outcome

    async def forward(self, call: BackendCall) -> Outcome:
        return await self._call(call)

    async def _call(self, call: BackendCall, *, again: bool = False) -> Outcome:
        headers = self._headers(call.method, call.name, call.param_headers)
        reader = self.reader_of(call)
        if call.asked is not None:
            self.serve(call.asked.owner)
        try:
            async with asyncio.timeout(call.timeout_s) as timeout:
                reader.clock = clock = TimeoutClock(timeout)
                self._outstanding.add(call, clock)
                try:
                    result = await self._exchange(
                        b"POST",
                        headers,
                        call.message,
                        reader.read,
                        again=again,
                        repeatable=call.method in REPEATABLE,
                        is_surplus=reader.is_surplus,
                        on_abandoned=lambda: self._cancel_at_backend(call),
                    )
                except StreamBroken as end:
                    result = await go_on(call, end, partial(self._get_rest, reader), self._cancel_at_backend)
        except TimeoutError:
            raise BackendTimeout(f"no complete answer within {call.timeout_s} s", data=self._blame) from None
        except BackendError as error:
            error.data = error.data or self._blame
            raise
        finally:
            self._outstanding.remove(call)
        if reader.session_id is not None:
            self.session_id = reader.session_id
        return result

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        if self._closed or call.method == "initialize":
            return None
        if self.lane.sole and call.asked is not None:
            self.serve(call.asked.owner)
        return self.lane.maybe_begin(call, done)

    def serve(self, owner: str) -> None:
        if self.lane.sole:
            self.lane.sole = self.revision in mcp.HANDSHAKE_REVISIONS and not self._attribution.serve(owner)

    async def send(self, message: bytes) -> None:
        envelope = scan(message)
        headers = self._headers(envelope.method or "", None, ())
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await self._exchange(b"POST", headers, message, answer.read_accepted)
        except TimeoutError:
            raise BackendTimeout(f"not accepted within {self._send_timeout_s} s", data=self._blame) from None
        except BackendError as error:
            error.data = error.data or self._blame
            raise

    async def listen(self) -> None:
        if self.revision is None or mcp.era_of(self.revision) is not HANDSHAKE:
            return
        headers = [*self._listening, *self._session_headers()]
        reader = StreamReader(name=self.name, on_message=self._heard, revision=self.revision)
        try:
            await self._exchange(b"GET", headers, b"", reader.read, repeatable=True)
        except BackendError as error:
            log.debug("backend.listen_ended", extra={"fields": {"backend": self.name, "reason": error.message}})

    def _heard(self, message: Envelope) -> None:
        self._attribution.heard(message, self.on_message)

    async def aclose(self) -> None:
        first, self._closed = not self._closed, True
        try:
            if first:
                await self._say_goodbye()
        finally:
            self.lane.close()
            tasks = (*self._cancels, *self._drains, *self._directs)
            for task in tasks:
                task.cancel()
            await self._pool.aclose()
            await asyncio.gather(*tasks, return_exceptions=True)

    # What direct calls need.

    def head_of(self, call: BackendCall) -> bytes | None:
        return maybe_prepare_post(self._target.path, self._headers(call.method, call.name, call.param_headers))

    def read_on(self, direct: DirectCall) -> None:
        direct.task = self._spawn(self._read_on(direct), self._directs)

    def begin_again(self, direct: DirectCall) -> bool:
        if self._closed or direct.call.method not in REPEATABLE or direct.connection.exchanges < 2:
            return False
        again = partial(self._call, direct.call, again=True)
        direct.task = self._spawn(self._elsewhere(direct, again), self._directs)
        return True

    def resume(self, direct: DirectCall, end: StreamBroken) -> None:
        direct.task = self._spawn(self._elsewhere(direct, partial(self._resume, direct, end)), self._directs)

    def abandon(self, direct: DirectCall) -> None:
        self._cancel_at_backend(direct.call)

    async def _read_on(self, direct: DirectCall) -> None:
        connection, reader = direct.connection, direct.reader
        reader.clock = direct
        try:
            head = await connection.next_event()
            assert isinstance(head, ResponseHead)
            outcome: Outcome | BackendError = await reader.read(connection, head)
        except BackendRefused as error:
            outcome = error
        except BackendError as error:
            connection.abort()
            outcome = error
        except Exception as error:  # noqa: BLE001 (whoever waits must hear of it)
            outcome = direct.failed(error)
        except BaseException:
            connection.abort()
            raise
        finally:
            reader.clock = None  # the two would hold each other
            self._let_go(connection, reader.is_surplus)
        if isinstance(outcome, StreamBroken):
            direct._repeated = True  # the connection is no longer its own
            await self._elsewhere(direct, partial(self._resume, direct, outcome))
        else:
            self._end(direct, outcome)

    def _resume(self, direct: DirectCall, end: StreamBroken) -> Coroutine[Any, Any, Outcome]:
        direct.reader.clock = direct
        return go_on(direct.call, end, partial(self._get_rest, direct.reader), self._cancel_at_backend)

    async def _elsewhere(self, direct: DirectCall, work: Callable[[], Awaitable[Outcome]]) -> None:
        """Get the answer over other connections."""
        try:
            outcome: Outcome | BackendError = await work()
        except BackendError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 (whoever waits must hear of it)
            outcome = direct.failed(error)
        self._end(direct, outcome)

    async def _get_rest(self, reader: answer.CallReader, last_event_id: str) -> Outcome:
        headers = [*self._listening, (b"last-event-id", last_event_id.encode()), *self._session_headers()]
        return await self._exchange(b"GET", headers, b"", reader.read_on, is_surplus=reader.is_surplus)

    def _end(self, direct: DirectCall, outcome: Outcome | BackendError) -> None:
        direct.task = None
        if direct._reader is not None:
            direct._reader.clock = None  # the two would hold each other
        direct.end(outcome)

    # Requests.

    def reader_of(self, call: BackendCall) -> answer.CallReader:
        return answer.CallReader(
            call,
            name=self.name,
            on_message=call.on_message or self.on_message,
            in_session=self._in_session(call.method),
            revision=self.revision,
        )

    def _in_session(self, method: str) -> bool:
        return (
            self.session_id is not None
            and method != "initialize"
            and self.revision is not None
            and mcp.era_of(self.revision) is HANDSHAKE
        )

    def _session_headers(self) -> Headers:
        assert self.revision is not None
        headers: Headers = [(mcp.HEADER_VERSION, self.revision.encode())]
        if self.session_id is not None:
            headers.append((mcp.HEADER_SESSION, self.session_id.encode()))
        return headers

    def _headers(self, method: str, name: str | None, params: tuple[tuple[bytes, bytes], ...]) -> Headers:
        """Return the headers of one POST. `initialize` goes out without version and session: it is what makes them."""
        if self.revision is None or method == "initialize":
            return self._post
        if mcp.era_of(self.revision) is HANDSHAKE:
            return [*self._post, *self._session_headers()]
        headers = [*self._post, (mcp.HEADER_VERSION, self.revision.encode())]
        if method:
            headers.append((mcp.HEADER_METHOD, encode_header(method)))
        if name is not None:
            headers.append((mcp.HEADER_NAME, encode_header(name)))
        headers += params
        return headers

    async def _connect(self) -> HttpConnection:
        return await connect(self._target.host, self._target.port, self._tls)

    async def _exchange(
        self,
        verb: bytes,
        headers: Headers,
        body: bytes,
        read: Callable[[HttpConnection, ResponseHead], Awaitable[T]],
        *,
        again: bool = False,
        repeatable: bool = False,
        is_surplus: Callable[[bytes], bool] | None = None,
        on_abandoned: Callable[[], None] | None = None,
    ) -> T:
        """Send one HTTP request and return what `read` makes of the answer.

        It is sent a second time, over a new connection, when no byte of it left us, or when it is `repeatable` and the
        connection was a kept one that died before any byte of an answer; `again` says that this is the second time
        already. `on_abandoned` is called when the task is cancelled while it waits for the answer. A connection on
        which `is_surplus` bytes follow is not used again.
        """
        for attempt in (2,) if again else (1, 2):
            connection = await self._pool.acquire(fresh=attempt == 2)
            try:
                head = await connection.request(verb, self._target.path, headers, body)
                return await read(connection, head)
            except BackendRefused:
                raise  # the answer is whole, or may still become so
            except BackendAnswerError as error:
                connection.abort()
                stale = connection.exchanges > 1 and not connection.answered
                if attempt == 1 and (not connection.sent or (repeatable and stale)):
                    continue
                if not connection.sent:
                    raise BackendUnavailable(error.message) from error
                raise
            except BaseException as error:
                connection.abort()
                if isinstance(error, asyncio.CancelledError) and on_abandoned is not None:
                    on_abandoned()
                raise
            finally:
                self._let_go(connection, is_surplus)
        raise AssertionError("the second attempt returns or raises")

    # What follows an answer.

    def _let_go(self, connection: HttpConnection, is_surplus: Callable[[bytes], bool] | None) -> None:
        """Give the connection back, at once when its answer has ended; otherwise see whether it soon does."""
        left = skim(connection, is_surplus)
        if left is None:
            self._pool.release(connection)
        else:
            self._spawn(drain(connection, is_surplus, left, self._pool.release), self._drains)

    # Goodbyes.

    def _cancel_at_backend(self, call: BackendCall) -> None:
        """Tell a handshake-era backend that nobody waits any more; in the stateless era the closed connection does."""
        if self.revision is None or mcp.era_of(self.revision) is not HANDSHAKE or call.method == "initialize":
            return
        params = orjson.dumps({"requestId": orjson.Fragment(call.id), "reason": "the client gave up or timed out"})
        self._send_soon(jsonrpc.notification("notifications/cancelled", params))

    def _send_soon(self, message: bytes) -> None:
        if not self._closed and len(self._cancels) < MAX_CANCELS:
            self._spawn(self._send_quietly(message), self._cancels)

    async def _send_quietly(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self.send(message)
        except (BackendError, TimeoutError) as error:
            log.debug("backend.cancel_failed", extra={"fields": {"backend": self.name, "reason": str(error)}})

    async def _say_goodbye(self) -> None:
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=CANCEL_TIMEOUT_S)
        if not self._in_session(""):
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                headers = [*self._constant, *self._session_headers()]
                await self._exchange(b"DELETE", headers, b"", answer.read_status, repeatable=True)
        except (BackendError, TimeoutError) as error:
            log.debug("backend.delete_failed", extra={"fields": {"backend": self.name, "reason": str(error)}})
        self.session_id = None

    def _spawn(self, work: Coroutine[Any, Any, None], group: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"http {self.name}")
        group.add(task)
        task.add_done_callback(group.discard)
        return task
