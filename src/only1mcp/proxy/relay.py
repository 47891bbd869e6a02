"""What arrives on one call's own stream before its answer, and where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from only1mcp._fast import NOTIFICATION, members
from only1mcp.backend.base import Clock
from only1mcp.backend.era import Peer
from only1mcp.backend.line import Line
from only1mcp.errors import ProtocolError
from only1mcp.proxy.asking import Asking
from only1mcp.proxy.exchange import Exchange
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.levels import rank_at, rank_of
from only1mcp.wire.mcp import HANDSHAKE

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope

# What belongs on other streams. Of tasks clients hear by ids of ours, and only where they listen for them.
_NOT_OF_A_CALL = frozenset({"notifications/resources/updated", "notifications/tasks", "notifications/tasks/status"})


class Relay:
    """Takes what arrives on one call's own stream before its answer."""

    __slots__ = ("_endpoint", "_exchange", "_progress_token", "_same_era")

    def __init__(self, exchange: Exchange, endpoint: Line, peer: Peer, progress_token: bytes | None) -> None:
        self._exchange = exchange
        self._endpoint = endpoint
        self._same_era = peer.era is exchange.era
        self._progress_token = progress_token

    def __call__(self, message: Envelope) -> None:
        method = message.method
        if message.kind != NOTIFICATION:
            return
        if method == "notifications/cancelled":
            exchange = self._exchange
            if exchange.work is not None:
                exchange.snapshot.desk.lot.cancelled(exchange.work, message)
            else:
                exchange.snapshot.desk.asker.cancelled(exchange, message)
        elif method == "notifications/progress":
            if self._progress_token is not None:
                relayed = _with_token(message, self._progress_token)
                if relayed is not None:
                    self._exchange.interim(relayed)
        elif method == "notifications/message":
            least = self._least_rank
            if least == 0 or (least is not None and rank_of(message) >= least):
                self._exchange.interim(message.data)
        elif self._endpoint.hear(message):
            return
        elif self._same_era and method not in _NOT_OF_A_CALL:
            self._exchange.interim(message.data)

    def asked(self, message: Envelope, clock: Clock | None) -> None:
        exchange, endpoint = self._exchange, self._endpoint
        if message.method == "ping":
            endpoint.hear(message)
            return
        desk = exchange.snapshot.desk
        if exchange.method == "tasks/result":
            message = desk.tasks.relayed(exchange, message)
        asking = Asking(message, endpoint.replies, endpoint.id, clock)
        if exchange.cache_key is not None:
            # Others may be given what comes of this one client's answer.
            asking.refuse("a call whose result may be kept cannot ask its client")
        elif exchange.era is HANDSHAKE:
            desk.asker.relay(exchange, asking)
        elif exchange.work is not None:
            desk.lot.asked(exchange.work, asking, self)
        else:
            asking.refuse("this client does not serve requests from servers")

    @property
    def owner(self) -> str:
        return self._exchange.owner

    @property
    def in_session(self) -> bool:
        return self._exchange.session is not None

    def attach(self, exchange: Exchange, progress_token: bytes | None) -> None:
        """Speak to another exchange from now on: the retry of a parked call."""
        self._exchange = exchange
        self._progress_token = progress_token

    @property
    def progress_token(self) -> bytes | None:
        return self._progress_token

    @property
    def must_drain(self) -> bool:
        return self._exchange.must_drain

    async def drain(self) -> None:
        await self._exchange.drain()

    def take_events(self, events: bytes) -> None:
        self._exchange.interim_events(events)

    @property
    def wants_logs(self) -> bool:
        """Whether log messages pass as they come; those of others are looked at one by one, or dropped."""
        return self._least_rank == 0

    @property
    def _least_rank(self) -> int | None:
        """The rank from which on log messages pass, None where none does.

        A stateless client gets them only where its request asked for them.
        """
        exchange = self._exchange
        if exchange.session is not None:
            return exchange.snapshot.desk.sessions.log_rank(exchange.session) or 0
        message = exchange.message
        if exchange.era is HANDSHAKE:
            return 0
        if message is None or message.meta is None:
            return None
        span = members(message.data, *message.meta).get(mcp.META_LOG_LEVEL)
        if span is None:
            return None
        # A stateless backend was told the level by the request itself.
        return 0 if self._same_era else rank_at(message.data, span, 0)


def _with_token(message: Envelope, token: bytes) -> bytes | None:
    """Return progress with the client's own token, None where it is not clear whose token it has."""
    try:
        span = None if message.params is None else members(message.data, *message.params).get("progressToken")
    except ProtocolError:
        return None
    return None if span is None else jsonrpc.splice(message.data, [(*span, token)])
