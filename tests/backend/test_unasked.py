"""What a backend says unasked: which requests are answered and how, what is reported, and how much piles up."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from tests.backend.fakes import FakeServer, FakeTransport
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend.replies import MAX_REPLIES, Replies
from only1mcp.backend.unasked import Ear


class Overheard:
    """An ear, what it reports, and the server it hears."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.transport: FakeTransport = self.server()
        self.changes: list[tuple[str, str | None]] = []
        self.replies = Replies(self.transport, name="b")
        self.completed: list[str] = []
        self.ear = Ear(self.replies, on_change=self._changed, on_complete=self.completed.append)

    def _changed(self, kind: str, uri: str | None) -> None:
        self.changes.append((kind, uri))

    def hear(self, method: str, id: Any = None, params: Any = None) -> bool:
        message = {"jsonrpc": "2.0", "method": method} | ({} if id is None else {"id": id})
        message |= {} if params is None else {"params": params}
        return self.ear.hear(scan(orjson.dumps(message)))


@virtual
async def test_requests_are_answered() -> None:
    heard = Overheard()
    assert heard.hear("ping", id="p")
    for id, method in ((7, "sampling/createMessage"), (8, "roots/list"), (9, "unheard/of")):
        assert heard.hear(method, id)
    await asyncio.sleep(0.1)
    answers = {message["id"]: message for message in heard.server.sent}
    assert answers["p"] == {"jsonrpc": "2.0", "id": "p", "result": {}}
    assert {id: answers[id]["error"]["code"] for id in (7, 8, 9)} == {7: -32601, 8: -32601, 9: -32601}
    await heard.replies.aclose()


@virtual
async def test_the_end_of_an_elicitation_is_reported_where_it_says_of_which() -> None:
    heard = Overheard()
    for params in ({"elicitationId": "e"}, {"elicitationId": 7}, {"elicitationId": None}, {}, None):
        assert heard.hear("notifications/elicitation/complete", params=params)
    assert heard.completed == ["e"]
    assert (heard.changes, heard.server.sent) == ([], [])


@virtual
async def test_changed_lists_are_reported_and_other_notifications_are_nobodys() -> None:
    heard = Overheard()
    for kind in ("tools", "resources", "prompts"):
        assert heard.hear(f"notifications/{kind}/list_changed")
    changes: list[tuple[str, str | None]] = [(kind, None) for kind in ("tools", "resources", "prompts")]
    assert heard.changes == changes
    for method in ("notifications/message", "notifications/progress", "notifications/x", "x", "ping"):
        assert not heard.hear(method)
    await asyncio.sleep(1)
    assert (heard.changes, heard.server.sent) == (changes, [])


@virtual
async def test_a_changed_resource_is_reported_by_its_uri() -> None:
    heard = Overheard()
    assert heard.hear("notifications/resources/updated", params={"uri": "test://\u00e9"})
    # It names nothing, and is nobody else's either.
    for params in (None, {}):
        assert heard.hear("notifications/resources/updated", params=params)
    assert heard.changes == [("resources", "test://\u00e9")]


@virtual
async def test_a_flood_of_requests_does_not_pile_up() -> None:
    heard = Overheard()
    before = len(asyncio.all_tasks())
    for id in range(10_000):
        heard.hear("ping", id)
    assert len(asyncio.all_tasks()) - before <= MAX_REPLIES
    await asyncio.sleep(0.1)
    assert len(heard.server.sent) == MAX_REPLIES
    heard.hear("ping", "again")
    await asyncio.sleep(0.1)
    assert heard.server.sent[-1]["id"] == "again"


@virtual
async def test_closed_it_replies_no_more_and_still_hears() -> None:
    heard = Overheard()
    heard.hear("ping", 1)
    await heard.replies.aclose()
    assert heard.hear("ping", 2)
    assert heard.hear("notifications/tools/list_changed")
    await asyncio.sleep(0.1)
    assert (heard.changes, heard.server.sent) == ([("tools", None)], [])


@virtual
async def test_a_reply_that_cannot_leave_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "only1mcp.backend")
    heard = Overheard()
    heard.transport.die("gone")
    heard.hear("ping", 1)
    await asyncio.sleep(0.1)
    assert caplog.messages == ["backend.send_failed"]
