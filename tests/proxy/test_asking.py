"""One request of a backend on its way to a client: answered once, with the backend's own id, while its clock stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.backend.fakes import FakeServer, Watch
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend.replies import Replies
from only1mcp.proxy.asking import Asking

REQUEST = b'{"jsonrpc":"2.0","id":"its-own","method":"elicitation/create","params":{"message":"m"}}'


ENDS: list[tuple[Callable[[Asking], None], dict[str, object] | None]] = [
    (lambda asking: asking.answer(b'{"action":"accept"}'), {"result": {"action": "accept"}}),
    (lambda asking: asking.fail(b'{"code":-1,"message":"no"}'), {"error": {"code": -1, "message": "no"}}),
    (lambda asking: asking.refuse("never"), {"error": {"code": -32601, "message": "never"}}),
    (lambda asking: asking.withdraw(), None),
]


@pytest.mark.parametrize("first", range(len(ENDS)))
@virtual
async def test_it_ends_once_however_it_ends(first: int) -> None:
    server, watch = FakeServer(), Watch()
    replies = Replies(server(), name="b")
    asking = Asking(scan(REQUEST), replies, "b", watch)
    assert (watch.stops, asking.open) == (1, True)
    assert (asking.ask.method, asking.ask.params) == ("elicitation/create", b'{"message":"m"}')
    end, sent = ENDS[first]
    end(asking)
    for other, _ in ENDS:
        other(asking)
    await asyncio.sleep(0.1)
    assert (watch.stops, asking.open) == (0, False)
    assert server.sent == ([] if sent is None else [{"jsonrpc": "2.0", "id": "its-own", **sent}])
    await replies.aclose()


@virtual
async def test_nobody_waits_any_more_when_the_connection_is_gone() -> None:
    server = FakeServer()
    replies = Replies(server(), name="b")
    asking = Asking(scan(REQUEST), replies, "b", None)
    await replies.aclose()
    assert not asking.open
    asking.answer(b"{}")
    await asyncio.sleep(0.1)
    assert server.sent == []
