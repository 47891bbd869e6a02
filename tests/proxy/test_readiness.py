"""What /health and /ready say of the backends."""

from __future__ import annotations

import orjson
from tests.proxy.exchanges import snapshot_of
from tests.proxy.offers import offer

from only1mcp import __version__
from only1mcp.backend.endpoint import State
from only1mcp.proxy.readiness import health_body, ready_body


def test_health() -> None:
    assert orjson.loads(health_body()) == {"status": "ok", "version": __version__}


def test_ready_with_every_backend() -> None:
    up, down = offer("a", group="g", tools=["x", "y"], prompts=["p"]), offer("b")
    up.in_flight = 3
    down.state, down.peer, down.inventory, down.last_error = State.DOWN, None, None, "no such command"
    status, body = ready_body(snapshot_of(up, down), accepting=True)
    document = orjson.loads(body)
    assert (status, document["status"], document["version"]) == (200, "ready", __version__)
    assert document["backends"] == [
        {
            "id": "a",
            "group": "g",
            "transport": "stdio",
            "state": "up",
            "in_flight": 3,
            "era": "handshake",
            "revision": "2025-11-25",
            "tools": 2,
            "resources": 0,
            "prompts": 1,
        },
        {"id": "b", "group": "b", "transport": "stdio", "state": "down", "in_flight": 0, "error": "no such command"},
    ]


def test_not_ready() -> None:
    status, body = ready_body(snapshot_of(), accepting=False)
    assert (status, orjson.loads(body)["status"]) == (503, "not ready")


def test_a_reason_that_is_not_utf8_does_not_keep_the_answer_from_being_made() -> None:
    down = offer("b")
    down.last_error = "command 'caf\udce9' was not found"
    status, body = ready_body(snapshot_of(down), accepting=True)
    assert status == 200
    assert "caf" in orjson.loads(body)["backends"][0]["error"]
