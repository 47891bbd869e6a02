"""A backend without a wire: a scripted server, and the transport that stands for a connection to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import orjson
from tests.validity import Conversation

from only1mcp._fast import Envelope, scan
from only1mcp.backend.base import BackendCall, Transport
from only1mcp.backend.endpoint import Endpoint
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendAnswerError, BackendUnavailable
from only1mcp.wire.mcp import LIST_METHODS, META_SERVER_INFO, Era

# What a result must at least have.
EMPTY: dict[str, dict[str, Any]] = {
    "tools/call": {"content": []},
    "prompts/get": {"messages": []},
    "resources/read": {"contents": [], "ttlMs": 0, "cacheScope": "private"},
}
Handler = Callable[[dict[str, Any]], Awaitable[Any]]


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


class FakeServer:
    """What is behind an endpoint; an instance is the endpoint's `make_transport`.

    `lists` are the items by list method. `handlers` answer other methods, or lists in a way of their own: they return
    the result, a `Raw` answer, or raise what the transport is to raise.
    """

    def __init__(self, *, era: Era = Era.HANDSHAKE, capabilities: Any = None, **lists: list[Any]) -> None:
        self.era = era
        methods = {key.replace("/", "_"): method for key, method in zip(LIST_METHODS, LIST_METHODS, strict=True)}
        self.lists = {methods[f"{kind}_list"]: items for kind, items in lists.items()}
        if capabilities is None:
            capabilities = {kind.partition("_")[0]: {"listChanged": True} for kind in lists}
        self.capabilities = capabilities
        self.instructions: str | None = None
        self.handlers: dict[str, Handler] = {}
        # How it misbehaves.
        self.start_error: str | None = None
        self.dies_of_probe = False
        self.session_id: str | None = None
        self.close_gate: asyncio.Event | None = None
        # What was seen of it.
        self.transports: list[FakeTransport] = []
        self.starts: list[float] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[dict[str, Any]] = []
        self.said = Conversation()

    def __call__(self) -> FakeTransport:
        self.starts.append(asyncio.get_running_loop().time())
        self.transports.append(FakeTransport(self))
        return self.transports[-1]

    @property
    def transport(self) -> FakeTransport:
        return self.transports[-1]

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.asked)

    async def answer(self, transport: FakeTransport, method: str, params: dict[str, Any]) -> Any:
        self.asked.append((method, params))
        if method in self.handlers:
            return await self.handlers[method](params)
        if method == "server/discover":
            if self.dies_of_probe:
                transport.die("exited with status 1")
            if self.era is Era.HANDSHAKE:
                return Raw(error=b'{"code":-32601,"message":"unknown method"}')
            return {
                "resultType": "complete",
                "supportedVersions": ["2026-07-28"],
                "capabilities": self.capabilities,
                "_meta": {META_SERVER_INFO: {"name": "fake", "version": "1"}},
            }
        if method == "initialize":
            transport.session_id = self.session_id
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": self.capabilities,
                "serverInfo": {"name": "fake", "version": "1"},
                "instructions": self.instructions,
            }
        if method in LIST_METHODS:
            return {LIST_METHODS[method]: self.lists.get(method, [])}
        if method == "subscriptions/listen":
            await asyncio.Event().wait()
        complete = {"resultType": "complete"} if self.era is Era.STATELESS else {}
        return {**complete, **EMPTY.get(method, {})}


class Raw:
    """An answer as JSON texts."""

    def __init__(self, *, result: bytes | None = None, error: bytes | None = None) -> None:
        self.member = b'"result":' + result if result is not None else b'"error":' + (error or b"{}")


class FakeTransport(Transport):
    """One connection to a `FakeServer`; ends with `die`, with the server's `start_error`, or when it is closed."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.calls: list[BackendCall] = []
        self.closed = False
        self.listening = 0
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        if self.server.start_error is not None:
            raise BackendUnavailable(self.server.start_error)

    async def call(self, call: BackendCall) -> Envelope:
        if self._gone.done():
            raise BackendUnavailable("not running")
        self.calls.append(call)
        self.server.said.overhears(orjson.loads(call.message))
        params = orjson.loads(call.message).get("params", {})
        work = asyncio.ensure_future(self.server.answer(self, call.method, params))
        try:
            await asyncio.wait({work, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if self._gone.done():
                raise BackendAnswerError(f"{self._gone.result()} under the request")
            value = work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        member = value.member if isinstance(value, Raw) else b'"result":' + orjson.dumps(value)
        return scan(b'{"jsonrpc":"2.0","id":' + call.id + b"," + member + b"}")

    async def send(self, message: bytes) -> None:
        if self._gone.done():
            raise BackendUnavailable("not running")
        self.server.sent.append(orjson.loads(message))
        self.server.said.overhears(self.server.sent[-1])

    async def listen(self) -> None:
        self.listening += 1
        await asyncio.wait({self._gone})

    async def aclose(self) -> None:
        if self.server.close_gate is not None:
            await self.server.close_gate.wait()
        self.closed = True
        if not self._gone.done():
            self._gone.set_result("closed")

    def die(self, reason: str) -> None:
        self._gone.set_result(reason)
        if self.on_lost is not None:
            self.on_lost(reason)

    def tell(self, method: str, params: dict[str, Any] | None = None, id: Any = None) -> None:
        """Let the server say something unasked: a notification, or a request where there is an `id`."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({} if id is None else {"id": id})
        self.server.said.asks(message)
        assert self.on_message is not None
        self.on_message(scan(orjson.dumps(message)))


def stdio(id: str = "b", **more: Any) -> BackendConfig:
    return BackendConfig(id=id, transport="stdio", command="x", **more)


def http(id: str = "b", **more: Any) -> BackendConfig:
    return BackendConfig(id=id, transport="http", url="http://127.0.0.1:1/mcp", **more)


class Watch:
    """The clock of a call, which counts its stops."""

    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1

    def go_on(self) -> None:
        self.stops -= 1


class Watched:
    """An endpoint with a list of its changes: state, and the names of its tools (None without an inventory)."""

    def __init__(self, server: FakeServer, config: BackendConfig | None = None) -> None:
        self.changes: list[tuple[str, list[str] | None]] = []
        self.endpoint = Endpoint(config or stdio(), server, self._changed)

    def _changed(self, endpoint: Endpoint) -> None:
        self.changes.append((endpoint.state.value, tools_of(endpoint)))

    async def __aenter__(self) -> Self:
        self.endpoint.start()
        await self.endpoint.settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.aclose()


def tools_of(endpoint: Endpoint) -> list[str] | None:
    if endpoint.inventory is None:
        return None
    offered = endpoint.inventory.lists.get("tools/list")
    return None if offered is None else [orjson.loads(item)["name"] for item in offered.items]
