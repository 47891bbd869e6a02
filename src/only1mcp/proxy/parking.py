"""Calls of stateless clients whose handshake backend asks something: answered with `input_required`, parked, resumed.

The backend's call lives on while its client is away, with its clock stopped; the `requestState` that the client brings
back is sealed for its principal and good for one retry of the same request. What becomes of the call meanwhile is kept
for that retry.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

import orjson

from only1mcp._fast import members
from only1mcp.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BackendAnswerError,
    BackendError,
    Only1MCPError,
    ProtocolError,
    RequestRefused,
)
from only1mcp.frontend.sealing import Sealer
from only1mcp.proxy.asking import GONE, TOO_MANY, UNDECLARED, Asking
from only1mcp.proxy.call import Answer
from only1mcp.proxy.ratelimit import address_key
from only1mcp.proxy.route import find_target
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.asks import CAPABILITY, MAX_ASKS, Ask, for_stateless, input_required, may_ask, requirement
from only1mcp.wire.parked import (
    Token,
    declared,
    declines,
    digest_of,
    is_failure,
    maybe_retry,
    maybe_urls,
    progress_token,
    token_of,
    without_retry,
)

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.proxy.desk import Relay
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.forward import Forwarding
    from only1mcp.proxy.route import Target

log = logging.getLogger("only1mcp.proxy")

# Each parked call holds a request open at its backend.
MAX_PARKED: Final = 1024
MAX_PER_PRINCIPAL: Final = 32
# A client that answers nothing, again and again, would keep its call for ever.
MAX_ROUNDS: Final = 64
# Results that have come before their clients: of one call, and of all.
MAX_OUTCOME_BYTES: Final = 1 << 20
MAX_KEPT_BYTES: Final = 64 << 20


class Stage(Enum):
    """Whether a client waits for the call (on an exchange), or has to come back for it."""

    ATTACHED = "attached"
    PARKED = "parked"
    OVER = "over"


class Lot:
    """All parked calls of one process; `worker` is its number, `input_s` how long a client may take to come back."""

    def __init__(self, key: bytes, *, worker: int, input_s: float, wall_clock: Callable[[], float]) -> None:
        self.input_s = input_s
        self.kept_bytes = 0
        self._worker = worker
        self._wall_clock = wall_clock
        self._sealer = Sealer(key, "only1mcp.parked")
        self._calls: dict[int, Parked] = {}
        self._held: Counter[str] = Counter()
        self._closed = False

    def __len__(self) -> int:
        return len(self._calls)

    def takes(self, forwarding: Forwarding) -> bool:
        """Do as `Lot.takes` of `proxy/desk.py`."""
        exchange = forwarding.exchange
        assert exchange.message is not None
        retry = maybe_retry(exchange.message)
        if retry is not None and retry.state is not None:
            parked = self._find(exchange, exchange.message, retry.state)
            if parked.work is not None:
                parked.resume(parked.work, exchange, retry.responses)
                return True
            if parked.asks_again(exchange, forwarding.target, retry.responses):
                return True
        if retry is not None:
            message = exchange.message = without_retry(exchange.message)
            forwarding.target = find_target(exchange, message, forwarding.method)
        forwarding.lot = self
        exchange.work = forwarding
        return False

    def asked(self, forwarding: Forwarding, asking: Asking, relay: Relay) -> None:
        """Do as `Lot.asked` of `proxy/desk.py`."""
        try:
            self._ask(forwarding, asking, relay)
        except ProtocolError as error:
            asking.refuse(f"the request cannot be used: {error.message}", INVALID_PARAMS)
        except Exception:  # it would cost the backend's connection
            log.exception("parking.failed")
            asking.refuse("internal error", INTERNAL_ERROR)

    def cancelled(self, forwarding: Forwarding, message: Envelope) -> bool:
        """Do as `Lot.cancelled` of `proxy/desk.py`."""
        parked: Parked | None = forwarding.parked
        if parked is None or message.params is None:
            return False
        try:
            span = members(message.data, *message.params).get("requestId")
        except ProtocolError:
            return False
        return span is not None and parked.withdraw(message.data[slice(*span)])

    def settles(self, forwarding: Forwarding, outcome: Answer | Only1MCPError) -> bool:
        """Do as `Lot.settles` of `proxy/desk.py`."""
        parked: Parked | None = forwarding.parked
        if parked is not None and parked.stage is Stage.PARKED:
            parked.keep(outcome)
            return True
        missing = None
        if parked is not None:
            missing = parked.missing
            parked.close()
        if not isinstance(outcome, Answer):
            return False
        forwarding.exchange.work = None  # the two hold each other
        try:
            return self._explains(forwarding, outcome.message, missing)
        except ProtocolError:
            return False  # whoever translates the answer finds the same, and says so

    async def aclose(self) -> None:
        """Give up every parked call, and park no more."""
        self._closed = True
        for parked in list(self._calls.values()):
            parked.give_up()

    def seal(self, parked: Parked, exchange: Exchange) -> str:
        """Return the `requestState` with which the client can come back once."""
        assert exchange.principal is not None
        token = Token(self._worker, parked.serial, parked.round, parked.digest)
        return self._sealer.seal(token.packed(), exchange.principal.id, self._wall_clock() + self.input_s)

    def maybe_admit(self, parked: Parked) -> bool:
        """Count the call among those that are parked, unless there are too many."""
        if parked.serial in self._calls:
            return True
        if self._closed or len(self._calls) >= MAX_PARKED or self._held[parked.holder] >= MAX_PER_PRINCIPAL:
            return False
        self._calls[parked.serial] = parked
        self._held[parked.holder] += 1
        return True

    def remove(self, parked: Parked) -> None:
        if self._calls.pop(parked.serial, None) is not None:
            self._held[parked.holder] -= 1
            if not self._held[parked.holder]:
                del self._held[parked.holder]

    def _find(self, exchange: Exchange, message: Envelope, state: str) -> Parked:
        assert exchange.principal is not None
        packed = self._sealer.open(state, exchange.principal.id, self._wall_clock())
        token = None if packed is None else token_of(packed)
        if token is None:
            raise _unusable("it is not one of ours for this client, or has expired")
        if token.digest != digest_of(message):
            raise _unusable("it was given for another request")
        parked = self._calls.get(token.serial) if token.worker == self._worker else None
        if parked is None or parked.stage is not Stage.PARKED or parked.round != token.round:
            raise _unusable("it was used already, or its call is over")
        return parked

    def _ask(self, forwarding: Forwarding, asking: Asking, relay: Relay) -> None:
        ask, exchange = asking.ask, forwarding.exchange
        if ask.method not in CAPABILITY:
            asking.refuse("no client can be asked that")
            return
        if ask.params is None and ask.method != "roots/list":
            asking.refuse("params are missing", INVALID_PARAMS)
            return
        parked: Parked | None = forwarding.parked
        if parked is None:
            parked = forwarding.parked = Parked(self, forwarding, exchange)
        assert exchange.message is not None
        capabilities = declared(exchange.message)
        if not may_ask(ask, capabilities, exchange.revision):
            parked.missing = parked.missing or ask
            asking.refuse(UNDECLARED, INVALID_PARAMS if CAPABILITY[ask.method] in capabilities else METHOD_NOT_FOUND)
        elif len(parked.asks) >= MAX_ASKS or not self.maybe_admit(parked):
            asking.refuse(TOO_MANY, INTERNAL_ERROR)
        else:
            parked.add(for_stateless(ask), asking, relay)

    def _explains(self, forwarding: Forwarding, message: Envelope, missing: Ask | None) -> bool:
        """Tell the client what it would need, or has to do, for the call to succeed."""
        exchange = forwarding.exchange
        if missing is not None and is_failure(message):
            exchange.refuse(_lacking(missing))
            return True
        urls = maybe_urls(message)
        if urls is None:
            return False
        assert exchange.message is not None
        if not may_ask(urls[0], declared(exchange.message), exchange.revision):
            exchange.refuse(_lacking(urls[0]))
            return True
        parked = Parked(self, None, exchange)
        if not self.maybe_admit(parked):
            return False
        for ask in urls:
            parked.add(ask, None, None)
        parked.park(exchange, forwarding.target)
        return True


class Parked:
    """One call that asks its client; without `work` it has ended with -32042, and a retry makes it anew."""

    __slots__ = (
        "_due",
        "_keys",
        "_kept_bytes",
        "_lot",
        "_loop",
        "_outcome",
        "_relay",
        "_timer",
        "asks",
        "digest",
        "holder",
        "missing",
        "round",
        "serial",
        "stage",
        "work",
    )

    def __init__(self, lot: Lot, work: Forwarding | None, exchange: Exchange) -> None:
        assert exchange.principal is not None
        assert exchange.message is not None
        self._lot = lot
        self._loop = asyncio.get_running_loop()
        self.work = work
        self.serial = int.from_bytes(os.urandom(8))
        self.round = 0
        self.digest = digest_of(exchange.message)
        principal = exchange.principal
        self.holder = principal.id if principal.kind != "anonymous" else address_key(exchange.http.peer)
        self.stage = Stage.ATTACHED
        # What is asked and not answered, by key. Keys are never used again, so that no answer meets another question.
        self.asks: dict[str, tuple[Ask, Asking | None]] = {}
        self._keys = 0
        # What was asked although the client has not declared that it can be.
        self.missing: Ask | None = None
        self._relay: Relay | None = None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._outcome: Answer | Only1MCPError | None = None
        self._kept_bytes = 0

    def add(self, ask: Ask, asking: Asking | None, relay: Relay | None) -> None:
        """Ask this too: with what else comes in this turn of the event loop, or in the next round."""
        self._keys += 1
        key = f"input-{self._keys}"
        self.asks[key] = Ask(key, ask.method, ask.params), asking
        work = self.work
        if work is None:
            return
        self._relay = relay
        if self.stage is Stage.ATTACHED and not self._due:
            self._due = True
            work.exchange.http.defer(self.give_up)
            self._loop.call_soon(self._park_now, work)

    def _park_now(self, work: Forwarding) -> None:
        self._due = False
        if self.stage is Stage.ATTACHED:
            self.park(work.exchange, work.target)

    def park(self, exchange: Exchange, target: Target) -> None:
        """Answer the exchange with everything that is asked, if it still is."""
        for key, (_, asking) in list(self.asks.items()):
            if asking is not None and not asking.open:
                del self.asks[key]
        if not self.asks:
            return
        if self.round >= MAX_ROUNDS:
            self.give_up()
            exchange.refuse(RequestRefused("too many rounds for one call", code=INTERNAL_ERROR, http_status=200))
            return
        self.round += 1
        self.stage = Stage.PARKED
        self._timer = self._loop.call_later(self._lot.input_s, self.give_up)
        value = input_required((ask for ask, _ in self.asks.values()), self._lot.seal(self, exchange))
        exchange.reply(200, jsonrpc.result(exchange.id, _stamped(value, target)))

    def resume(self, work: Forwarding, exchange: Exchange, responses: dict[str, bytes]) -> None:
        """Go on for this exchange: with the answers, or with what has become of the call meanwhile."""
        assert exchange.message is not None
        self._attach()
        exchange.backend = work.exchange.backend
        work.exchange.work = None
        work.exchange = exchange
        exchange.work = work
        if self._relay is not None:
            self._relay.attach(exchange, progress_token(exchange.message))
        exchange.http.defer(self.give_up)
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            work.done(outcome)
            return
        for key in [key for key in self.asks if key in responses]:
            _, asking = self.asks.pop(key)
            if asking is not None:
                asking.answer(responses[key])
        self.park(exchange, work.target)

    def asks_again(self, exchange: Exchange, target: Target, responses: dict[str, bytes]) -> bool:
        """Take the answers to -32042: False when the call is to be made again, now that the user has consented."""
        self._attach()
        if any(key not in responses for key in self.asks):
            self.park(exchange, target)
            return True
        asks = list(self.asks)
        self.close()
        if any(declines(responses[key]) for key in asks):
            raise RequestRefused("what the call needs was declined", code=INTERNAL_ERROR, http_status=200)
        return False

    def keep(self, outcome: Answer | Only1MCPError) -> None:
        """The call has ended while its client is away."""
        self._withdraw_all()
        if isinstance(outcome, Answer):
            size = len(outcome.message.data)
            if size > MAX_OUTCOME_BYTES or self._lot.kept_bytes + size > MAX_KEPT_BYTES:
                hint = {"hint": "call again"}
                outcome = BackendAnswerError("the result came too early and was too large to be kept", data=hint)
            else:
                self._kept_bytes = size
                self._lot.kept_bytes += size
        elif isinstance(outcome, BackendError) and outcome.retryable:
            # It has been worked on: nobody makes it again unasked.
            outcome = BackendAnswerError(outcome.message, data=outcome.data)
        self._outcome = outcome

    def withdraw(self, id: bytes) -> bool:
        """The backend does not want to know any more."""
        for key, (_, asking) in self.asks.items():
            if asking is not None and asking.backend_id == id:
                asking.withdraw()
                del self.asks[key]
                return True
        return False

    def give_up(self) -> None:
        """The client has left, does not come back in time, or we shut down."""
        for _, asking in self.asks.values():
            if asking is not None:
                asking.refuse(GONE, INTERNAL_ERROR)
        work = self.work
        self.close()
        if work is not None:
            work.give_up()

    def close(self) -> None:
        """Nothing is asked any more, and no retry can come."""
        self._attach()
        self.stage = Stage.OVER
        self._withdraw_all()
        self._relay = self._outcome = None
        self._lot.remove(self)
        if self.work is not None:
            # The two hold each other.
            self.work.parked = None
            self.work = None

    def _attach(self) -> None:
        self.stage = Stage.ATTACHED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lot.kept_bytes -= self._kept_bytes
        self._kept_bytes = 0

    def _withdraw_all(self) -> None:
        for _, asking in self.asks.values():
            if asking is not None:
                asking.withdraw()
        self.asks.clear()


def _unusable(why: str) -> RequestRefused:
    return RequestRefused(f"requestState cannot be used: {why}", data={"hint": "send the request again without it"})


def _lacking(ask: Ask) -> RequestRefused:
    """Return the error -32021 that names what the client has not declared."""
    return RequestRefused(
        UNDECLARED, code=mcp.MISSING_CAPABILITY, http_status=400, data={"requiredCapabilities": requirement(ask)}
    )


def _stamped(result: bytes, target: Target) -> bytes:
    """Return the result with the name of its server, as every result of a handshake backend is given it."""
    source = target.group.source
    peer = None if source is None else source.peer
    info = orjson.dumps({} if peer is None else peer.server_info)
    return result[:-1] + b',"_meta":{' + orjson.dumps(mcp.META_SERVER_INFO) + b":" + info + b"}}"
