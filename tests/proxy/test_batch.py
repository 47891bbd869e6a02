"""Batches in sessions of 2025-03-26: each message is served as if it had come alone, and no batch is served by half."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.launched import launched
from tests.mcp_backend import HANDSHAKE, Backend, Call, Outcome, echo, text
from tests.mcp_caller import TIMEOUT_S, Caller, Reply, request
from tests.proxy.asked import SAMPLE, SAMPLED, ask
from tests.proxy.test_pipeline_callers import AUTH, LIMIT, key, port_of
from tests.sse_caller import SseClient

from only1mcp.config.schema import Auth
from only1mcp.config.schema import Limits as LimitsConfig
from only1mcp.proxy import batch
from only1mcp.proxy.access import access_log

REVISION = "2025-03-26"
# The schema of the revision wants one in every error.
no_id = pytest.mark.unchecked("what answers no request that could be read has no id")
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call_of(tool: str, id: Any, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", id=id, name=tool, arguments=arguments)


class Batching:
    """A client with a session of the revision, or of another."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int, revision: str = REVISION, **fields: str) -> AsyncIterator[Batching]:
        async with Caller(port, **fields) as caller:
            await caller.initialize(revision)
            yield cls(caller)

    def write(self, *messages: Any) -> None:
        for message in messages:
            self.caller._conversation.asks(message, in_session=True)
        fields = {"mcp-session-id": self.caller.session}
        self.caller.write(json.dumps(messages).encode(), fields)  # type: ignore[arg-type]

    async def send(self, *messages: Any) -> Reply:
        self.write(*messages)
        return await self.caller.reply()


@pytest.fixture
async def client() -> AsyncIterator[Batching]:
    async with proxied(Backend(tools={"echo": echo})) as port, Batching.opened(port) as client:
        yield client


async def test_every_request_gets_its_answer(client: Batching) -> None:
    calls = [call_of("echo", id, text=f"<{id}>") for id in (1, "1", "two", 3)]
    reply = await client.send(INITIALIZED, *calls, request("ping", id="p"), request("tools/list", id="l"))
    assert (reply.status, reply.streamed) == (200, True)
    answers = {json.dumps(message["id"]): message["result"] for message in reply.messages}
    assert answers.keys() == {"1", '"1"', '"two"', "3", '"p"', '"l"'}
    assert [answers[json.dumps(call["id"])]["content"][0]["text"] for call in calls] == ["<1>", "<1>", "<two>", "<3>"]
    assert answers['"p"'] == {}
    assert [tool["name"] for tool in answers['"l"']["tools"]] == ["echo"]
    # Nothing of it stays with the connection.
    assert (await client.send(call_of("echo", 9, text="again"))).text == "again"
    assert (await client.caller.call("echo", text="alone")).text == "alone"


async def test_without_a_request_there_is_no_answer(client: Batching) -> None:
    response = {"jsonrpc": "2.0", "id": "of nobody", "result": {}}
    for messages in ([INITIALIZED], [INITIALIZED, INITIALIZED], [response, response]):
        reply = await client.send(*messages)
        assert (reply.status, reply.body) == (202, b"")


async def test_errors_are_answers(client: Batching) -> None:
    reply = await client.send(call_of("nothing", 1), request("no/method", id=2), call_of("echo", 3, text="x"))
    answers = {message["id"]: message for message in reply.messages}
    assert (answers[1]["error"]["code"], answers[2]["error"]["code"]) == (-32602, -32601)
    assert answers[3]["result"]["content"][0]["text"] == "x"


@no_id
@pytest.mark.parametrize(
    "messages",
    [
        [],
        [1],
        [[request("ping")]],
        [request("ping"), [request("ping")]],
        [request("ping", id=2), {"jsonrpc": "1.0", "id": 1, "method": "ping"}],
        [request("ping", id=2), {"jsonrpc": "2.0", "id": None, "method": "ping"}],
        [request("ping", id=2), None],
        [
            request("ping", id=2),
            request("initialize", protocolVersion=REVISION, capabilities={}, clientInfo={"name": "n", "version": "1"}),
        ],
        [request("ping", id=number) for number in range(batch.MAX_MESSAGES + 1)],
        [request("ping", id=2), request("ping", x=[[[[[[[[[[]]]]]]]]]])],
    ],
)
async def test_what_is_no_batch_is_refused_whole(messages: list[Any]) -> None:
    async with (
        proxied(Backend(tools={"echo": echo}), limits=LimitsConfig(max_depth=10)) as port,
        Batching.opened(port) as client,
    ):
        reply = await client.send(*messages)
        assert (reply.status, reply.code) == (400, -32600)
        assert (await client.send(request("ping"))).result == {}


@no_id
async def test_bytes_that_are_none(client: Batching) -> None:
    fields = {"mcp-session-id": client.caller.session}
    ping = json.dumps(request("ping")).encode()
    for body in (b"[", b"[]", b"[" + ping, b"[" + ping + b"]]", b"[" + ping + b'],"id":1', b"[" + ping + b",]"):
        reply = await client.caller.send(body, fields)  # type: ignore[arg-type]
        assert (reply.status, reply.code) in ((400, -32600), (400, -32700)), body
    reply = await client.caller.send(b"[" + b" " * batch.MAX_BYTES + ping + b"]", fields)  # type: ignore[arg-type]
    assert (reply.status, reply.code) == (413, -32600)


@no_id
@pytest.mark.parametrize("revision", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_other_revisions_have_none(revision: str) -> None:
    async with proxied(Backend(tools={"echo": echo})) as port, Batching.opened(port, revision) as client:
        reply = await client.send(request("ping"))
        assert (reply.status, reply.error["message"]) == (400, "batches are not supported: send one message at a time")


@no_id
async def test_a_batch_needs_a_session_of_its_own(client: Batching) -> None:
    body = [request("ping")]
    assert (await client.caller.send(body)).code == -32600
    assert (await client.caller.send(body, {"mcp-session-id": "made up"})).status == 404
    stateless = {"mcp-session-id": client.caller.session, "mcp-protocol-version": "2026-07-28"}
    assert (await client.caller.send(body, stateless)).status == 400  # type: ignore[arg-type]


@no_id
async def test_a_session_of_another_principal() -> None:
    async with (
        proxied(Backend(tools={"echo": echo}), auth=AUTH) as port,
        Batching.opened(port, authorization="Bearer ann-key") as ann,
        Caller(port, authorization="Bearer bob-key") as bob,
    ):
        reply = await bob.send([request("ping")], {"mcp-session-id": ann.caller.session})
        assert reply.status == 404
        assert (await ann.send(request("ping"))).result == {}


@no_id
async def test_every_message_counts_and_none_is_served_where_not_all_may_be() -> None:
    backend = Backend(tools={"echo": echo})
    auth = Auth(api_keys=(key("ann"),), rate_limit=LIMIT)
    async with proxied(backend, auth=auth) as port, Batching.opened(port, x_api_key="ann-key") as client:
        # One of the three that may come at once has opened the session.
        reply = await client.send(*(call_of("echo", number) for number in range(3)))
        assert (reply.status, reply.code) == (429, -31003)
        assert not backend.calls


async def test_what_a_backend_says_and_asks_on_the_way() -> None:
    async def curious(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        answer = await ask(call, "q", "sampling/createMessage", SAMPLE)
        return text(answer["result"]["content"]["text"])

    backend = Backend(HANDSHAKE, tools={"curious": curious, "echo": echo})
    async with proxied(backend) as port, Caller(port) as caller, Caller(port) as post:
        info = {"name": "t", "version": "1"}
        opening = request("initialize", protocolVersion=REVISION, capabilities={"sampling": {}}, clientInfo=info)
        caller.session = (await caller.send(opening)).headers["mcp-session-id"]
        call = call_of("curious", "c")
        call["params"]["_meta"] = {"progressToken": "mine"}
        Batching(caller).write(call, call_of("echo", "e", text="at once"))
        async with asyncio.timeout(TIMEOUT_S):
            status, headers = await caller.head()
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            heard = b""
            while b"sampling/createMessage" not in heard:
                heard += await caller.chunk()
        said = [json.loads(line[6:]) for line in heard.split(b"\n") if line.startswith(b"data: ")]
        (asked,) = [message for message in said if message.get("method") == "sampling/createMessage"]
        assert [message["params"]["progressToken"] for message in said if "progress" in message.get("method", "")] == [
            "mine"
        ]
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": SAMPLED}
        assert (await post.send([answer], {"mcp-session-id": caller.session})).status == 202
        async with asyncio.timeout(TIMEOUT_S):
            while chunk := await caller.chunk():
                heard += chunk
        said = [json.loads(line[6:]) for line in heard.split(b"\n") if line.startswith(b"data: ")]
        ends = {message["id"]: message["result"] for message in said if "result" in message}
        assert {id: end["content"][0]["text"] for id, end in ends.items()} == {"c": "hello", "e": "at once"}


async def test_one_call_of_a_batch_is_cancelled() -> None:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with proxied(backend) as port, Batching.opened(port) as client, Caller(port) as other:
        client.write(call_of("hold", "h"), call_of("echo", "e", text="x"))
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "h"}}
        assert (await other.send([cancelled], {"mcp-session-id": client.caller.session})).status == 202
        answers = {message["id"]: message for message in (await client.caller.reply()).messages}
        assert "error" in answers["h"]
        assert "result" in answers["e"]
        assert backend.abandoned == ["hold"]


async def test_a_client_that_leaves_cancels_all() -> None:
    backend = Backend()
    backend.tools["hold"] = backend.hold
    async with backend, running(configured(backend)) as worker, Batching.opened(port_of(worker)) as client:
        client.write(call_of("hold", 1), call_of("hold", 2))
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        client.caller.vanish()
        async with asyncio.timeout(TIMEOUT_S):
            while len(backend.abandoned) < 2:
                await asyncio.wait_for(backend.gone.wait(), TIMEOUT_S)
                await asyncio.sleep(0)
        assert worker.pipeline._in_flight == 0


async def test_a_stop_cuts_what_is_not_answered() -> None:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with backend, running(configured(backend)) as worker, Batching.opened(port_of(worker)) as client:
        client.write(call_of("echo", 1, text="x"), call_of("hold", 2))
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            await client.caller.head()
            assert b'"id":1' in await client.caller.chunk()
        await worker.stop(0)
        with pytest.raises((asyncio.IncompleteReadError, ValueError)):
            while await client.caller.chunk():
                pass


async def test_each_message_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Backend(tools={"echo": echo}) as backend,
        running(configured(backend)) as worker,
        Batching.opened(port_of(worker)) as client,
    ):
        access_log.propagate = True
        with caplog.at_level(logging.INFO, access_log.name):
            await client.send(INITIALIZED, call_of("echo", 1), call_of("echo", 2))
        lines: list[dict[str, Any]] = [record.fields for record in caplog.records if record.name == access_log.name]  # type: ignore[attr-defined]
        told = sorted((line["path"], line["status"], line["method"]) for line in lines)
        assert told == [
            ("/mcp", 200, "tools/call"),
            ("/mcp", 200, "tools/call"),
            ("/mcp", 202, "notifications/initialized"),
        ]


async def test_the_other_ways_in() -> None:
    """On a pipe the messages of a batch are answered line by line; HTTP+SSE is older than batches."""
    async with Backend(tools={"echo": echo}) as backend, launched(configured(backend)) as client:
        await client.initialize(REVISION)
        client.write(json.dumps([call_of("echo", "a", text="A"), call_of("echo", "b", text="B")]).encode() + b"\n")
        answers = [await client.receive() for _ in range(2)]
        assert {each["id"]: each["result"]["content"][0]["text"] for each in answers} == {"a": "A", "b": "B"}
    async with proxied(Backend(tools={"echo": echo})) as port, SseClient.opened(port, REVISION) as client:
        assert (await client.post([request("ping")])).status == 400
