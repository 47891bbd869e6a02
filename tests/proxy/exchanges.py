"""Exchanges without a connection: what they answer is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson
from tests.proxy.offers import groups_of

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
from only1mcp.wire.mcp import Era

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
        self.task: asyncio.Task[None] | None = None

    def send_response(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_head(status, headers)
        self.body = body
        self.complete = True

    def send_head(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.answers += 1
        self.status, self.headers = status, dict(headers)

    def send_data(self, data: bytes) -> None:
        self.body += data

    def send_parts(self, parts: list[bytes | memoryview]) -> None:
        self.body += b"".join(parts)

    def send_end(self) -> None:
        self.complete = True

    def close(self) -> None:
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
    exchange.method, exchange.era, exchange.principal = method, era, principal
    if era is Era.HANDSHAKE:
        exchange.session = SESSION
    return exchange, channel
