"""Calls of stateless clients whose handshake backend asks something: answered with `input_required`, parked, resumed.

The backend's call lives on while its client is away, with its clock stopped; the `requestState` that the client brings
back is sealed for its principal and good for one retry of the same request. What becomes of the call meanwhile is kept
for that retry.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from only1mcp._fast import members
from only1mcp.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Only1MCPError,
    ProtocolError,
    RequestRefused,
)
from only1mcp.frontend.sealing import Sealer
from only1mcp.proxy.asking import TOO_MANY, UNDECLARED, Asking
from only1mcp.proxy.call import Answer
from only1mcp.proxy.parked import Parked, Stage
from only1mcp.proxy.route import find_target
from only1mcp.wire import mcp
from only1mcp.wire.asks import CAPABILITY, MAX_ASKS, Ask, for_stateless, may_ask, requirement
from only1mcp.wire.parked import (
    Token,
    as_first,
    declared,
    digest_of,
    is_failure,
    maybe_retry,
    maybe_urls,
    token_of,
    wants_task,
)

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.proxy.desk import Relay
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.forward import Forwarding

log = logging.getLogger("only1mcp.proxy")

# Each parked call holds a request open at its backend.
MAX_PARKED: Final = 1024
MAX_PER_PRINCIPAL: Final = 32


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
        if retry is not None or wants_task(exchange.message):
            message = exchange.message = as_first(exchange.message)
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


def _unusable(why: str) -> RequestRefused:
    return RequestRefused(f"requestState cannot be used: {why}", data={"hint": "send the request again without it"})


def _lacking(ask: Ask) -> RequestRefused:
    """Return the error -32021 that names what the client has not declared."""
    return RequestRefused(
        UNDECLARED, code=mcp.MISSING_CAPABILITY, http_status=400, data={"requiredCapabilities": requirement(ask)}
    )
