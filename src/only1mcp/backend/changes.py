"""Keeps open the streams on which a backend tells that its lists have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from only1mcp._fast import ERROR, Envelope
from only1mcp.backend.base import CALLER, BackendCall, OnMessage, Transport
from only1mcp.backend.era import Peer
from only1mcp.errors import BackendError, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire.eras import own_params
from only1mcp.wire.mcp import STATELESS

log = logging.getLogger("only1mcp.backend")

# A server without such a stream ends the request at once; one that does so this often is not asked again.
MAX_SHORT_STREAMS = 3
SHORT_STREAM_S = 1.0
# A stream that lasted this long is begun anew without a longer wait than after the first break.
STEADY_STREAM_S = 10.0

_CAPABILITY_OF = {"toolsListChanged": "tools", "promptsListChanged": "prompts", "resourcesListChanged": "resources"}


def announced(peer: Peer) -> list[str]:
    """Return the notifications of `subscriptions/listen` that the peer's capabilities promise."""
    capabilities = peer.capabilities
    return [
        name
        for name, capability in _CAPABILITY_OF.items()
        if isinstance(capabilities.get(capability), dict) and capabilities[capability].get("listChanged") is True
    ]


def is_silent(peer: Peer) -> bool:
    """Return whether the peer has lists of whose changes it does not promise to tell."""
    told = announced(peer)
    return any(peer.offers(capability) and name not in told for name, capability in _CAPABILITY_OF.items())


def maybe_listen(
    transport: Transport,
    peer: Peer,
    next_id: Callable[[], bytes],
    on_message: OnMessage,
    on_gap: Callable[[], None],
    backoff: Callable[[int], float],
    *,
    http: bool,
) -> Coroutine[Any, Any, None] | None:
    """Return the work of listening for changes, None where the server tells of them unasked, or promises none.

    Only those who ask are told over HTTP always, over a pipe in the stateless era.
    """
    if peer.era is STATELESS:
        return listen_stateless(transport, peer, next_id, on_message, on_gap, backoff) if announced(peer) else None
    return listen_handshake(transport, on_gap, backoff) if http else None


async def listen_stateless(
    transport: Transport,
    peer: Peer,
    next_id: Callable[[], bytes],
    on_message: OnMessage,
    on_gap: Callable[[], None],
    backoff: Callable[[int], float],
) -> None:
    """Hold open the stream on which a server tells of its lists; `on_gap` after each break: nothing is replayed."""
    wanted = orjson.dumps(dict.fromkeys(announced(peer), True))
    await hold_listen(transport, peer, next_id, wanted, on_message, on_gap, backoff)


async def hold_listen(
    transport: Transport,
    peer: Peer,
    next_id: Callable[[], bytes],
    wanted: bytes,
    on_message: OnMessage,
    on_gap: Callable[[], None],
    backoff: Callable[[int], float],
) -> Envelope:
    """Hold `subscriptions/listen` open (2026-07-28 "Subscriptions") with the filter `wanted`, a JSON text.

    `on_gap` is called before it is begun anew after a break. Return the error with which the server refuses it.
    """
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began = loop.time()
        id = next_id()
        params = own_params(peer.era, peer.revision, CALLER, {"notifications": wanted})
        message = jsonrpc.request(id, "subscriptions/listen", params)
        try:
            answer = await transport.call(BackendCall("subscriptions/listen", message, id, None, on_message=on_message))
        except (BackendError, ProtocolError) as error:
            log.info("backend.listen_ended", extra={"fields": {"reason": error.message}})
        else:
            if answer.kind == ERROR:
                return answer
        failures = 1 if loop.time() - began >= STEADY_STREAM_S else failures + 1
        await asyncio.sleep(backoff(failures))
        on_gap()


async def listen_handshake(transport: Transport, on_gap: Callable[[], None], backoff: Callable[[int], float]) -> None:
    """Hold the GET stream of an HTTP server open (2025-11-25 "Listening for Messages from the Server")."""
    loop = asyncio.get_running_loop()
    short = 0
    while True:
        began = loop.time()
        try:
            await transport.listen()
        except (BackendError, ProtocolError) as error:
            log.info("backend.listen_ended", extra={"fields": {"reason": error.message}})
        lasted = loop.time() - began >= SHORT_STREAM_S
        short = 0 if lasted else short + 1
        if short > MAX_SHORT_STREAMS:
            return
        await asyncio.sleep(backoff(short + 1))
        if lasted:
            on_gap()
