"""One call to a backend: what reaches it, what comes back on the way and at the end, and how it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.backend.fakes import FakeServer, Watched, http, tool
from tests.in_process import configured, proxied, running
from tests.mcp_backend import HANDSHAKE as HANDSHAKE_BACKEND
from tests.mcp_backend import STATELESS as STATELESS_BACKEND
from tests.mcp_backend import Backend, Call, Fault, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, META, STATELESS, Caller, Fields, request, stateless
from tests.proxy.exchanges import Channel, exchange_of, snapshot_of
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.config.schema import LoadBalancer
from only1mcp.errors import BackendAnswerError, BackendRefused, BackendTimeout
from only1mcp.metrics import Metrics
from only1mcp.process.worker import Worker
from only1mcp.proxy.call import Answer, perform
from only1mcp.proxy.route import find_target
from only1mcp.wire import jsonrpc

ERAS = [STATELESS, HANDSHAKE]
BACKEND_ERAS = [STATELESS_BACKEND, HANDSHAKE_BACKEND]
TIMEOUT_MS = 400


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


@pytest.fixture(params=BACKEND_ERAS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with Backend(era=request.param, tools={"echo": echo}) as backend:
        yield backend


@pytest.fixture(params=ERAS)
async def caller(request: pytest.FixtureRequest, backend: Backend) -> AsyncIterator[Caller]:
    """A client of either era; the tool `script` may be replaced until it is first called."""

    async def script(call: Call) -> Outcome:
        return await backend.scripts["script"](call)

    backend.tools["script"] = script
    config = configured(backend, each={"timeout_ms": TIMEOUT_MS})
    async with running(config) as worker, Caller(port_of(worker)) as caller:
        if request.param == HANDSHAKE:
            await caller.initialize()
        yield caller


def status_of(caller: Caller, status: int) -> int:
    """Return the HTTP status of an error: inside a session it is always 200."""
    return status if caller.session is None else 200


# Failures.

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def whole(body: bytes) -> bytes:
    return HEAD % len(body) + body


BROKEN = {
    "nothing": b"",
    "garbage": b"\x00\xffgarbage\r\n\r\n",
    "cut short": HEAD % 1000 + b'{"jsonrpc":"2.0"',
    "no JSON": whole(b"oops"),
    "not UTF-8": whole(b'{"jsonrpc":"2.0","id":1,"result":{"x":"\xff"}}'),
    "another id": whole(b'{"jsonrpc":"2.0","id":"other","result":{}}'),
    "a batch": whole(b"[]"),
    "neither result nor error": whole(b'{"jsonrpc":"2.0","id":1}'),
    "HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "a stream without the answer": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_answer(backend: Backend, caller: Caller, case: str) -> None:
    async def broken(_: Call) -> Outcome:
        return BROKEN[case]

    backend.scripts["script"] = broken
    reply = await caller.call("script")
    assert (reply.status, reply.code) == (status_of(caller, 502), -31007), reply
    assert reply.error["data"]["backend"] == "b0"
    assert sum(message["params"]["name"] == "script" for message in backend.calls) == 1
    assert (await caller.call("echo", text="next")).text == "next"


async def test_silent_backend(backend: Backend, caller: Caller) -> None:
    backend.scripts["script"] = backend.hold
    async with Caller(caller.port) as other:
        waiting = asyncio.create_task(caller.call("script"))
        await backend.holding.wait()
        assert (await other.call("echo", text="meanwhile")).text == "meanwhile"
        reply = await waiting
    assert (reply.status, reply.code) == (status_of(caller, 504), -31002)
    assert reply.error["data"]["backend"] == "b0"
    await (backend.gone if backend.era == STATELESS_BACKEND else backend.notified).wait()
    assert (await caller.call("echo", text="next")).text == "next"


async def test_backend_that_is_down(backend: Backend, caller: Caller) -> None:
    await backend.__aexit__()
    try:
        reply = await caller.call("echo", text="x")
        assert reply.code == -31001 or (reply.code == -31007 and backend.calls == []), reply
        while reply.code != -31001:
            reply = await caller.call("echo", text="x")
        assert reply.status == status_of(caller, 503)
        assert reply.error["data"]["backend"] == "b0"
        assert "hint" in reply.error["data"]
        assert "127.0.0.1" not in reply.body.decode()
    finally:
        await backend.__aenter__()


@pytest.mark.parametrize("code", [-32603, -32000, 1, -1000])
async def test_error_of_a_backend_is_passed_on(backend: Backend, caller: Caller, code: int) -> None:
    async def failing(_: Call) -> Outcome:
        raise Fault(code=code, message="mine", data={"deep": [1.0, None]}, extra=True)

    backend.scripts["script"] = failing
    reply = await caller.call("script")
    assert reply.error == {"code": code, "message": "mine", "data": {"deep": [1.0, None]}, "extra": True}
    assert reply.status == 200


async def test_tool_error_is_a_result(backend: Backend, caller: Caller) -> None:
    async def failing(_: Call) -> Outcome:
        return {**text("it broke"), "isError": True}

    backend.scripts["script"] = failing
    reply = await caller.call("script")
    assert reply.result["isError"] is True
    assert reply.text == "it broke"


async def test_call_moves_on_to_another_endpoint_of_its_group() -> None:
    backends = [Backend(tools={"echo": echo}) for _ in range(2)]
    async with backends[0], backends[1]:
        config = configured(*backends, each={"group": "twins"}, load_balancer=LoadBalancer(algorithm="round_robin"))
        async with running(config) as worker, Caller(port_of(worker)) as caller:
            for number in range(4):
                assert (await caller.call("echo", text=str(number))).text == str(number)
            assert [len(backend.calls) for backend in backends] == [2, 2]
            assert len((await caller.ask("tools/list")).result["tools"]) == 1
            await backends[0].__aexit__()
            for number in range(4):
                reply = await caller.call("echo", text=str(number))
                # A connection that died under the first call may have carried it, so that one is not repeated.
                assert reply.status == 200 or (number == 0 and reply.code == -31007)
            await backends[0].__aenter__()


# What comes before the answer.


@pytest.mark.parametrize("token", ["mine", 5, 2**40, ""])
async def test_progress_carries_the_clients_own_token(backend: Backend, caller: Caller, token: Any) -> None:
    seen = []

    async def working(call: Call) -> Outcome:
        seen.append(call.token)
        for step in (1, 2):
            params = {"progressToken": call.token, "progress": step, "total": 2, "x": [1.0]}
            await call.say(method="notifications/progress", params=params)
        return text("done")

    backend.scripts["script"] = working
    reply = await caller.call("script", meta={"progressToken": token})
    assert reply.streamed
    assert reply.headers["x-accel-buffering"] == "no"
    first, second, answer = reply.messages
    assert first["params"] == {"progressToken": token, "progress": 1, "total": 2, "x": [1.0]}
    assert second["params"]["progress"] == 2
    assert answer == reply.response
    assert reply.text == "done"
    assert seen != [token]  # a token of ours, so that two clients' never meet
    assert (await caller.call("echo", text="next")).text == "next"


async def test_progress_that_nobody_asked_for_is_dropped(backend: Backend, caller: Caller) -> None:
    async def working(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": "made up", "progress": 1})
        return text("done")

    backend.scripts["script"] = working
    reply = await caller.call("script")
    assert not reply.streamed
    assert reply.text == "done"


async def test_stream_without_interim_messages_becomes_one_json_body(backend: Backend, caller: Caller) -> None:
    async def streaming(call: Call) -> Outcome:
        call.streaming = True
        call.writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\n: hi\n\n\r\n"
        )
        return text("done")

    backend.scripts["script"] = streaming
    reply = await caller.call("script")
    assert not reply.streamed
    assert reply.text == "done"


async def test_log_messages_go_to_those_who_want_them(backend: Backend, caller: Caller) -> None:
    async def logging(call: Call) -> Outcome:
        await call.say(method="notifications/message", params={"level": "info", "data": "working"})
        return text("done")

    backend.scripts["script"] = logging
    silent = await caller.call("script")
    assert silent.text == "done"
    assert silent.streamed == (caller.session is not None)
    told = await caller.call("script", meta={f"{META}logLevel": "info"})
    assert [message.get("method") for message in told.messages] == ["notifications/message", None]


async def test_error_after_the_stream_has_begun_travels_in_it(backend: Backend, caller: Caller) -> None:
    async def dying(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        await call.writer.drain()
        return b""

    backend.scripts["script"] = dying
    reply = await caller.call("script", meta={"progressToken": "t"})
    assert reply.streamed
    assert (reply.status, reply.code) == (200, -31007)
    assert len(reply.messages) == 2
    assert (await caller.call("echo", text="next")).text == "next"


async def test_stream_arrives_while_the_call_still_runs(backend: Backend, caller: Caller) -> None:
    async def working(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        return await backend.hold(call)

    backend.scripts["script"] = working
    meta = {"progressToken": "t"}
    if caller.session is None:
        caller.write(*stateless("tools/call", name="script", arguments={}, meta=meta))
    else:
        fields: Fields = {"mcp-session-id": caller.session}
        caller.write(request("tools/call", name="script", arguments={}, _meta=meta), fields)
    status, headers = await caller.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert b'"progressToken":"t"' in (await caller.chunk()).replace(b" ", b"")
    backend.release.set()
    assert b"released" in await caller.chunk()
    assert await caller.chunk() == b""


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "roots/list", "no/such"])
async def test_request_of_a_backend_is_refused_and_never_hangs(method: str) -> None:
    async with Backend(era=HANDSHAKE_BACKEND, tools={"echo": echo}) as backend:

        async def asking(call: Call) -> Outcome:
            await call.say(id="q", method=method, params={})
            await backend.notified.wait()
            return text(json.dumps(backend.received[-1]))

        backend.tools["ask"] = asking
        async with running(configured(backend)) as worker, Caller(port_of(worker)) as caller:
            answer = json.loads((await caller.call("ask")).text)
    assert answer["id"] == "q"
    assert answer["error"]["code"] == -32601


# Bytes are sacred.


@pytest.mark.parametrize(
    "odd", ['{"b": 1.10, "a":1e40,"\\u0061b" :[ ],"z":-0}', '{"n":123456789012345678901234567890}', "{}"]
)
async def test_unknown_members_arrive_byte_for_byte(odd: str) -> None:
    async def verbatim(call: Call) -> Outcome:
        id = json.dumps(call.message["id"])
        return whole(
            f'{{ "jsonrpc":"2.0","id" : {id},"result":{{"content":[],"resultType":"complete","odd":{odd}}} }}'.encode()
        )

    async with proxied(Backend(tools={"odd": verbatim})) as port, Caller(port) as caller:
        reply = await caller.send(*stateless("tools/call", id="mine", name="odd", arguments={}))
        assert (
            reply.body.decode()
            == f'{{ "jsonrpc":"2.0","id" : "mine","result":{{"content":[],"resultType":"complete","odd":{odd}}} }}'
        )
        await caller.initialize()
        assert f'"odd":{odd}' in (await caller.call("odd")).body.decode()


async def test_arguments_arrive_byte_for_byte() -> None:
    backends = [Backend(tools={"echo": echo}) for _ in range(2)]
    async with proxied(*backends) as port, Caller(port) as caller:
        arguments = '{"a" : 1.10,"big":123456789012345678901234567890,"e":1E5, "s":"\\u0041\\/"}'
        message, fields = stateless("tools/call", name="b1__echo", arguments={"here": 1})
        body = json.dumps(message).replace('{"here": 1}', arguments)
        assert (await caller.send(body.encode(), fields)).status == 200
        assert f'"arguments": {arguments}'.encode() in backends[1].bodies[-1]
        assert backends[1].calls[-1]["params"]["name"] == "echo"


# Resources that more than one backend has.


async def shared_resources(call: Call) -> Outcome:
    hints = {"ttlMs": 0, "cacheScope": "private"}
    return {"contents": [{"uri": call.params["uri"], "text": call.backend.url}], **hints}


async def linking(call: Call) -> Outcome:
    link = {"type": "resource_link", "uri": "test://same", "name": "x"}
    embedded = {"type": "resource", "resource": {"uri": "test://same", "text": "t"}}
    page = {"type": "resource_link", "uri": "https://example.com/page", "name": "y"}
    return {"content": [link, embedded, page, {"type": "text", "text": "test://same"}]}


async def prompting(call: Call) -> Outcome:
    embedded = {"type": "resource", "resource": {"uri": "test://same", "text": "t"}}
    return {"messages": [{"role": "user", "content": embedded}]}


@pytest.fixture
async def twins() -> AsyncIterator[tuple[Backend, Backend]]:
    settings: dict[str, Any] = {
        "resources": [{"uri": "test://same", "name": "same"}],
        "resource_templates": [{"uriTemplate": "test://same/{id}", "name": "each"}],
        "prompts": [{"name": "greet"}],
        "scripts": {"resources/read": shared_resources, "prompts/get": prompting},
    }
    async with Backend(tools={"link": linking}, **settings) as one, Backend(tools={"link": linking}, **settings) as two:
        yield one, two


@pytest.mark.parametrize("era", ERAS)
async def test_clashing_uris_are_rewritten_everywhere(twins: tuple[Backend, Backend], era: str) -> None:
    async with running(configured(*twins)) as worker, Caller(port_of(worker)) as caller:
        if era == HANDSHAKE:
            await caller.initialize()
        same = ["test://same", "only1mcp://b1/test://same"]
        listed = (await caller.ask("resources/list")).result["resources"]
        assert [resource["uri"] for resource in listed] == same
        templates = (await caller.ask("resources/templates/list")).result["resourceTemplates"]
        assert [each["uriTemplate"] for each in templates] == [f"{uri}/{{id}}" for uri in same]
        for tool, prompt, backend, uri in zip(("link", "b1__link"), ("greet", "b1__greet"), twins, same, strict=True):
            for asked in (uri, f"{uri}/7"):
                (content,) = (await caller.ask("resources/read", uri=asked)).result["contents"]
                assert content == {"uri": asked, "text": backend.url}
                assert backend.calls[-1]["params"]["uri"] == asked.removeprefix("only1mcp://b1/")
            link, embedded, page, said = (await caller.call(tool)).result["content"]
            assert link["uri"] == embedded["resource"]["uri"] == uri
            assert page["uri"] == "https://example.com/page"
            assert said["text"] == "test://same"
            message = (await caller.ask("prompts/get", name=prompt)).result["messages"][0]
            assert message["content"]["resource"]["uri"] == uri


@pytest.mark.parametrize("era", ERAS)
async def test_completion_goes_to_the_owner_under_its_own_name(twins: tuple[Backend, Backend], era: str) -> None:
    async def complete(call: Call) -> Outcome:
        return {"completion": {"values": [call.backend.url]}}

    for twin in twins:
        twin.scripts["completion/complete"] = complete
    argument = {"name": "id", "value": "1"}
    async with running(configured(*twins)) as worker, Caller(port_of(worker)) as caller:
        if era == HANDSHAKE:
            await caller.initialize()
        for asked, owner, passed in (
            ({"type": "ref/prompt", "name": "greet"}, 0, {"type": "ref/prompt", "name": "greet"}),
            ({"type": "ref/prompt", "name": "b1__greet"}, 1, {"type": "ref/prompt", "name": "greet"}),
            (
                {"type": "ref/resource", "uri": "only1mcp://b1/test://same/{id}"},
                1,
                {"type": "ref/resource", "uri": "test://same/{id}"},
            ),
        ):
            result = (await caller.ask("completion/complete", ref=asked, argument=argument)).result
            assert result["completion"]["values"] == [twins[owner].url]
            assert twins[owner].calls[-1]["params"]["ref"] == passed
        before = [len(twin.calls) for twin in twins]
        for nonsense in ({"type": "ref/prompt", "name": "x"}, {"type": "ref/tool", "name": "link"}, {}, "greet", None):
            assert (await caller.ask("completion/complete", ref=nonsense, argument=argument)).code == -32602
        assert [len(twin.calls) for twin in twins] == before


async def test_error_about_a_rewritten_uri_names_the_clients_own(twins: tuple[Backend, Backend]) -> None:
    async def missing(call: Call) -> Outcome:
        raise Fault(code=-32602, message="gone", data={"uri": call.params["uri"]})

    twins[1].scripts["resources/read"] = missing
    async with running(configured(*twins)) as worker, Caller(port_of(worker)) as caller:
        reply = await caller.ask("resources/read", uri="only1mcp://b1/test://same")
        assert reply.error["data"] == {"uri": "only1mcp://b1/test://same"}
        assert twins[1].calls[-1]["params"]["uri"] == "test://same"


async def test_answer_whose_uris_cannot_be_told_apart_is_the_backends_fault(twins: tuple[Backend, Backend]) -> None:
    async def ambiguous(call: Call) -> Outcome:
        id = json.dumps(call.message["id"])
        block = '{"type":"resource_link","uri":"test://a","uri":"test://b"}'
        return whole(f'{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{block}]}}}}'.encode())

    twins[0].tools["link"] = ambiguous
    async with running(configured(*twins)) as worker, Caller(port_of(worker)) as caller:
        reply = await caller.call("link")
        assert (reply.status, reply.code) == (502, -31007)


# Without a wire: what only a hostile or failing transport does.


async def perform_on(watched: Watched, params: dict[str, Any]) -> tuple[Channel, Answer]:
    await watched.endpoint.ready(5)
    exchange, channel = exchange_of(snapshot_of(watched.endpoint), "tools/call", params)
    assert exchange.message is not None
    target = find_target(exchange, exchange.message, "tools/call")
    return channel, await perform(exchange, target, Metrics(), 60)


@virtual
async def test_call_in_a_session_that_has_ended_is_made_again_in_a_new_one() -> None:
    server = FakeServer(tools=[tool("a")])
    server.session_id = "s"
    calls = 0

    async def ended_once(_params: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise BackendRefused("404", status=404)
        return {"content": []}

    server.handlers["tools/call"] = ended_once
    async with Watched(server, http(timeout_ms=5_000)) as watched:
        _, answer = await perform_on(watched, {"name": "a"})
        assert answer.message.result is not None
        assert (calls, len(server.transports)) == (2, 2)


@pytest.mark.parametrize("error", [BackendTimeout("slow"), BackendAnswerError("broke off")])
@virtual
async def test_call_that_may_have_arrived_is_made_once(error: Exception) -> None:
    server = FakeServer(tools=[tool("a")])
    calls = 0

    async def fail(_params: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        raise error

    server.handlers["tools/call"] = fail
    async with Watched(server) as watched:
        with pytest.raises(type(error)):
            await perform_on(watched, {"name": "a"})
        assert calls == 1


@pytest.mark.parametrize(
    "params",
    [
        b'{"progressToken":1,"progressToken":2,"progress":1}',
        b'{"progressToken":1,"progress\\u0054oken":2}',
        b'{"progress":1}',
        b"{}",
        None,
    ],
)
@virtual
async def test_progress_that_is_not_clearly_of_this_call_is_dropped(params: bytes | None) -> None:
    server = FakeServer(tools=[tool("a")])

    async def working(_params: dict[str, Any]) -> Any:
        on_message = server.transport.calls[-1].on_message
        assert on_message is not None
        on_message(scan(jsonrpc.notification("notifications/progress", params)))
        return {"content": []}

    server.handlers["tools/call"] = working
    async with Watched(server) as watched:
        channel, answer = await perform_on(watched, {"name": "a", "_meta": {"progressToken": "mine"}})
        assert answer.message.result is not None
        assert channel.body == b""
