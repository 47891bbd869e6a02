"""Clients of the transport of 2024-11-05: sessions as long as their streams, every message of the handshake era."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import HANDSHAKE as HANDSHAKE_BACKEND
from tests.mcp_backend import STATELESS as STATELESS_BACKEND
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import STATELESS, TIMEOUT_S, Caller, request, stateless
from tests.proxy.dialogue import ACCEPTED, FORM, ROOTS, SAMPLE, SAMPLED, Curious
from tests.sse_caller import SseClient, emptied

from only1mcp.errors import Overloaded
from only1mcp.frontend import legacy_sse
from only1mcp.process.worker import Worker
from only1mcp.proxy import streams

ERAS = pytest.mark.parametrize("era", [HANDSHAKE_BACKEND, STATELESS_BACKEND])
URI = "test://one"


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


# What a client does.


@ERAS
@pytest.mark.parametrize("revision", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_a_session(era: str, revision: str) -> None:
    async def complete(call: Call) -> Outcome:
        return {"completion": {"values": ["rust"]}}

    async def read(call: Call) -> Outcome:
        return {"contents": [{"uri": URI, "text": "one"}], "ttlMs": 0, "cacheScope": "private"}

    async def prompt(call: Call) -> Outcome:
        return {"messages": [{"role": "user", "content": {"type": "text", "text": "do"}}]}

    backend = Backend(
        era,
        tools={"echo": echo},
        resources=[{"uri": URI, "name": "one"}],
        prompts=[{"name": "p"}],
        scripts={"completion/complete": complete, "resources/read": read, "prompts/get": prompt},
    )
    async with proxied(backend) as port, SseClient.connected(port, revision) as client:
        assert client.headers["cache-control"] == "no-cache, no-transform"
        assert client.path.startswith("/messages?session_id=")
        assert await client.result("ping") == {}
        result = await client.initialize()
        assert (result["protocolVersion"], result["serverInfo"]["name"]) == (revision, "only1mcp")
        assert [tool["name"] for tool in (await client.result("tools/list"))["tools"]] == ["echo"]
        assert await client.text("echo", text="hi") == "hi"
        assert (await client.result("resources/read", uri=URI))["contents"] == [{"uri": URI, "text": "one"}]
        assert "messages" in await client.result("prompts/get", name="p")
        argument, ref = {"name": "language", "value": "r"}, {"type": "ref/prompt", "name": "p"}
        completed = await client.result("completion/complete", ref=ref, argument=argument)
        assert completed["completion"]["values"] == ["rust"]
        assert await client.code("tools/call", name="nobody's", arguments={}) == -32602
        assert await client.code("nonsense") == -32601
        assert await client.result("ping") == {}


@ERAS
async def test_progress_and_pretty_answers(era: str) -> None:
    async def slow(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        return text("done")

    async def pretty(call: Call) -> Outcome:
        result = {"resultType": "complete", **text("a\nb")}
        body = json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": result}, indent=1).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    backend = Backend(era, tools={"slow": slow, "pretty": pretty})
    async with proxied(backend) as port, SseClient.opened(port) as client:
        id = await client.ask("tools/call", meta={"progressToken": "mine"}, name="slow", arguments={})
        assert (await client.hear())["params"] == {"progressToken": "mine", "progress": 1}
        assert (await client.answer(id))["result"]["content"][0]["text"] == "done"
        assert await client.text("pretty") == "a\nb"


async def test_log_messages_of_the_level_that_is_set() -> None:
    async def talk(call: Call) -> Outcome:
        for level in ("info", "error"):
            await call.say(method="notifications/message", params={"level": level, "data": level})
        return text("said")

    async def take_level(call: Call) -> Outcome:
        return {}

    backend = Backend(HANDSHAKE_BACKEND, tools={"talk": talk}, scripts={"logging/setLevel": take_level})
    async with proxied(backend) as port, SseClient.opened(port) as client:
        assert await client.result("logging/setLevel", level="error") == {}
        id = await client.call("talk")
        assert (await client.hear())["params"]["level"] == "error"
        await client.answer(id)


@pytest.mark.parametrize(
    ("method", "params", "result"),
    [
        ("elicitation/create", FORM, ACCEPTED),
        ("sampling/createMessage", SAMPLE, SAMPLED),
        ("roots/list", None, ROOTS),
    ],
)
async def test_a_handshake_backend_asks_on_the_stream(
    method: str, params: dict[str, Any] | None, result: dict[str, Any]
) -> None:
    async def tool(call: Call) -> Outcome:
        backend = call.backend
        assert isinstance(backend, Curious)
        return text(json.dumps((await backend.ask(call, 7, method, params))["result"]))

    capabilities = {"elicitation": {}, "sampling": {}, "roots": {}}
    async with (
        proxied(Curious(tools={"t": tool})) as port,
        SseClient.opened(port, "2025-11-25", capabilities) as client,
        SseClient.opened(port, "2025-11-25", capabilities) as other,
    ):
        id = await client.call("t")
        asked = await client.hear()
        assert (asked["method"], asked.get("params")) == (method, params)
        await other.reply(asked, {"not": "theirs"})
        await client.reply(asked, result)
        answer = await client.answer(id)
        assert json.loads(answer["result"]["content"][0]["text"]) == result


async def test_a_stateless_backend_asks_by_rounds() -> None:
    async def tool(call: Call) -> Outcome:
        responses = call.params.get("inputResponses")
        if responses is None:
            form = {"method": "elicitation/create", "params": FORM}
            return {"resultType": "input_required", "inputRequests": {"q": form}, "requestState": "s"}
        return text(responses["q"]["content"]["name"])

    async with (
        proxied(Backend(tools={"t": tool})) as port,
        SseClient.opened(port, "2025-11-25", {"elicitation": {}}) as client,
    ):
        id = await client.call("t")
        await client.reply(await client.hear(), ACCEPTED)
        assert (await client.answer(id))["result"]["content"][0]["text"] == "Bo"


@ERAS
async def test_lists_and_resources_that_change_are_told(era: str) -> None:
    touched = asyncio.Event()

    async def grow(call: Call) -> Outcome:
        call.backend.tools["new"] = echo
        await call.say(method="notifications/tools/list_changed")
        return text("grown")

    async def touch(call: Call) -> Outcome:
        if era == HANDSHAKE_BACKEND:
            await call.say(method="notifications/resources/updated", params={"uri": URI})
        touched.set()
        return text("touched")

    async def subscribe(call: Call) -> Outcome:
        return {}

    async def listen(call: Call) -> Outcome:
        meta = {"io.modelcontextprotocol/subscriptionId": call.message["id"]}
        granted = {"notifications": call.params["notifications"], "_meta": meta}
        await call.say(method="notifications/subscriptions/acknowledged", params=granted)
        await touched.wait()
        await call.say(method="notifications/resources/updated", params={"uri": URI, "_meta": meta})
        await asyncio.Event().wait()
        raise AssertionError

    scripts = {"subscriptions/listen": listen}
    if era == HANDSHAKE_BACKEND:
        scripts = {"resources/subscribe": subscribe, "resources/unsubscribe": subscribe}
    tools = {"touch": touch, "grow": grow}
    backend = Backend(era, tools=tools, resources=[{"uri": URI, "name": "one"}], scripts=scripts)
    async with proxied(backend) as port, SseClient.opened(port) as client:
        await client.result("resources/subscribe", uri=URI)
        id = await client.call("touch")
        heard = [await client.hear(), await client.hear()]
        assert {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": URI}} in heard
        assert id in [message.get("id") for message in heard]
        await client.result("resources/unsubscribe", uri=URI)
        if era == HANDSHAKE_BACKEND:
            id = await client.call("grow")
            heard = [await client.hear(), await client.hear()]
            assert {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"} in heard
            assert id in [message.get("id") for message in heard]


@ERAS
async def test_a_cancelled_call_gets_no_answer(era: str) -> None:
    backend = Backend(era, tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with proxied(backend) as port, SseClient.opened(port) as client:
        id = await client.call("hold")
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        await client.tell("notifications/cancelled", requestId="of nobody")
        await client.tell("notifications/cancelled", requestId=id, reason="enough")
        await asyncio.wait_for(backend.gone.wait(), TIMEOUT_S)
        assert await client.text("echo", text="next") == "next"


async def test_many_calls_at_once() -> None:
    async with proxied(Backend(tools={"echo": echo})) as port, SseClient.opened(port) as client:
        ids = {await client.call("echo", text=str(number)): str(number) for number in range(200)}
        for _ in range(200):
            answer = await client.hear()
            assert answer["result"]["content"][0]["text"] == ids.pop(answer["id"])
        assert not ids


@ERAS
async def test_what_is_larger_than_what_may_be_unread(era: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_sse, "MAX_UNREAD_BYTES", 64 * 1024)
    words = "x" * 4_000_000

    async def large(call: Call) -> Outcome:
        return text(words)

    async with proxied(Backend(era, tools={"large": large, "echo": echo})) as port, SseClient.opened(port) as client:
        id = await client.call("large")
        answers = [await client.hear()]
        # What is said while it is being read is no reason to be cut off.
        other = await client.call("large")
        third = await client.ask("ping")
        answers += [await client.hear(), await client.hear()]
        sizes = {answer["id"]: len(json.dumps(answer["result"])) for answer in answers}
        assert sizes.keys() == {id, other, third}
        assert sizes[id] > len(words)


# Sessions.


async def test_a_stream_that_ends_takes_its_calls_and_its_session_with_it() -> None:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with proxied(backend) as port:
        async with Caller(port) as other, SseClient.opened(port) as client:
            await client.call("hold")
            await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
            client.stream.vanish()
            await asyncio.wait_for(backend.gone.wait(), TIMEOUT_S)
            assert (await other.send(request("ping"), path=client.path)).status == 404
        async with SseClient.opened(port) as client:
            assert await client.text("echo", text="again") == "again"


async def test_nothing_is_left_of_a_session() -> None:
    backend = Backend(tools={"echo": echo})
    async with backend, running(configured(backend)) as worker:
        sse, hub = worker.pipeline.sse, worker.desk.hub
        async with SseClient.opened(port_of(worker)) as client:
            await client.text("echo", text="hi")
            assert (len(sse), len(hub)) == (1, 1)  # type: ignore[arg-type]
        await emptied(worker)
        assert len(hub) == 0  # type: ignore[arg-type]
        inside = sse._sessions
        assert (inside._sessions, inside._of_caller) == ({}, {})


async def test_two_streams_are_two_sessions() -> None:
    async with (
        proxied(Backend(tools={"echo": echo})) as port,
        SseClient.opened(port) as one,
        SseClient.opened(port) as two,
    ):
        assert one.path != two.path
        assert await one.text("echo", text="1") == "1"
        assert await two.text("echo", text="2") == "2"


async def test_a_second_initialize_opens_another_session() -> None:
    async with proxied(Backend(tools={"echo": echo})) as port, SseClient.opened(port, "2025-06-18") as client:
        client.revision = "2025-03-26"
        assert (await client.initialize())["protocolVersion"] == "2025-03-26"
        assert await client.text("echo", text="hi") == "hi"


async def test_the_stream_ends_when_its_session_has_expired() -> None:
    async with (
        Backend(tools={"echo": echo}) as backend,
        running(configured(backend)) as worker,
        SseClient.opened(port_of(worker)) as client,
    ):
        worker.pipeline._wall_clock = lambda: 1e10
        answer = await client.answer(await client.call("echo"))
        assert answer["error"]["message"].startswith("there is no such session")
        assert await client.ended()


async def test_before_initialize() -> None:
    async with proxied(Backend(tools={"echo": echo})) as port, SseClient.connected(port) as client:
        await client.tell("notifications/initialized")
        await client.say({"jsonrpc": "2.0", "id": 1, "result": {}})
        answer = await client.answer(await client.ask("tools/list"))
        assert answer["error"] == {"code": -32600, "message": "send initialize first"}
        # Not an error that a client of both eras takes for a sign of the other one.
        message, _ = stateless("server/discover", id=9)
        await client.say(message)
        assert (await client.answer(9))["error"]["code"] == -32600


async def test_requests_of_the_stateless_era_belong_to_the_session() -> None:
    async with proxied(Backend(HANDSHAKE_BACKEND, tools={"echo": echo})) as port, SseClient.opened(port) as client:
        for fields in (None, {"mcp-protocol-version": STATELESS, "mcp-method": "tools/call", "mcp-name": "echo"}):
            message, _ = stateless("tools/call", id="s", name="echo", arguments={"text": "hi"})
            assert (await client.post(message, fields)).status == 202
            result = (await client.answer("s"))["result"]
            assert "resultType" not in result
        for method in ("server/discover", "subscriptions/listen", "tasks/get"):
            message, _ = stateless(method, id=method, taskId="t", notifications={})
            await client.say(message)
            assert (await client.answer(method))["error"]["code"] == -32601


# Limits.


async def test_a_caller_has_so_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_sse, "MAX_SESSIONS", 2)
    async with Backend() as backend, running(configured(backend)) as worker:
        port = port_of(worker)
        async with SseClient.connected(port), SseClient.connected(port), Caller(port) as third:
            reply = await third.send(method="GET", path="/sse")
            assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, Overloaded.code, "1")
        await emptied(worker)
        async with SseClient.connected(port):
            pass


async def test_a_session_has_so_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_sse, "MAX_CALLS", 2)
    backend = Backend()
    backend.tools["hold"] = backend.hold
    async with proxied(backend) as port, SseClient.opened(port) as client:
        held = {await client.call("hold"), await client.call("hold")}
        assert await client.code("tools/list") == Overloaded.code
        await client.tell("notifications/progress", progressToken=1, progress=1)
        backend.release.set()
        assert {(await client.hear())["id"], (await client.hear())["id"]} == held
        assert "tools" in await client.result("tools/list")


async def test_a_client_that_reads_slowly_waits_with_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_sse, "SLOW_BYTES", 64 * 1024)
    words = {"text": "x" * 500_000}
    backend = Backend(tools={"echo": echo})
    async with proxied(backend) as port, SseClient.opened(port) as client, Caller(port) as other:
        client.stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        # Sockets hold some megabytes by themselves.
        asked = 0
        waiting = None
        while waiting is None:
            asked += 1
            message = request("tools/call", id=f"n{asked}", name="echo", arguments=words)
            posting = asyncio.ensure_future(other.send(message, path=client.path))
            done, _ = await asyncio.wait({posting}, timeout=1.0)
            if not done:
                waiting = posting
            else:
                assert posting.result().status == 202
            assert asked < 100
        # What is no request has no answer that would have to be read.
        await client.tell("notifications/progress", progressToken=1, progress=1)
        client.stream.writer.transport.resume_reading()  # type: ignore[attr-defined]
        heard = {(await client.hear())["id"] for _ in range(asked)}
        assert heard == {f"n{number}" for number in range(1, asked + 1)}
        assert (await waiting).status == 202


async def test_a_client_that_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_sse, "MAX_UNREAD_BYTES", 256 * 1024)
    monkeypatch.setattr(legacy_sse, "SLOW_BYTES", 64 << 20)
    words = {"text": "x" * 50_000}
    async with proxied(Backend(tools={"echo": echo})) as port, SseClient.opened(port) as client, Caller(port) as other:
        client.stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        statuses = []
        for number in range(1000):
            message = request("tools/call", id=f"n{number}", name="echo", arguments=words)
            statuses.append((await other.send(message, path=client.path)).status)
            if statuses[-1] != 202:
                break
        assert statuses[-1] == 404
        client.stream.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError):
            while True:
                await client.hear()


async def test_of_all_streams_the_one_that_holds_most_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_ALL_WAITING_BYTES", 1 << 20)
    monkeypatch.setattr(legacy_sse, "SLOW_BYTES", 64 << 20)
    words = {"text": "x" * 500_000}
    async with (
        proxied(Backend(tools={"echo": echo})) as port,
        SseClient.opened(port) as greedy,
        SseClient.opened(port) as modest,
        Caller(port) as other,
    ):
        greedy.stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(100):
            message = request("tools/call", id=f"n{number}", name="echo", arguments=words)
            if (await other.send(message, path=greedy.path)).status == 404:
                break
            assert await modest.text("echo", text=str(number)) == str(number)
        else:
            pytest.fail("the stream that nobody reads is never cut off")
        assert await modest.text("echo", text="on") == "on"


async def test_comments_keep_a_quiet_stream_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    async with proxied(Backend(tools={"echo": echo})) as port, SseClient.opened(port) as client:
        async with asyncio.timeout(TIMEOUT_S):
            while client.comments < 2:
                id = await client.ask("ping")
                await client.answer(id)


# Ends.


async def test_calls_that_go_on_are_finished_when_the_proxy_stops() -> None:
    backend = Backend()
    backend.tools["hold"] = backend.hold
    async with backend, running(configured(backend)) as worker:
        port = port_of(worker)
        async with SseClient.opened(port) as idle, SseClient.opened(port) as client:
            id = await client.call("hold")
            await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
            stopping = asyncio.ensure_future(worker.stop(TIMEOUT_S))
            assert await idle.ended()
            backend.release.set()
            assert (await client.answer(id))["result"]["content"][0]["text"] == "released"
            assert await client.ended()
            await stopping


@ERAS
async def test_calls_that_take_too_long_get_an_error_when_the_proxy_stops(era: str) -> None:
    backend = Backend(era)
    backend.tools["hold"] = backend.hold
    async with backend, running(configured(backend)) as worker, SseClient.opened(port_of(worker)) as client:
        id = await client.call("hold")
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        await worker.stop(0)
        assert (await client.answer(id))["error"]["message"] == "shutting down"
        assert await client.ended()


async def test_no_stream_is_opened_while_the_proxy_stops() -> None:
    sessions = legacy_sse.LegacySse(None)  # type: ignore[arg-type]
    await sessions.drain(0)
    with pytest.raises(Overloaded):
        sessions.open(None, owner="me", caller="me", max_depth=64)
