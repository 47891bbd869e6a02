"""A hub with clients of both eras whose streams are kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
from tests import validity
from tests.backend.fakes import FakeServer, Watched, http
from tests.proxy.exchanges import ANONYMOUS, SESSION, Channel, exchange_of

from only1mcp.backend.endpoint import Endpoint
from only1mcp.config.schema import Config, LoadBalancer
from only1mcp.errors import Only1MCPError
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.exchange import Exchange, Snapshot
from only1mcp.proxy.group import make_groups
from only1mcp.proxy.hub import Hub
from only1mcp.wire.mcp import HANDSHAKE, STATELESS

STAMP = "io.modelcontextprotocol/subscriptionId"


class Client:
    """One stream of one client."""

    def __init__(self, exchange: Exchange, channel: Channel, revision: str) -> None:
        self.exchange = exchange
        self.channel = channel
        self._revision = revision
        self._read = 0

    @property
    def events(self) -> list[dict[str, str]]:
        """All events so far, by field."""
        texts = self.channel.body.decode().split("\n\n")[:-1]
        found = [dict(line.split(": ", 1) for line in text.split("\n") if not line.startswith(":")) for text in texts]
        return [event for event in found if event]

    @property
    def messages(self) -> list[dict[str, Any]]:
        if self.channel.headers.get(b"content-type") != b"text/event-stream":
            return [orjson.loads(self.channel.body)]
        return [orjson.loads(event["data"]) for event in self.events if event.get("data")]

    def heard(self) -> list[dict[str, Any]]:
        """Return what has come since this was asked last."""
        new = self.messages[self._read :]
        self._read += len(new)
        for message in new:
            validity.check(message, self._revision, "subscriptions/listen")
        return new

    def methods(self) -> list[str]:
        return [message.get("method", "result").removeprefix("notifications/") for message in self.heard()]

    def vanish(self) -> None:
        http = self.exchange.http
        http.client_gone = True
        on_cancel, http.on_cancel = http.on_cancel, None
        if on_cancel is not None:
            on_cancel()


class Hubbed:
    """The hub of some endpoints; nothing of it may be left at the end."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.groups = make_groups(endpoints, LoadBalancer())
        self.hub = Hub(self.groups, wall_clock=lambda: 0.0)
        self.change()

    def change(self) -> None:
        """The endpoints have other lists."""
        self.snapshot = Snapshot(Config(version="1.0"), self.groups, Catalog(self.groups, "auto"))
        self.hub.catalog_changed(self.snapshot.catalog)

    async def told(self) -> None:
        """Let the time pass after which everything has been told."""
        await asyncio.sleep(2)

    def listen(self, id: Any = 7, principal: Principal = ANONYMOUS, **wanted: Any) -> Client:
        params = {"notifications": wanted}
        exchange, channel = exchange_of(
            self.snapshot, "subscriptions/listen", params, era=STATELESS, principal=principal, id=id
        )
        assert exchange.message is not None
        try:
            self.hub.listen(exchange, exchange.message)
        except Only1MCPError as error:
            exchange.refuse(error)
        return Client(exchange, channel, "2026-07-28")

    def attach(
        self,
        last: str | None = None,
        session: str = "s1",
        revision: str = "2025-11-25",
        principal: Principal = ANONYMOUS,
    ) -> Client:
        exchange, channel = self._in_session("GET", {}, session, revision, principal)
        exchange.message = None
        self.hub.attach(exchange, last)
        return Client(exchange, channel, revision)

    async def subscribe(self, uri: str | None, *, on: bool = True, session: str = "s1") -> dict[str, Any]:
        """Return the answer."""
        method = "resources/subscribe" if on else "resources/unsubscribe"
        exchange, channel = self._in_session(
            method, {} if uri is None else {"uri": uri}, session, "2025-11-25", ANONYMOUS
        )
        assert exchange.message is not None
        try:
            work = self.hub.subscribe(exchange, exchange.message, on=on)
            if work is not None:
                await work
        except Only1MCPError as error:
            exchange.refuse(error)
        answer: dict[str, Any] = orjson.loads(channel.body)
        return answer

    def _in_session(
        self, method: str, params: Any, session: str, revision: str, principal: Principal
    ) -> tuple[Exchange, Channel]:
        exchange, channel = exchange_of(self.snapshot, method, params, era=HANDSHAKE, principal=principal)
        exchange.session = replace(SESSION, id=session, revision=revision, expires_at=24 * 3600.0)
        return exchange, channel


@asynccontextmanager
async def hubbed(*servers: FakeServer | Endpoint, config: dict[str, Any] | None = None) -> AsyncIterator[Hubbed]:
    """Yield a hub in front of these backends, `b0`, `b1`, ...; endpoints are taken as they are."""
    async with AsyncExitStack() as stack:
        endpoints = []
        for number, server in enumerate(servers):
            if isinstance(server, FakeServer):
                watched = Watched(server, http(f"b{number}", **(config or {})))
                endpoints.append(watched.endpoint)
        made = Hubbed([server if isinstance(server, Endpoint) else endpoints.pop(0) for server in servers])
        for group in made.groups.values():
            for endpoint in group.endpoints.values():
                endpoint._on_stale = lambda endpoint, _, uri: (
                    uri and made.hub.updated(endpoint.config.group or endpoint.id, uri)
                )
                if endpoint.inventory is None:
                    endpoint.start()
                    stack.push_async_callback(endpoint.aclose)
                    await endpoint.settled()
        made.change()
        await made.told()
        try:
            yield made
        finally:
            await made.hub.aclose()
            assert len(made.hub) == 0
            assert len(made.hub._topics) == 0
            assert not made.hub._listens
            assert not made.hub._tasks
            assert all(not home.subscriptions.wants for home in made.hub._topics._homes.values())
