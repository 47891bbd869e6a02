"""Asks handshake clients what backends want to know of them, and takes every answer to the backend that has asked.

MCP 2025-11-25 "Elicitation", "Sampling", "Roots", "Cancellation", "Progress". A request goes out on the response stream
of the very call in the middle of which a backend asks, under an id of ours; an answer is believed only in the session
that was asked. What is asked ends once: by the client's answer, by the backend, with the call, with the session, or
when the client takes too long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from only1mcp._fast import members, scan
from only1mcp.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, ProtocolError
from only1mcp.proxy import rounds
from only1mcp.proxy.asking import GONE, TOO_MANY, UNDECLARED, Asking
from only1mcp.proxy.elicitations import Elicitations
from only1mcp.proxy.streams import KEEP_ALIVE, KEEP_ALIVE_S
from only1mcp.wire import asks, jsonrpc
from only1mcp.wire.asks import CAPABILITY, MULTI_ROUND, Ask

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.frontend.session import Session
    from only1mcp.metrics import Metrics
    from only1mcp.proxy.call import Answer
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.route import Target

# As much as one result of a stateless backend may ask at once. More would be a backend that floods its caller.
MAX_PER_SESSION: Final = asks.MAX_ASKS
# Each holds a timer and an exchange, a kilobyte or two; clients that never answer must not fill the memory.
MAX_PER_WORKER: Final = 4_096
# Nobody guesses an id. It would not help either: answers count only in the session that was asked.
ID_BYTES: Final = 8

LATE: Final = "the client did not answer in time"
OVER: Final = "the call in the middle of which this was asked is over"
NO_RESULT: Final = b'{"code":-32603,"message":"the client answered with something that is no result"}'


class Inquirer(Protocol):
    """Who wants to know. It hears once how it ended."""

    def answered(self, message: Envelope) -> None:
        """Take the client's response, a result or an error."""

    def refused(self, text: str, code: int) -> None:
        """There will be no response, and `text` says why."""

    def progressed(self, message: bytes) -> None:
        """Take progress of the client, with the token that was in the ask."""

    def withdrawn(self, id: bytes) -> bool:
        """A backend cancels its own request with that id. True: it was this one, which has ended without an answer."""


class Relayed:
    """A handshake backend, which waits for a response to its own request."""

    __slots__ = ("_asking",)

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def answered(self, message: Envelope) -> None:
        result = asks.result_of(message)
        if result is not None:
            self._asking.answer(result)
        else:
            self._asking.fail(NO_RESULT if message.error is None else message.data[slice(*message.error)])

    def refused(self, text: str, code: int) -> None:
        self._asking.refuse(text, code)

    def progressed(self, message: bytes) -> None:
        if self._asking.open:
            self._asking.replies.send(message)

    def withdrawn(self, id: bytes) -> bool:
        if self._asking.backend_id != id:
            return False
        self._asking.withdraw()
        return True


class _Open:
    """One request to a client that has not ended."""

    __slots__ = ("deadline", "exchange", "id", "inquirer", "session", "timer", "token")

    def __init__(self, exchange: Exchange, session: str, id: bytes, inquirer: Inquirer, token: bytes | None) -> None:
        self.exchange = exchange
        self.session = session
        self.id = id
        self.inquirer = inquirer
        # With which the backend wants to hear of progress; the client's is our id.
        self.token = token
        # The event loop's time.
        self.deadline = 0.0
        self.timer: asyncio.TimerHandle | None = None


class ClientAsker:
    """Serves `desk.Asker`. `worker` is the first part of every id, `input_s` the time that a client has to answer.

    `tell_session` says something to a session in the middle of no call.
    """

    def __init__(
        self,
        worker: int,
        input_s: float,
        metrics: Metrics,
        tell_session: Callable[[str, bytes], object] = lambda *_: None,
    ) -> None:
        self._tell_session = tell_session
        self._worker = worker
        self._input_s = input_s
        self._metrics = metrics
        self._size = 0
        # By session, then by our id as the JSON text it is.
        self._open: dict[str, dict[bytes, _Open]] = {}
        self._elicitations = Elicitations()

    def __repr__(self) -> str:
        return f"<ClientAsker open={self._size} sessions={len(self._open)}>"

    def __len__(self) -> int:
        return self._size

    # Asking.

    def relay(self, exchange: Exchange, asking: Asking) -> None:
        params = asking.ask.params
        theirs = None if params is None else asks.elicitation_id(params, (0, len(params)))
        self.ask(exchange, asking.ask, Relayed(asking), theirs=theirs)

    def ask(
        self,
        exchange: Exchange,
        ask: Ask,
        inquirer: Inquirer,
        elicitation_id: str | None = None,
        *,
        theirs: str | None = None,
    ) -> None:
        """Ask the client of the exchange; `inquirer` hears of it once, which may be before this returns.

        `theirs` is the id that a handshake backend gave an elicitation.
        """
        obstacle = self._obstacle(exchange, ask)
        if obstacle is not None:
            inquirer.refused(*obstacle)
            return
        assert exchange.session is not None
        id = f'"{self._worker}.{os.urandom(ID_BYTES).hex()}"'.encode()
        try:
            if theirs is not None:
                elicitation_id = self._id_for(exchange, theirs, exchange)
            message = asks.for_handshake(ask, id, elicitation_id)
            token = asks.progress_token(ask)
        except ProtocolError as error:
            inquirer.refused(error.message, INVALID_PARAMS)
            return
        opened = _Open(exchange, exchange.session.id, id, inquirer, token)
        opened.deadline = asyncio.get_running_loop().time() + self._input_s
        self._wait(opened)
        self._open.setdefault(opened.session, {})[id] = opened
        self._size += 1
        exchange.ask(message)

    def _obstacle(self, exchange: Exchange, ask: Ask) -> tuple[str, int] | None:
        """Return why the client cannot be asked, and the code of the error that says so."""
        session = exchange.session
        if ask.method not in CAPABILITY:
            return f"this client does not serve {ask.method!r:.80}", METHOD_NOT_FOUND
        if session is None:
            return UNDECLARED, METHOD_NOT_FOUND
        declared = asks.capabilities_of(session.capabilities)
        if not asks.may_ask(ask, declared, session.revision):
            # A mode or a part of what is declared is missing, or all of it.
            return UNDECLARED, INVALID_PARAMS if CAPABILITY[ask.method] in declared else METHOD_NOT_FOUND
        if not _hears(exchange):
            return GONE, INTERNAL_ERROR
        if self._size >= MAX_PER_WORKER or len(self._open.get(session.id, ())) >= MAX_PER_SESSION:
            return TOO_MANY, INTERNAL_ERROR
        return None

    # URL elicitations that go on after their answer.

    def explained(self, exchange: Exchange, body: bytes) -> bytes:
        session = exchange.session
        if session is None or b"-32042" not in body:
            return body
        error = scan(body)
        if not asks.requires_urls(error):
            return body
        if not asks.may_ask(asks.URL, asks.capabilities_of(session.capabilities), session.revision):
            return asks.as_internal(error)
        return asks.with_elicitation_ids(error, lambda theirs: self._id_for(exchange, theirs, None))

    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        found = self._elicitations.take(backend, elicitation_id, owner)
        if found is None:
            return
        session_id, elicitation = found
        message, exchange = asks.completed(elicitation.id), elicitation.exchange
        if exchange is not None and _hears(exchange):
            exchange.ask(message)
        else:
            self._tell_session(session_id, message)

    def _id_for(self, exchange: Exchange, theirs: str, asked_in: Exchange | None) -> str:
        """Return what the client of the exchange calls an elicitation of the backend that serves it."""
        if exchange.session is None or exchange.backend is None:
            return theirs
        return self._elicitations.give(exchange.backend, theirs, exchange.session.id, asked_in)

    # Rounds with stateless backends.

    def declared(self, session: Session) -> bytes:
        return _declared(session.capabilities, session.revision)

    def wants_rounds(self, exchange: Exchange, answer: Answer) -> bool:
        if exchange.method not in MULTI_ROUND:
            return False
        try:
            return asks.maybe_input_required(answer.message) is not None
        except ProtocolError:
            return True  # which the first round will tell

    async def rounds(self, exchange: Exchange, target: Target, method: str, answer: Answer) -> Answer:
        try:
            return await rounds.drive(self.ask, exchange, target, answer, self._metrics)
        finally:
            self.over(exchange)

    # What the client says.

    def answered(self, session: Session, message: Envelope) -> None:
        opened = None if message.id is None else self._open.get(session.id, {}).get(message.id)
        if opened is not None:
            self._close(opened)
            opened.inquirer.answered(message)

    def notified(self, session: Session, message: Envelope) -> bool:
        if message.method != "notifications/progress" or session.id not in self._open:
            return False
        span = _member(message, "progressToken")
        opened = None if span is None else self._open[session.id].get(message.data[slice(*span)])
        if span is None or opened is None:
            return False
        if opened.token is not None:
            opened.inquirer.progressed(jsonrpc.splice(message.data, [(*span, opened.token)]))
        return True

    # What else ends it.

    def cancelled(self, exchange: Exchange, message: Envelope) -> bool:
        span = _member(message, "requestId")
        if span is None:
            return False
        id = message.data[slice(*span)]
        for opened in self._of(exchange):
            if opened.inquirer.withdrawn(id):
                self._close(opened)
                self._tell(opened, "the server has cancelled its request")
                return True
        return False

    def over(self, exchange: Exchange) -> None:
        for opened in self._of(exchange):
            self._end(opened, GONE if exchange.http.client_gone else OVER)
        if exchange.session is not None and self._elicitations:
            self._elicitations.over(exchange.session.id, exchange)

    def ended(self, session_id: str) -> None:
        for opened in list(self._open.get(session_id, {}).values()):
            self._end(opened, "the client has ended its session")
        self._elicitations.ended(session_id)

    async def aclose(self) -> None:
        for session_id in list(self._open):
            for opened in list(self._open[session_id].values()):
                self._end(opened, "the gateway stops")

    def _of(self, exchange: Exchange) -> list[_Open]:
        session = exchange.session
        if session is None or session.id not in self._open:
            return []
        return [opened for opened in self._open[session.id].values() if opened.exchange is exchange]

    def _wait(self, opened: _Open) -> None:
        loop = asyncio.get_running_loop()
        opened.timer = loop.call_at(min(opened.deadline, loop.time() + KEEP_ALIVE_S), self._tick, opened)

    def _tick(self, opened: _Open) -> None:
        exchange = opened.exchange
        if asyncio.get_running_loop().time() >= opened.deadline:
            self._end(opened, LATE)
            return
        if not exchange.passing and exchange.http.waiting_bytes == 0:
            # A user may take minutes, during which nothing else is said on the stream.
            exchange.interim_events(KEEP_ALIVE)
        self._wait(opened)

    def _end(self, opened: _Open, text: str) -> None:
        self._close(opened)
        self._tell(opened, text)
        opened.inquirer.refused(text, INTERNAL_ERROR)

    def _close(self, opened: _Open) -> None:
        """Forget it: what comes for it from now on reaches nobody."""
        if opened.timer is not None:
            opened.timer.cancel()
            opened.timer = None
        of_session = self._open[opened.session]
        del of_session[opened.id]
        if not of_session:
            del self._open[opened.session]
        self._size -= 1

    def _tell(self, opened: _Open, reason: str) -> None:
        """Spare the client, or whoever sits before it, an answer that nobody waits for."""
        if not opened.exchange.passing:
            params = b'{"requestId":' + opened.id + b',"reason":' + orjson.dumps(reason) + b"}"
            opened.exchange.interim(jsonrpc.notification("notifications/cancelled", params))


def _hears(exchange: Exchange) -> bool:
    """Return whether what is said on the exchange's stream now reaches its client, or is kept for it."""
    http = exchange.http
    return not (http.finished or exchange.passing or (http.client_gone and exchange.journal is None))


@lru_cache(maxsize=1024)
def _declared(capabilities: bytes, revision: str) -> bytes:
    return asks.for_stateless_backend(capabilities, revision)


def _member(message: Envelope, key: str) -> tuple[int, int] | None:
    """Return where a member of the params stands, None where it is not clear."""
    try:
        return None if message.params is None else members(message.data, *message.params).get(key)
    except ProtocolError:
        return None
