"""One client of the load: a connection, opened again when it is lost, that carries one request at a time."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final, Protocol

from only1mcp._fast import Envelope
from only1mcp.loadgen.answer import failure_of
from only1mcp.loadgen.connection import DRAIN_S, Address, CannotConnect, State, Traffic, connect_failure
from only1mcp.loadgen.failure import BAD_ANSWER, Failure
from only1mcp.loadgen.meet import Seat
from only1mcp.wire.http1_events import ResponseHead

# How long a client waits after it could not connect: a dead target is not to be asked a thousand times a second.
RECONNECT_S: Final = 0.1


class Load(Protocol):
    """Who gives requests to clients."""

    def next_id(self) -> bytes:
        """Return an id that no other request has."""

    def report(self, client: Client, failure: Failure | None, now: float) -> None:
        """What became of the client's request; None: it was answered well."""

    def release(self, client: Client) -> None:
        """After `report`: the client is free."""


class Client:
    """Takes one request after another with `begin`; `sent_at` is None between them."""

    __slots__ = (
        "_address", "_answered_at", "_connection", "_load", "_path", "_prepared", "_task", "_traffic",
        "free_since", "intended", "measured", "operation", "sent_at",
    )  # fmt: skip

    def __init__(self, load: Load, seat: Seat, address: Address, path: bytes, traffic: Traffic) -> None:
        self._load = load
        self._address = address
        self._path = path
        self._traffic = traffic
        self._prepared = seat.prepared
        self._connection = seat.connection
        self._connection.owner = self
        self._task: asyncio.Task[None] | None = None

        # The request at hand.
        self.operation = 0
        self.intended = 0.0
        self.measured = False
        self.sent_at: float | None = None
        self.free_since = 0.0
        self._answered_at: float | None = None

    def begin(self, operation: int, intended: float, now: float, *, measured: bool) -> None:
        """Send a request of this kind; its latency counts from `intended`."""
        self.operation = operation
        self.intended = intended
        self.measured = measured
        self.sent_at = now
        if self._connection.state is State.IDLE:
            self._send()
        else:
            self._task = asyncio.get_running_loop().create_task(self._reconnect())

    @property
    def is_waiting(self) -> bool:
        """Whether a request is sent and not answered."""
        return self.sent_at is not None and self._answered_at is None

    def check(self, now: float, timeout_s: float) -> None:
        """Give up what takes too long."""
        if self._answered_at is not None:
            if now - self._answered_at > DRAIN_S:
                self._connection.give_up()
        elif self.sent_at is not None and now - self.sent_at > timeout_s:
            if self._task is not None:
                self._task.cancel()
                self._task = None
                self.answered(None, connect_failure(CannotConnect("no connection in time")))
                self.released()
            else:
                self._connection.expire(timeout_s)

    def leave(self, seat: Seat) -> None:
        """Drop the request at hand and the connection, which goes to the end of the session where there is one."""
        if self._task is not None:
            self._task.cancel()
        if seat.talk is not None and self._connection.state is State.IDLE:
            seat.talk.connection = self._connection
        else:
            self._connection.abort()

    # What the connection calls.

    def answered(self, head: ResponseHead | None, outcome: Envelope | Failure) -> None:
        now = perf_counter()
        self._answered_at = now
        if isinstance(outcome, Failure):
            self._load.report(self, outcome, now)
        else:
            assert head is not None
            self._load.report(self, failure_of(outcome, head.status), now)

    def released(self) -> None:
        self._answered_at = self.sent_at = None
        self._load.release(self)

    # Below, in call order.

    def _send(self) -> None:
        prepared = self._prepared[self.operation]
        id = self._load.next_id()
        body = prepared.before_id + id + prepared.after_id
        try:
            self._connection.send(b"POST", self._path, prepared.headers, body, id)
        except ValueError as error:  # a name that no header can carry
            self.answered(None, Failure(BAD_ANSWER, "not sent", str(error)))
            self._connection.abort()
            self.released()

    async def _reconnect(self) -> None:
        try:
            self._connection = await self._address.connect(self, self._traffic)
        except CannotConnect as error:
            self._task = None
            self.answered(None, connect_failure(error))
            self._task = asyncio.current_task()
            await asyncio.sleep(RECONNECT_S)
            self._task = None
            self.released()
            return
        self._task = None
        self._send()
