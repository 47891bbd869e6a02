"""The HTTP+SSE transport of 2024-11-05: answers over one stream, messages only to where our credentials may go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.backend.hostile import SSE_HEAD, HostileServer, Incoming, chunk, event
from tests.backend.test_attribution import FORM, REFUSED, Client

from only1mcp._fast import Envelope
from only1mcp.backend.base import BackendCall
from only1mcp.backend.endpoint import Endpoint, State
from only1mcp.backend.era import establish
from only1mcp.backend.sse import SseTransport, message_path
from only1mcp.backend.target import parse_target
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from only1mcp.wire import jsonrpc

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 8\r\n\r\nAccepted"
INITIALIZED = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "old"}}


class OldServer:
    """A server of 2024-11-05 in front of a `HostileServer`; `silent` methods get no answer."""

    def __init__(self, server: HostileServer, said: bytes = b"/messages?session_id=1") -> None:
        self.server = server
        self.said = said
        self.stream: Incoming | None = None
        self.silent: set[str] = {"hold"}
        self.ids = 0
        server.script("GET", self.open)
        for method in ("initialize", "tools/call", "tools/list", "ping", "hold", "notifications/initialized"):
            server.script(method, self.take)
        for method in ("notifications/cancelled", "POST"):
            server.script(method, self.take)

    async def open(self, incoming: Incoming) -> None:
        self.stream = incoming
        await incoming.send(SSE_HEAD, chunk(b": hello\n\nevent: endpoint\ndata: " + self.said + b"\n\n"))
        await incoming.until_closed()

    async def say(self, **message: Any) -> None:
        assert self.stream is not None
        await self.stream.send(event(json.dumps({"jsonrpc": "2.0", **message}).encode()))

    async def take(self, incoming: Incoming) -> None:
        await incoming.send(ACCEPTED)
        if incoming.method and "id" in incoming.message and incoming.method not in self.silent:
            results = {"initialize": INITIALIZED, "tools/list": {"tools": []}}
            await self.say(id=incoming.message["id"], result=results.get(incoming.method, {"ok": True}))


@asynccontextmanager
async def served(
    said: bytes = b"/messages?session_id=1", **entry: Any
) -> AsyncIterator[tuple[OldServer, SseTransport]]:
    async with HostileServer() as server:
        old = OldServer(server, said)
        config = BackendConfig(id="old", transport="sse", url=f"http://127.0.0.1:{server.port}/base/sse", **entry)
        transport = SseTransport(config, name="old")
        try:
            yield old, transport
        finally:
            await transport.aclose()


def prepare(id: int, method: str = "tools/call", timeout_s: float = 10.0, **options: Any) -> BackendCall:
    text = b"%d" % id
    return BackendCall(method, jsonrpc.request(text, method, b"{}"), text, timeout_s, **options)


async def test_the_stream_says_where_messages_go_and_brings_the_answers() -> None:
    async with served(b"../messages?session_id=7", headers={"x-key": "secret"}) as (old, transport):
        await transport.start()
        ids = iter(range(1, 9))
        peer = await establish(transport, lambda: b"%d" % next(ids), timeout_s=10, client_version="1", probe=False)
        assert peer.revision == "2024-11-05"
        first, second = await asyncio.gather(transport.call(prepare(11)), transport.call(prepare(12)))
        assert (first.id, second.id) == (b"11", b"12")
        (get,) = old.server.of("GET")
        assert (get.target, get.header("accept"), get.header("x-key")) == ("/base/sse", "text/event-stream", "secret")
        for post in old.server.received[1:]:
            assert (post.verb, post.target, post.header("x-key")) == ("POST", "/messages?session_id=7", "secret")


@pytest.mark.parametrize(
    "said",
    [
        "http://evil.example/m",
        "//evil.example/m",
        "https://here:8080/m",
        "http://here:81/m",
        "http://u@here:8080/m",
        "",
        "/a b",
        "/é",
        "/" + "x" * 3000,
        "ftp://here:8080/m",
        "http://[/m",
    ],
)
def test_messages_go_nowhere_else(said: str) -> None:
    url = "http://here:8080/sse"
    with pytest.raises(BackendAnswerError, match="address for messages"):
        message_path(url, parse_target(url), said)


@pytest.mark.parametrize("said", ["m", "/m", "?m", "http://here:8080/m", "http://HERE:8080/m"])
def test_an_address_at_the_same_origin_is_taken(said: str) -> None:
    url = "http://here:8080/sse"
    assert message_path(url, parse_target(url), said) in (b"/m", b"/sse?m")


async def test_an_address_at_another_origin_ends_the_start() -> None:
    async with served(b"http://evil.example/messages") as (_, transport):
        with pytest.raises(BackendUnavailable, match="another origin"):
            await transport.start()


async def test_a_server_of_another_kind_is_refused() -> None:
    async with served() as (old, transport):

        async def no_stream(incoming: Incoming) -> None:
            await incoming.send(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")

        old.server.script("GET", no_stream)
        with pytest.raises(BackendRefused, match="405"):
            await transport.start()


async def test_the_end_of_the_stream_ends_the_calls_and_is_told() -> None:
    async with served() as (old, transport):
        lost: list[str] = []
        transport.on_lost = lost.append
        await transport.start()
        waiting = asyncio.ensure_future(transport.call(prepare(1, "hold")))
        await old.server.arrival("hold")
        assert old.stream is not None
        old.stream.reset()
        with pytest.raises(BackendAnswerError, match="while it worked on the request"):
            await waiting
        assert len(lost) == 1
        with pytest.raises(BackendUnavailable):
            await transport.call(prepare(2))


async def test_a_session_that_is_forgotten_is_lost() -> None:
    async with served() as (old, transport):
        lost = asyncio.get_running_loop().create_future()
        transport.on_lost = lost.set_result
        await transport.start()

        async def forgotten(incoming: Incoming) -> None:
            await incoming.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

        old.server.script("tools/call", forgotten)
        with pytest.raises(BackendError):
            await transport.call(prepare(1))
        assert "forgotten" in await lost


async def test_what_times_out_or_is_cancelled_is_called_off_at_the_server() -> None:
    async with served() as (old, transport):
        await transport.start()
        with pytest.raises(BackendTimeout):
            await transport.call(prepare(1, "hold", timeout_s=0.05))
        first = await old.server.arrival("notifications/cancelled")
        assert first.message["params"]["requestId"] == 1
        waiting = asyncio.ensure_future(transport.call(prepare(2, "hold")))
        await old.server.arrival("hold", 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        second = await old.server.arrival("notifications/cancelled", 2)
        assert second.message["params"]["requestId"] == 2


async def test_an_answer_is_an_answer_even_if_the_post_never_is_accepted() -> None:
    async with served() as (old, transport):
        await transport.start()

        async def keep(incoming: Incoming) -> None:
            await old.say(id=incoming.message["id"], result={})
            await incoming.until_closed()

        old.server.script("tools/call", keep)
        assert (await transport.call(prepare(1))).id == b"1"


async def test_requests_of_the_server_are_attributed_as_those_of_a_child() -> None:
    async with served() as (old, transport):
        heard: list[Envelope] = []
        progress: list[Envelope] = []
        transport.on_message = heard.append
        await transport.start()
        client = Client("one")
        old.silent.add("tools/call")
        waiting = asyncio.ensure_future(
            transport.call(prepare(1, asked=client, on_message=progress.append, timeout_s=30))
        )
        await old.server.arrival("tools/call")
        await old.say(method="notifications/progress", params={"progressToken": 1, "progress": 1})
        await old.say(id="q", method="elicitation/create", params=FORM)
        request, clock = await client.requests.get()
        assert request.id == b'"q"'
        assert clock is not None
        clock.go_on()
        assert [message.method for message in progress] == ["notifications/progress"]
        await transport.call(prepare(2, "ping", asked=Client("two")))
        await old.say(id="r", method="elicitation/create", params=FORM)
        refusal = await old.server.arrival("POST")
        assert (refusal.message["id"], refusal.message["error"]) == ("r", REFUSED)
        assert heard == []
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_an_endpoint_comes_up_without_a_probe_and_comes_back_after_a_loss() -> None:
    async with HostileServer() as server:
        old = OldServer(server)
        config = BackendConfig(id="old", transport="sse", url=f"http://127.0.0.1:{server.port}/sse")
        changes: asyncio.Queue[State] = asyncio.Queue()
        endpoint = Endpoint(config, lambda: SseTransport(config, name="old"), lambda e: changes.put_nowait(e.state))
        endpoint.start()
        assert await changes.get() is State.UP
        assert server.of("server/discover") == []
        assert old.stream is not None
        old.stream.reset()
        while await changes.get() is not State.UP:
            pass
        assert len(server.of("initialize")) == 2
        await endpoint.aclose()
