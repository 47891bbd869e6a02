"""Messages of a client without HTTP: what the application is given for each, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import orjson
from tests.mcp_caller import stateless

from only1mcp._fast import scan
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.messages import MessageClient

SESSION = b"sealed"


class App:
    """Answers everything at once; GET is held open."""

    def __init__(self) -> None:
        self.exchanges: list[HttpExchange] = []
        self.status = 200

    def on_head(self, http: HttpExchange) -> None:
        self.exchanges.append(http)
        if http.head.method == b"GET":
            http.start_stream(200, [(b"content-type", b"text/event-stream")])
            http.defer(lambda: None)
        elif http.head.method == b"DELETE":
            http.respond(204, [])

    def on_request(self, http: HttpExchange) -> Coroutine[Any, Any, None] | None:
        message = scan(http.body)
        if message.id is None:
            http.respond(202, [])
            return None
        extra = [(b"mcp-session-id", SESSION)] if message.method == "initialize" else []
        headers = [(b"content-type", b"application/json"), *extra]
        http.respond(self.status, headers, b'{"jsonrpc":"2.0","id":' + message.id + b',"result":{}}')
        return None


class Sink:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    @property
    def unsent_bytes(self) -> int:
        return 0

    async def drain(self) -> None:
        return None


def made(app: App, *, stateless: bool, on_expired: Any = None) -> MessageClient:
    return MessageClient(
        app, Sink(), "ann", path=b"/p", peer="one", max_depth=64, stateless=stateless, on_expired=on_expired
    )


def text(method: str, id: int | None = None) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": method} | ({} if id is None else {"id": id}))


async def test_every_message_is_an_exchange_of_whoever_sends_it() -> None:
    app = App()
    client = made(app, stateless=False)
    client.take(text("initialize", 1))
    client.vouched, client.peer = "bob", "two"
    client.take(text("tools/list", 2))
    first, second = app.exchanges
    assert (first.vouched, first.peer, first.head.get(b"mcp-session-id")) == ("ann", "one", None)
    assert (second.vouched, second.peer, second.head.get(b"mcp-session-id")) == ("bob", "two", SESSION)
    client.close()


async def test_where_there_is_no_stateless_era_no_message_belongs_to_it() -> None:
    app = App()
    client = made(app, stateless=False)
    body = orjson.dumps(stateless("server/discover", id=1)[0])
    client.take(body)
    client.hear(body, scan(body))
    assert [each.head.get(b"mcp-protocol-version") for each in app.exchanges] == [b"2025-11-25"] * 2
    client.close()
    app = App()
    client = made(app, stateless=True)
    client.take(body)
    assert app.exchanges[0].head.get(b"mcp-protocol-version") == b"2026-07-28"
    client.close()


async def test_its_session_is_listened_to_and_ended() -> None:
    app = App()
    client = made(app, stateless=False)
    client.take(text("initialize", 1))
    client.take(text("notifications/initialized"))
    client.take(text("initialize", 2))
    client.close()
    client.take(text("tools/list", 3))
    assert [(each.head.method, each.head.get(b"mcp-session-id")) for each in app.exchanges] == [
        (b"POST", None),
        (b"POST", SESSION),
        (b"GET", SESSION),
        (b"POST", None),
        (b"DELETE", SESSION),
        (b"DELETE", SESSION),
    ]
    assert client.answering == 0


async def test_a_session_that_is_no_longer_known_is_told() -> None:
    app, expired = App(), []
    client = made(app, stateless=False, on_expired=lambda: expired.append(True))
    client.take(text("initialize", 1))
    app.status = 404
    client.take(text("tools/list", 2))
    assert expired == [True]
    client.close()
