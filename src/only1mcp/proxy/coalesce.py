"""Identical requests in flight: one call to the backend, whose outcome all who asked for it get.

Identical is what has the same key in the cache: same principal, same credential, same params. Who waits has a deadline
of its own and may leave; the call goes on for the others, also when it is the first of them who leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, Protocol

from only1mcp._fast import LRU
from only1mcp.backend.endpoint import Endpoint
from only1mcp.errors import BackendError, BackendTimeout, Only1MCPError, RequestRefused
from only1mcp.metrics import Metrics
from only1mcp.proxy.cache import Key
from only1mcp.proxy.call import Answer, maybe_begin, perform
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.route import Target

log = logging.getLogger("only1mcp.proxy")

# An answer that was no good for others says that the next ones will not be either: for this long nobody waits for one.
ALONE_MS: Final = 60_000
ALONE_BYTES: Final = 1 << 20

# The code that clients know from the Language Server Protocol for a request they have cancelled themselves.
REQUEST_CANCELLED: Final = -32800

Ticket = tuple[str, bytes]


class Host(Protocol):
    """What the forwarder does for those who wait."""

    def shareable(self, passenger: Passenger, answer: Answer) -> bool:
        """Keep the answer where that is allowed; return whether it may be given to others."""

    def hand_over(self, passenger: Passenger, answer: Answer) -> None:
        """Answer the client."""

    def send_alone(self, passenger: Passenger) -> None:
        """Make a call for this one exchange."""

    def forget(self, passenger: Passenger) -> None:
        """It cannot be called off any more."""


class Passenger:
    """One exchange that waits for the outcome of a shared call."""

    __slots__ = ("_flights", "began", "deadline", "exchange", "flight", "key", "method", "target", "ticket")

    def __init__(self, flights: Flights, exchange: Exchange, target: Target, method: str, key: Key) -> None:
        self._flights = flights
        self.exchange = exchange
        self.target = target
        self.method = method
        self.key = key
        self.ticket: Ticket | None = None if exchange.session is None else (exchange.session.id, exchange.id)
        self.began = asyncio.get_running_loop().time()
        # Only for who waits for the call of another; the first one's is that of the call itself.
        self.deadline: float | None = None
        self.flight: _Flight | None = None

    def leave(self) -> None:
        """Its client has gone."""
        # A call that goes on in its name for others must not speak to it.
        self.exchange.http.client_gone = True
        self._flights.leave(self)

    def cancel(self) -> None:
        """Its client says that it does not wait any more; it gets an error as its response."""
        self._flights.leave(self)
        self.exchange.refuse(cancelled())


class Flights:
    """The shared calls that are on their way, by key."""

    def __init__(self, host: Host, metrics: Metrics) -> None:
        self._host = host
        self._metrics = metrics
        self._flights: dict[bytes, _Flight] = {}
        self._alone = LRU(ALONE_BYTES)

    def __len__(self) -> int:
        return len(self._flights)

    def takes(self, key: Key) -> bool:
        """Whether requests with this key wait for each other."""
        return not key.alone and self._alone.lookup(key.private, _now_ms()) is None

    def board(self, exchange: Exchange, target: Target, method: str, key: Key) -> Passenger:
        """Let the exchange wait for the call with this key, which begins with the first one."""
        passenger = Passenger(self, exchange, target, method, key)
        exchange.http.defer(passenger.leave)
        flight = self._flights.get(key.private)
        if flight is None:
            self._begin([passenger])
        else:
            passenger.deadline = passenger.began + flight.timeout_s
            flight.join(passenger)
        return passenger

    def leave(self, passenger: Passenger) -> None:
        """Let the call go on without this one; it ends with the last."""
        self._host.forget(passenger)
        flight = passenger.flight
        if flight is not None and flight.leave(passenger):
            self._remove(flight)
            flight.stop()

    def landed(self, flight: _Flight, outcome: Answer | Only1MCPError) -> None:
        """Give everyone the outcome of a call, as far as it is theirs."""
        self._remove(flight)
        passengers = flight.empty()
        if not passengers:
            return
        if isinstance(outcome, Answer):
            self._answer(flight, passengers, outcome)
            return
        patient: list[Passenger] = []
        if isinstance(outcome, BackendTimeout):
            # Who came later has waited for less than it may.
            now = asyncio.get_running_loop().time()
            patient = [each for each in passengers if each.deadline is not None and each.deadline > now]
        for passenger in passengers:
            if passenger not in patient:
                self._refuse(passenger, outcome, flight)
        if patient:
            self._begin(patient)

    def overdue(self, flight: _Flight, passengers: list[Passenger]) -> None:
        """Refuse those whose time is up; the call goes on for the others."""
        for passenger in passengers:
            self.leave(passenger)
            id = passenger.target.group.id if flight.endpoint is None else flight.endpoint.id
            waited_s = asyncio.get_running_loop().time() - passenger.began
            self._refuse(passenger, BackendTimeout(f"no answer within {waited_s:.3g} s", data={"backend": id}), flight)

    def _begin(self, passengers: list[Passenger]) -> None:
        first = passengers[0]
        flight = _Flight(self, first, self._metrics)
        # Before anything is sent, so that nothing that comes of it meets a call that is not there yet.
        self._flights[first.key.private] = flight
        for passenger in passengers:
            flight.join(passenger)
        try:
            flight.start()
        except Only1MCPError as error:
            self.landed(flight, error)
        except Exception:  # whoever came first must not leave the others waiting
            log.exception("exchange.failed")
            self.landed(flight, Only1MCPError("internal error"))

    def _remove(self, flight: _Flight) -> None:
        key = flight.carrier.key.private
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _answer(self, flight: _Flight, passengers: list[Passenger], answer: Answer) -> None:
        carrier = flight.carrier
        shareable = self._host.shareable(carrier, answer)
        if not shareable:
            self._alone.store(carrier.key.private, b"", ALONE_MS, _now_ms())
        for passenger in passengers:
            self._host.forget(passenger)
            # Who has the call to itself may have its answer whatever it is.
            if shareable or passenger is carrier:
                if passenger is not carrier:
                    self._metrics.coalesced()
                self._guarded(passenger, lambda each: self._host.hand_over(each, answer), flight)
            else:
                self._guarded(passenger, self._host.send_alone, flight)

    def _refuse(self, passenger: Passenger, error: Only1MCPError, flight: _Flight) -> None:
        self._host.forget(passenger)
        if passenger is not flight.carrier:
            self._metrics.coalesced()
        self._guarded(passenger, lambda each: each.exchange.refuse(error), flight)

    def _guarded(self, passenger: Passenger, action: Callable[[Passenger], None], flight: _Flight) -> None:
        """Do it, and let nothing that goes wrong for one exchange reach the others."""
        exchange = passenger.exchange
        exchange.backend = flight.carrier.exchange.backend
        try:
            action(passenger)
        except Only1MCPError as error:
            exchange.refuse(error)
        except Exception:  # the edge: whatever goes wrong becomes an answer
            log.exception("exchange.failed")
            with contextlib.suppress(Exception):
                if not exchange.http.finished:
                    exchange.refuse(Only1MCPError("internal error"))


class _Flight:
    """One call and those who wait for it; it is made in the name of the `carrier`, the first of them."""

    __slots__ = ("_flights", "_metrics", "_passengers", "_stop", "_task", "_timer", "carrier", "endpoint", "timeout_s")

    def __init__(self, flights: Flights, carrier: Passenger, metrics: Metrics) -> None:
        self._flights = flights
        self._metrics = metrics
        self.carrier = carrier
        self.endpoint: Endpoint | None = carrier.target.group.pick(carrier.target.hash_key)
        timeout_s = carrier.exchange.snapshot.config.proxy.timeouts.request_s
        if self.endpoint is not None:
            timeout_s = min(timeout_s, self.endpoint.config.timeout_ms / 1000)
        self.timeout_s = timeout_s
        self._passengers: dict[Passenger, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stop: Callable[[], None] | None = None
        self._task: asyncio.Task[Answer] | None = None

    def start(self) -> None:
        """Make the call, without a task where that is possible."""
        carrier = self.carrier
        if self.endpoint is not None:
            self._stop = maybe_begin(carrier.exchange, carrier.target, self.endpoint, self._metrics, self._ended)
        if self._stop is None:
            self._go_on(None)

    def join(self, passenger: Passenger) -> None:
        passenger.flight = self
        self._passengers[passenger] = None
        if passenger.deadline is not None and (self._timer is None or passenger.deadline < self._timer.when()):
            self._watch(passenger.deadline)

    def leave(self, passenger: Passenger) -> bool:
        """Return whether nobody is left."""
        passenger.flight = None
        self._passengers.pop(passenger, None)
        return not self._passengers

    def empty(self) -> list[Passenger]:
        """The call is over: return who still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        passengers = list(self._passengers)
        for passenger in passengers:
            passenger.flight = None
        self._passengers.clear()
        return passengers

    def stop(self) -> None:
        """Nobody waits any more."""
        self.empty()
        if self._task is not None:
            self._task.cancel()
        elif self._stop is not None:
            self._stop()
        self._stop = None

    def _ended(self, outcome: Answer | BackendError) -> None:
        """Take the outcome of a call that went without a task; never raises, it is called from the event loop."""
        self._stop = None
        if isinstance(outcome, BackendError) and outcome.retryable and not self.carrier.exchange.http.started_response:
            self._go_on(outcome)
        else:
            self._flights.landed(self, outcome)

    def _go_on(self, failure: BackendError | None) -> None:
        carrier = self.carrier
        request_s = carrier.exchange.snapshot.config.proxy.timeouts.request_s
        work = perform(carrier.exchange, carrier.target, self._metrics, request_s, first=self.endpoint, failure=failure)
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Answer]) -> None:
        if task.cancelled():
            outcome: Answer | Only1MCPError = cancelled()
        elif (error := task.exception()) is None:
            outcome = task.result()
        elif isinstance(error, Only1MCPError):
            outcome = error
        else:
            log.error("exchange.failed", exc_info=error)
            outcome = Only1MCPError("internal error")
        self._flights.landed(self, outcome)

    def _watch(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        overdue = [each for each in self._passengers if each.deadline is not None and each.deadline <= now]
        self._flights.overdue(self, overdue)
        left = [each.deadline for each in self._passengers if each.deadline is not None]
        if left:
            self._watch(min(left))


def cancelled() -> RequestRefused:
    """Return what a client is answered that has called off its own request."""
    return RequestRefused("cancelled by the client", code=REQUEST_CANCELLED, http_status=200)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
