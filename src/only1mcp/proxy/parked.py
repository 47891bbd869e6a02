"""One call that asks a stateless client: what it asks, in which round it is, and what came of it meanwhile."""

from __future__ import annotations

import asyncio
import os
from enum import Enum
from typing import TYPE_CHECKING, Final

import orjson

from only1mcp.errors import INTERNAL_ERROR, BackendAnswerError, BackendError, Only1MCPError, RequestRefused
from only1mcp.proxy.asking import GONE, Asking
from only1mcp.proxy.call import Answer
from only1mcp.proxy.ratelimit import address_key
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.asks import Ask, input_required
from only1mcp.wire.eras import NO_STAMP, stamp_of
from only1mcp.wire.parked import declines, digest_of, progress_token

if TYPE_CHECKING:
    from only1mcp.proxy.desk import Relay
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.forward import Forwarding
    from only1mcp.proxy.parking import Lot
    from only1mcp.proxy.route import Target

# A client that answers nothing, again and again, would keep its call for ever.
MAX_ROUNDS: Final = 64
# Results that have come before their clients: of one call, and of all.
MAX_OUTCOME_BYTES: Final = 1 << 20
MAX_KEPT_BYTES: Final = 64 << 20
# What a backend asks at once comes message by message. Waiting this long for the next one is little beside a user or a
# model that answers, and spares them a round for each of the questions.
GATHER_S: Final = 0.05


class Stage(Enum):
    """Whether a client waits for the call (on an exchange), or has to come back for it."""

    ATTACHED = "attached"
    PARKED = "parked"
    OVER = "over"


class Parked:
    """One call that asks its client; without `work` it has ended with -32042, and a retry makes it anew."""

    __slots__ = (
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
        self._keys: set[str] = set()
        # What was asked although the client has not declared that it can be.
        self.missing: Ask | None = None
        self._relay: Relay | None = None
        # To stop waiting: for more of what the backend asks, or for the client.
        self._timer: asyncio.TimerHandle | None = None
        self._outcome: Answer | Only1MCPError | None = None
        self._kept_bytes = 0

    def add(self, ask: Ask, asking: Asking | None, relay: Relay | None) -> None:
        """Ask this too: with what else comes within `GATHER_S`, or in the next round."""
        key = self._new_key(ask)
        self.asks[key] = Ask(key, ask.method, ask.params), asking
        work = self.work
        if work is None:
            return
        self._relay = relay
        if self.stage is Stage.ATTACHED:
            if self._timer is None:
                work.exchange.http.defer(self.give_up)
            else:
                self._timer.cancel()
            self._timer = self._loop.call_later(GATHER_S, self._park_now, work)

    def _new_key(self, ask: Ask) -> str:
        """Return the name that the backend has given to its question, where it has and did not give it before."""
        key, number = ask.key, len(self._keys)
        while not key or key in self._keys:
            number += 1
            key = f"input-{number}"
        self._keys.add(key)
        return key

    def _park_now(self, work: Forwarding) -> None:
        self._timer = None
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


def _stamped(result: bytes, target: Target) -> bytes:
    """Return the result with the name of its server, as every result of a handshake backend is given it."""
    source = target.group.source
    peer = None if source is None else source.peer
    info = stamp_of({} if peer is None else peer.server_info)
    if info == NO_STAMP:
        return result
    return result[:-1] + b',"_meta":{' + orjson.dumps(mcp.META_SERVER_INFO) + b":" + info + b"}}"
