"""A forwarder in front of scripted backends that take calls without a task, one by one, as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from tests.backend.fakes import FakeServer, FakeTransport, Watched, http
from tests.proxy.exchanges import ANONYMOUS, SESSION, Channel, exchange_of

from only1mcp._fast import scan
from only1mcp.backend.base import BackendCall, Done
from only1mcp.backend.endpoint import Endpoint
from only1mcp.config.schema import Config, LoadBalancer
from only1mcp.metrics import Metrics
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.cache import ResponseCache
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.exchange import Exchange, Snapshot
from only1mcp.proxy.forward import Forwarder
from only1mcp.proxy.group import make_groups
from only1mcp.proxy.route import find_target
from only1mcp.wire.mcp import Era

RESULT = b'{"content":[],"x":1.50,"resultType":"complete"}'


@dataclass
class Begun:
    """A call that went without a task; the test says how it ends."""

    call: BackendCall
    done: Done
    cancelled: int = 0

    def cancel(self) -> None:
        self.cancelled += 1

    def say(self, method: str, **params: Any) -> None:
        assert self.call.on_message is not None
        self.call.on_message(scan(orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})))

    def answer(self, result: bytes = RESULT) -> None:
        self.done(scan(b'{"jsonrpc":"2.0","id":' + self.call.id + b',"result":' + result + b"}"))


class LaneServer(FakeServer):
    """Takes calls without a task while it is `open`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.open = True
        self.begun: list[Begun] = []

    def __call__(self) -> FakeTransport:
        super().__call__()
        self.transports[-1] = LaneTransport(self)
        return self.transport


class LaneTransport(FakeTransport):
    server: LaneServer

    def maybe_begin(self, call: BackendCall, done: Done) -> Callable[[], None] | None:
        if not self.server.open:
            return None
        self.server.said.overhears(orjson.loads(call.message))
        self.server.begun.append(Begun(call, done))
        return self.server.begun[-1].cancel


class Proxy:
    """Forwards to `servers`, which are one group."""

    def __init__(self, endpoints: list[Endpoint], cache: ResponseCache | None, config: Config) -> None:
        self.endpoints = endpoints
        self.metrics = Metrics()
        groups = make_groups(endpoints, LoadBalancer(algorithm="round_robin"))
        self.snapshot = Snapshot(config, groups, Catalog(groups, config.proxy.naming, config.proxy.cache))
        self.forwarder = Forwarder(cache, self.metrics)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """What is done in tasks of its own."""
        return self.forwarder._tasks

    async def over(self) -> None:
        """Wait until nothing is done in a task."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def ask(
        self,
        method: str = "tools/call",
        params: dict[str, Any] | None = None,
        era: Era = Era.HANDSHAKE,
        *,
        id: Any = 7,
        principal: Principal = ANONYMOUS,
    ) -> tuple[Exchange, Channel]:
        """Forward a request as the pipeline does."""
        params = params or {"name": "a"}
        exchange, channel = exchange_of(self.snapshot, method, params, era=era, id=id, principal=principal)
        assert exchange.message is not None
        target = find_target(exchange, exchange.message, method)
        if not self.forwarder.maybe_cached(exchange, target, method):
            work = self.forwarder.forward(exchange, target, method)
            if work is not None:
                channel.run(work)
        return exchange, channel

    def cancel(self, id: bytes = b"7", session: str = SESSION.id) -> None:
        self.forwarder.cancel(session, id)


@asynccontextmanager
async def forwarding(
    *servers: FakeServer, cache: ResponseCache | None = None, config: Config | None = None, **backend: Any
) -> AsyncIterator[Proxy]:
    """Yield the proxy and check that nothing is left of any exchange."""
    async with AsyncExitStack() as stack:
        endpoints = []
        for number, server in enumerate(servers):
            watched = await stack.enter_async_context(Watched(server, http(f"b{number}", group="g", **backend)))
            endpoints.append(watched.endpoint)
        proxy = Proxy(endpoints, cache, config or Config(version="1.0"))
        yield proxy
        assert [endpoint.in_flight for endpoint in endpoints] == [0] * len(servers)
        assert not proxy.forwarder._cancellable
        assert not proxy.forwarder._flights


def body_of(channel: Channel) -> Any:
    assert (channel.complete, channel.answers) == (True, 1)
    return orjson.loads(channel.body)


def events_of(channel: Channel) -> list[Any]:
    assert (channel.complete, channel.answers) == (True, 1)
    return [orjson.loads(part.partition(b"data: ")[2]) for part in channel.body.split(b"\n\n") if part]
