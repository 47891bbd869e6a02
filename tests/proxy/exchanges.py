"""Exchanges without a connection: what they answer is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson
from tests.proxy.offers import groups_of
from tests.validity import Conversation

from only1mcp._fast import scan
from only1mcp.backend.endpoint import Endpoint
from only1mcp.config.schema import Config
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.repeat import Repeat
from only1mcp.frontend.session import Session
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.exchange import Exchange, Snapshot
from only1mcp.wire.http1_events import Headers, RequestHead
from only1mcp.wire.mcp import LATEST_HANDSHAKE, LATEST_STATELESS, Era

ANONYMOUS = Principal("anonymous", "anonymous", "anonymous")
SESSION = Session("session-1", "anonymous", "2025-11-25", b"{}", 1e12)


class Channel:
    """Keeps what an exchange sends."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False
        self.closed = False
        self.unsent_bytes = 0
        self.answers = 0
        self.conversation = Conversation()
        self.task: asyncio.Task[None] | None = None

    def send_response(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_head(status, headers)
        self.body = body
        self._end()

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.answers += 1
        self.status, self.headers = status, dict(headers)

    def send_data(self, data: bytes) -> None:
        self.body += data

    def send_parts(self, parts: list[bytes | memoryview]) -> None:
        self.body += b"".join(parts)

    def send_end(self) -> None:
        self._end()

    def _end(self) -> None:
        self.complete = True
        kind = self.headers.get(b"content-type")
        if kind == b"application/json":
            self.conversation.overhears(orjson.loads(self.body))
        elif kind == b"text/event-stream":
            for event in self.body.split(b"\n\n"):
                data = b"".join(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
                if data:
                    self.conversation.overhears(orjson.loads(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def settle(self) -> None:
        pass

    def remember(self, repeat: Repeat) -> None:
        pass

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.get_running_loop().create_task(work)

    async def drain_writes(self) -> None:
        pass


def snapshot_of(*endpoints: Endpoint, config: Config | None = None) -> Snapshot:
    config = config or Config(version="1.0")
    groups = groups_of(*endpoints)
    return Snapshot(config, groups, Catalog(groups, config.proxy.naming))


def exchange_of(
    snapshot: Snapshot,
    method: str = "tools/call",
    params: Any = None,
    *,
    era: Era = Era.HANDSHAKE,
    principal: Principal = ANONYMOUS,
    headers: Headers | None = None,
    id: Any = 7,
) -> tuple[Exchange, Channel]:
    channel = Channel()
    head = RequestHead(b"POST", b"/mcp", headers or [])
    exchange = Exchange(HttpExchange(channel, head, peer="192.0.2.1", tls=False, started=0.0), snapshot)
    message = {"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params})
    exchange.message = scan(orjson.dumps(message))
    channel.conversation.revision = LATEST_HANDSHAKE if era is Era.HANDSHAKE else LATEST_STATELESS
    channel.conversation.asks(message)
    exchange.method, exchange.era, exchange.principal = method, era, principal
    if era is Era.HANDSHAKE:
        exchange.session = SESSION
    return exchange, channel
