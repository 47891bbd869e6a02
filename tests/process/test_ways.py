"""Every way in with the ways out that know no call: pipes and HTTP+SSE, where one stream carries everything.

Over each a call is answered, tells of its progress, asks its client, and is called off.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.backend.hostile import SSE_HEAD, HostileServer, Incoming, chunk, event
from tests.fixtures import talkative
from tests.in_process import running
from tests.launched import Launched, launched
from tests.mcp_caller import HANDSHAKE, STATELESS, TIMEOUT_S, Caller, stateless
from tests.proxy.asked import SAMPLED, answered, call
from tests.proxy.dialogue import Client
from tests.sse_caller import SseClient
from tests.validity import Conversation

from only1mcp.config.schema import BackendConfig, Config, Metrics, Proxy
from only1mcp.process.worker import Worker

OLDEST = "2024-11-05"
TOKEN = {"progressToken": "mine"}
PROGRESS = {"progressToken": "mine", "progress": 1}
SAID = SAMPLED["content"]["text"]
outs = pytest.mark.parametrize("out", ["stdio", "sse"])


class OldServer:
    """`Talkative` behind the transport of 2024-11-05; what it is sent is checked."""

    def __init__(self, server: HostileServer) -> None:
        self._stream: Incoming | None = None
        self._talkative = talkative.Talkative(self._say)
        self._conversation = Conversation(OLDEST)
        server.script("GET", self._open)
        methods = ("initialize", "tools/list", "tools/call", "ping", "notifications/initialized", "server/discover")
        for method in (*methods, "notifications/cancelled", "POST"):
            server.script(method, self._take)

    async def _open(self, incoming: Incoming) -> None:
        self._stream = incoming
        await incoming.send(SSE_HEAD, chunk(b"event: endpoint\ndata: /messages?session_id=1\n\n"))
        await incoming.until_closed()

    async def _take(self, incoming: Incoming) -> None:
        await incoming.send(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        self._conversation.overhears(incoming.message)
        self._talkative.take(incoming.message)

    def _say(self, **message: Any) -> None:
        assert self._stream is not None
        self._conversation.asks(message)
        self._stream.writer.write(event(json.dumps({"jsonrpc": "2.0", **message}).encode()))


@asynccontextmanager
async def configured(out: str) -> AsyncIterator[Config]:
    """Yield a configuration whose only backend is reached in that way."""
    async with HostileServer() as server:
        OldServer(server)
        if out == "sse":
            entry = BackendConfig(id="old", transport="sse", url=f"http://127.0.0.1:{server.port}/sse")
        else:
            program = str(Path(talkative.__file__))
            entry = BackendConfig(id="old", transport="stdio", command=sys.executable, args=(program,))
        yield Config(version="1.0", proxy=Proxy(port=0), metrics=Metrics(enabled=False), servers=(entry,))


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


class Way(Protocol):
    """A session of the handshake era, whatever it goes over."""

    async def begin(self, tool: str, **arguments: Any) -> Any: ...

    async def hear(self) -> dict[str, Any]: ...

    async def answer(self, asked: dict[str, Any], result: dict[str, Any]) -> None: ...

    async def cancel(self, id: Any) -> None:
        """Call it off, and hear what comes of that: an error where an HTTP response has to end."""


class OverHttp:
    def __init__(self, client: Client) -> None:
        self._client = client
        self.hear = client.hear
        self.answer = client.answer
        # Whether what is answered is a stream, whose end is still to be read.
        self._streamed = False

    async def begin(self, tool: str, **arguments: Any) -> Any:
        if self._streamed:
            await self._client.end()
        self._streamed = tool in ("curious", "hold")
        return self._client.call(tool, meta=TOKEN, **arguments)

    async def cancel(self, id: Any) -> None:
        await self._client.notify("notifications/cancelled", requestId=id)
        assert "error" in await self._client.hear()


class OverPipes:
    def __init__(self, client: Launched) -> None:
        self._client = client
        self.hear = client.receive

    async def begin(self, tool: str, **arguments: Any) -> Any:
        return self._client.ask("tools/call", HANDSHAKE, meta=TOKEN, name=tool, arguments=arguments)

    async def answer(self, asked: dict[str, Any], result: dict[str, Any]) -> None:
        self._client.send({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    async def cancel(self, id: Any) -> None:
        self._client.tell("notifications/cancelled", requestId=id)


class OverSse:
    def __init__(self, client: SseClient) -> None:
        self._client = client
        self.hear = client.hear
        self.answer = client.reply

    async def begin(self, tool: str, **arguments: Any) -> Any:
        return await self._client.ask("tools/call", meta=TOKEN, name=tool, arguments=arguments)

    async def cancel(self, id: Any) -> None:
        await self._client.tell("notifications/cancelled", requestId=id)


@asynccontextmanager
async def connected(way: str, config: Config) -> AsyncIterator[Way]:
    declared: dict[str, Any] = {"sampling": {}}
    if way == "stdio":
        async with launched(config) as client:
            params = {
                "protocolVersion": HANDSHAKE,
                "capabilities": declared,
                "clientInfo": {"name": "t", "version": "1"},
            }
            await client.answer(client.ask("initialize", **params))
            yield OverPipes(client)
        return
    async with running(config) as worker:
        if way == "http":
            async with Client.opened(port_of(worker), declared) as over_http:
                yield OverHttp(over_http)
        else:
            async with SseClient.opened(port_of(worker), OLDEST, declared) as over_sse:
                yield OverSse(over_sse)


async def text_of(way: Way, tool: str, **arguments: Any) -> str:
    id = await way.begin(tool, **arguments)
    message = await way.hear()
    assert message["id"] == id
    text: str = message["result"]["content"][0]["text"]
    return text


@outs
@pytest.mark.parametrize("way", ["http", "stdio", "sse"])
async def test_a_session(way: str, out: str) -> None:
    async with asyncio.timeout(TIMEOUT_S), configured(out) as config, connected(way, config) as client:
        assert await text_of(client, "echo", text="hi") == "hi"
        id = await client.begin("curious")
        assert (await client.hear())["params"] == PROGRESS
        asked = await client.hear()
        assert (asked["method"], asked["params"]) == ("sampling/createMessage", talkative.SAMPLE)
        await client.answer(asked, SAMPLED)
        answer = await client.hear()
        assert (answer["id"], answer["result"]["content"][0]["text"]) == (id, SAID)
        id = await client.begin("hold")
        assert (await client.hear())["params"] == PROGRESS
        await client.cancel(id)
        while await text_of(client, "cancelled") != "1":
            pass


@outs
async def test_a_stateless_client(out: str) -> None:
    async with (
        asyncio.timeout(TIMEOUT_S),
        configured(out) as config,
        running(config) as worker,
        Caller(port_of(worker)) as caller,
        Caller(port_of(worker)) as other,
    ):
        assert (await caller.call("echo", text="hi")).text == "hi"
        first = await call(caller, "curious", meta=TOKEN)
        assert [message["params"] for message in first.messages if "method" in message] == [PROGRESS]
        assert (await call(caller, "curious", meta=TOKEN, **answered(first))).text == SAID
        # Whoever closes its stream has called the call off.
        other.write(*stateless("tools/call", meta=TOKEN, name="hold", arguments={}))
        await other.head()
        assert b"notifications/progress" in await other.chunk()
        other.vanish()
        while (await caller.call("cancelled")).text != "1":
            pass


@outs
async def test_a_stateless_client_on_pipes(out: str) -> None:
    async with asyncio.timeout(TIMEOUT_S), configured(out) as config, launched(config) as client:
        meta = {**TOKEN, "io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}
        id = client.ask("tools/call", STATELESS, meta=meta, name="curious", arguments={})
        assert (await client.receive())["params"] == PROGRESS
        asked = (await client.answer(id))["result"]
        more = {"requestState": asked["requestState"], "inputResponses": dict.fromkeys(asked["inputRequests"], SAMPLED)}
        id = client.ask("tools/call", STATELESS, meta=meta, name="curious", arguments={}, **more)
        assert (await client.answer(id))["result"]["content"][0]["text"] == SAID
        id = client.ask("tools/call", STATELESS, meta=meta, name="hold", arguments={})
        assert (await client.receive())["params"] == PROGRESS
        client.tell("notifications/cancelled", requestId=id)
        text = ""
        while text != "1":
            id = client.ask("tools/call", STATELESS, name="cancelled", arguments={})
            text = (await client.answer(id))["result"]["content"][0]["text"]
