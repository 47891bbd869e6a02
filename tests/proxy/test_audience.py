"""What a backend says to one client reaches that client, as far as it wants to hear it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from only1mcp._fast import scan
from only1mcp.proxy.audience import ClientAudience
from only1mcp.proxy.desk import Desk, Quiet


class House(Quiet):
    """Notes what it is told; the level of session `s` is `warning`."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, session_id: str, message: bytes) -> bool:
        self.told.append((session_id, orjson.loads(message)["params"]["level"]))
        return True

    def updated(self, group: str, uri: str, owner: str = "") -> None:
        self.told.append((group, uri, owner))

    def completed(self, backend: str, owner: str | None, elicitation_id: str) -> None:
        self.told.append((backend, owner, elicitation_id))

    def level_of(self, session_id: str) -> str | None:
        return "warning" if session_id == "s" else None


def audience() -> tuple[House, ClientAudience]:
    house = House()
    return house, ClientAudience(Desk(asker=house, hub=house), house.level_of)


@pytest.mark.parametrize(
    ("session", "level", "heard"),
    [("s", "info", False), ("s", "warning", True), ("s", "loud", True), ("t", "debug", True)],
)
def test_a_session_hears_what_has_its_level(session: str, level: str, heard: bool) -> None:
    house, to = audience()
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": 1}}
    to.said(session, scan(orjson.dumps(message)))
    assert house.told == ([(session, level)] if heard else [])


def test_the_rest_is_passed_on() -> None:
    house, to = audience()
    to.updated("g", "s", "a:b")
    to.completed("b", None, "e")
    assert house.told == [("g", "a:b", "s"), ("b", None, "e")]
