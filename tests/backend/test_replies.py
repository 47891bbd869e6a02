"""The way back to a backend: replies are sent in the background, bounded, and none after the connection is gone."""

from __future__ import annotations

import asyncio

import orjson
from tests.backend.fakes import FakeServer
from tests.virtual import virtual

from only1mcp.backend.replies import MAX_REPLIES, Replies


@virtual
async def test_results_errors_and_messages_are_sent() -> None:
    server = FakeServer()
    replies = Replies(server(), name="b")
    replies.result(b'"x"', b'{"a":1}')
    replies.refuse(b"7", "no", -32602)
    replies.send(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
    await asyncio.sleep(0.1)
    assert server.sent == [
        {"jsonrpc": "2.0", "id": "x", "result": {"a": 1}},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "no"}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    ]
    await replies.aclose()


@virtual
async def test_a_backend_that_does_not_read_is_owed_a_bounded_number() -> None:
    server = FakeServer()
    replies = Replies(server(), name="b")
    for number in range(MAX_REPLIES + 10):
        replies.result(b"%d" % number, b"{}")
    await asyncio.sleep(0.1)
    assert [message["id"] for message in server.sent] == list(range(MAX_REPLIES))
    replies.result(b"999", b"{}")
    await asyncio.sleep(0.1)
    assert orjson.dumps(server.sent[-1]) == b'{"jsonrpc":"2.0","id":999,"result":{}}'
    await replies.aclose()


@virtual
async def test_after_the_connection_nothing_is_sent() -> None:
    server = FakeServer()
    replies = Replies(server(), name="b")
    replies.result(b"1", b"{}")
    assert not replies.closed
    await replies.aclose()
    replies.result(b"2", b"{}")
    await asyncio.sleep(0.1)
    assert replies.closed
    assert server.sent == []
