"""Tasks of backends under ids of ours, which say who holds them and open for nobody but the principal that made them.

What a client is given for a task is sealed and not remembered, so that any process with the key finds the backend
again. How long a task lives is its backend's matter alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from only1mcp._fast import scan
from only1mcp.errors import METHOD_NOT_FOUND, BackendAnswerError, ProtocolError, RequestRefused
from only1mcp.frontend.sealing import Sealer
from only1mcp.proxy.capabilities import offers_tasks
from only1mcp.proxy.group import Group, Pinned
from only1mcp.proxy.route import Target
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire import tasks as wire
from only1mcp.wire.asks import MAX_DEPTH
from only1mcp.wire.mcp import HANDSHAKE, STATELESS
from only1mcp.wire.parked import wants_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from only1mcp._fast.envelope import Envelope
    from only1mcp.backend.endpoint import Endpoint
    from only1mcp.proxy.exchange import Exchange

# What may be answered with a task, or with what belongs to one.
ANSWERS: Final = mcp.TASK_METHODS | mcp.HANDSHAKE_TASK_METHODS | {"tools/call"}
# What we make of an id is sent in a header with every request; a longer one is no id.
MAX_ID_BYTES: Final = 1024
# The latest time that a seal can name: ids end with their tasks, of whose end we know nothing.
NEVER: Final = 2**32 - 1


class Place(NamedTuple):
    """Where a task is: the endpoint that has it, and what it is called there."""

    group: Group
    endpoint: Endpoint
    id: str


class Tasks:
    """The ids of all tasks; `key` is secret, and the same in every process that serves the clients."""

    def __init__(self, key: bytes) -> None:
        self._sealer = Sealer(key, "only1mcp.tasks")

    def route(self, exchange: Exchange, message: Envelope, method: str) -> Target:
        """Do as `TaskDesk.route` of `proxy/desk.py`."""
        assert exchange.era is not None
        if not offers_tasks(exchange.snapshot.catalog.capabilities, exchange.era):
            raise RequestRefused(f"the method {method!r} is not served", code=METHOD_NOT_FOUND, http_status=404)
        if exchange.era is STATELESS:
            require(message)
        span = wire.named(message)
        place = self.find(exchange, jsonrpc.decode_string(message.data, span))
        if place is None:
            raise RequestRefused("unknown task")
        pinned = Pinned(place.group, place.endpoint)
        return Target(pinned, place.id, (*span, orjson.dumps(place.id)), None, None)

    def find(self, exchange: Exchange, id: str) -> Place | None:
        """Return where the task is that the client of this exchange knows by `id`; None: it has none like that."""
        assert exchange.principal is not None
        plain = self._sealer.open(id, exchange.principal.id, 0)
        if plain is None:
            return None
        name, _, inner = plain.decode().partition("\0")
        found = _holder(exchange.snapshot.groups, name)
        if found is None or found[1].era is not exchange.era:
            return None
        return Place(*found, inner)

    def outward(self, exchange: Exchange, method: str, body: bytes) -> bytes:
        """Do as `TaskDesk.outward` of `proxy/desk.py`."""
        assert exchange.era is not None
        assert exchange.message is not None
        try:
            if exchange.era is HANDSHAKE and method == "tools/call" and not wants_task(exchange.message):
                return body
            spans = wire.id_spans(body, exchange.era, created=method == "tools/call")
            if not spans:
                return body
            if method == "tools/call":
                if exchange.era is STATELESS:
                    require(exchange.message)
                known = orjson.dumps(self._seal(exchange, jsonrpc.decode_string(body, spans[0])))
            else:
                # Whatever the backend calls it: it is what this client has asked about.
                known = exchange.message.data[slice(*wire.named(exchange.message))]
        except ProtocolError as error:
            raise BackendAnswerError(f"the backend's answer cannot be used: {error.message}") from error
        return jsonrpc.splice(body, [(*span, known) for span in spans])

    def relayed(self, exchange: Exchange, request: Envelope) -> Envelope:
        """Do as `TaskDesk.relayed` of `proxy/desk.py`."""
        assert exchange.message is not None
        try:
            span = wire.related_span(request)
            known = wire.named(exchange.message)
        except ProtocolError:
            return request  # whoever asks the client finds the same
        if span is None:
            return request
        return scan(jsonrpc.splice(request.data, [(*span, exchange.message.data[slice(*known)])]), MAX_DEPTH)

    def _seal(self, exchange: Exchange, inner: str) -> str:
        assert exchange.principal is not None
        assert exchange.backend is not None
        plain = f"{exchange.backend}\0{inner}".encode()
        if not inner or len(plain) > MAX_ID_BYTES:
            raise BackendAnswerError(f"the backend made a task with an id of {len(inner)} characters")
        return self._sealer.seal(plain, exchange.principal.id, NEVER)


def require(request: Envelope) -> None:
    """Raise `RequestRefused` (-32021) unless the request declares the extension."""
    if not wire.declares(request):
        raise RequestRefused(
            "this needs the capability for tasks",
            code=mcp.MISSING_CAPABILITY,
            http_status=400,
            data={"requiredCapabilities": wire.REQUIRED},
        )


def may_hold(exchange: Exchange) -> bool:
    """Return whether the answer to this exchange may name a task."""
    message, method = exchange.message, exchange.method
    if method != "tools/call":
        return method in ANSWERS
    assert message is not None
    return wire.declares(message) if exchange.era is STATELESS else wants_task(message)


def _holder(groups: Mapping[str, Group], name: str) -> tuple[Group, Endpoint] | None:
    for group in groups.values():
        endpoint = group.endpoints.get(name)
        if endpoint is not None:
            return group, endpoint
    return None
