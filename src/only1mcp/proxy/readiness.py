"""What `/health` and `/ready` answer: alive at all, and able to serve; with every backend's state."""

from __future__ import annotations

from typing import Any

import orjson

from only1mcp import __version__
from only1mcp.backend.endpoint import Endpoint
from only1mcp.proxy.exchange import Exchange, Snapshot


def answer_probe(exchange: Exchange, path: str, *, accepting: bool) -> None:
    """Answer `/health` or `/ready`."""
    exchange.http.on_finish = None  # no request of a client: a 503 while starting is no failure
    if exchange.http.head.method not in (b"GET", b"HEAD"):
        exchange.empty(405, [(b"allow", b"GET, HEAD")])
    elif path == "/health":
        exchange.reply(200, health_body())
    else:
        status, body = ready_body(exchange.snapshot, accepting=accepting)
        exchange.reply(status, body)


def health_body() -> bytes:
    """Return the liveness document: whoever can answer is alive."""
    return orjson.dumps({"status": "ok", "version": __version__})


def ready_body(snapshot: Snapshot, *, accepting: bool) -> tuple[int, bytes]:
    """Return status and readiness document; 503 while starting and while draining.

    A backend that is down does not make the proxy unready: the others' calls would be lost with it.
    """
    backends = [_backend(e, group.id) for group in snapshot.groups.values() for e in group.endpoints.values()]
    document = {"status": "ready" if accepting else "not ready", "version": __version__, "backends": backends}
    return (200 if accepting else 503), orjson.dumps(document)


def _backend(endpoint: Endpoint, group: str) -> dict[str, Any]:
    peer, inventory = endpoint.peer, endpoint.inventory
    entry: dict[str, Any] = {
        "id": endpoint.id,
        "group": group,
        "transport": endpoint.config.transport,
        "state": endpoint.state.value,
        "in_flight": endpoint.in_flight,
    }
    if peer is not None:
        entry["era"] = peer.era.value
        entry["revision"] = peer.revision
    if inventory is not None:
        entry["tools"] = inventory.count("tools/list")
        entry["resources"] = inventory.count("resources/list")
        entry["prompts"] = inventory.count("prompts/list")
    if endpoint.last_error is not None:
        # A command or path of the system may hold bytes that are no UTF-8, here lone surrogates.
        entry["error"] = endpoint.last_error.encode(errors="replace").decode()
    return entry
