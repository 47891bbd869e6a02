"""A conversation over one connection before and after the load: one request, one answer, awaited."""

from __future__ import annotations

import asyncio
from typing import Final

from only1mcp._fast import Envelope, scan
from only1mcp.backend.base import BackendCall, Transport
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from only1mcp.loadgen.connection import DRAIN_S, Address, CannotConnect, Connection, State, Traffic
from only1mcp.loadgen.failure import CLOSED, HTTP, TIMEOUT, Failure
from only1mcp.loadgen.plan import Plan
from only1mcp.loadgen.requests import constant_headers, mcp_headers
from only1mcp.wire import mcp
from only1mcp.wire.http1_events import Headers, ResponseHead

MAX_SESSION_ID_CHARS: Final = 1024


class Talk(Transport):
    """Speaks with the target as `backend.era.establish` wants it; the connection can be taken over afterwards."""

    def __init__(self, plan: Plan, address: Address, traffic: Traffic) -> None:
        self._plan = plan
        self._address = address
        self._traffic = traffic
        self._constant = constant_headers(plan)
        self._answer: asyncio.Future[tuple[ResponseHead | None, Envelope | Failure]] | None = None
        self._free: asyncio.Future[None] | None = None
        self.connection: Connection | None = None

    async def start(self) -> None:
        """Do nothing: the connection opens on demand."""

    async def call(self, call: BackendCall) -> Envelope:
        headers = [*self._constant, *mcp_headers(self.revision, self.session_id, call.method, call.name)]
        head, outcome = await self._exchange(b"POST", headers, call.message, call.id, call.timeout_s)
        if not isinstance(outcome, Failure):
            if call.method == "initialize" and head is not None:
                self.session_id = _session_id(head)
            return outcome
        if outcome.kind == HTTP:
            raise BackendRefused(outcome.message, status=int(outcome.what))
        if outcome.kind == TIMEOUT:
            raise BackendTimeout(outcome.message)
        raise BackendAnswerError(outcome.message)

    async def send(self, message: bytes) -> None:
        method = scan(message).method or ""
        headers = [*self._constant, *mcp_headers(self.revision, self.session_id, method, None)]
        head, outcome = await self._exchange(b"POST", headers, message, b"", self._plan.timeout_s)
        if head is None or head.status not in (200, 202, 204):
            assert isinstance(outcome, Failure)
            raise BackendError(outcome.message)

    async def listen(self) -> None:
        """Do nothing: what the target says unasked is of no interest."""

    async def aclose(self) -> None:
        if self.connection is not None:
            self.connection.abort()

    async def end_session(self, timeout_s: float) -> None:
        """Tell the target that the session is over; whether it likes that is its own affair."""
        assert self.revision is not None
        headers = [
            *self._constant,
            (mcp.HEADER_VERSION, self.revision.encode()),
            (mcp.HEADER_SESSION, (self.session_id or "").encode()),
        ]
        try:
            await self._exchange(b"DELETE", headers, b"", b"", timeout_s)
        except BackendError:
            pass

    async def open(self) -> Connection:
        """Return the connection, opened anew if need be, between two exchanges; raise `BackendUnavailable`."""
        if self._free is not None and self.connection is not None:
            done, _ = await asyncio.wait([self._free], timeout=DRAIN_S)
            if not done:
                self.connection.give_up()
        if self.connection is None or self.connection.state is State.CLOSED:
            try:
                self.connection = await self._address.connect(self, self._traffic)
            except CannotConnect as error:
                raise BackendUnavailable(str(error)) from None
        self.connection.owner = self
        return self.connection

    async def _exchange(
        self, verb: bytes, headers: Headers, body: bytes, id: bytes, timeout_s: float | None
    ) -> tuple[ResponseHead | None, Envelope | Failure]:
        while True:
            kept = self.connection
            connection = await self.open()
            loop = asyncio.get_running_loop()
            self._answer, self._free = loop.create_future(), loop.create_future()
            connection.send(verb, self._plan.target.path, headers, body, id)
            timer = loop.call_later(timeout_s or self._plan.timeout_s, connection.expire, timeout_s or 0.0)
            try:
                head, outcome = await self._answer
            finally:
                timer.cancel()
            # A kept connection may have been closed while the request was on its way.
            if connection is kept and isinstance(outcome, Failure) and outcome.kind == CLOSED and head is None:
                continue
            return head, outcome

    def answered(self, head: ResponseHead | None, outcome: Envelope | Failure) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((head, outcome))

    def released(self) -> None:
        if self._free is not None and not self._free.done():
            self._free.set_result(None)


def _session_id(head: ResponseHead) -> str | None:
    values = head.get_all(mcp.HEADER_SESSION)
    if not values:
        return None
    value = values[0]
    if not value or len(value) > MAX_SESSION_ID_CHARS or not all(0x21 <= octet <= 0x7E for octet in value):
        raise BackendAnswerError(f"expected a session id of 1 to {MAX_SESSION_ID_CHARS} visible ASCII characters")
    return value.decode("ascii")
