"""Handshake clients are asked what handshake backends want to know, and nobody else's answer counts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests import validity
from tests.backend.fakes import FakeServer
from tests.in_process import configured, running
from tests.mcp_backend import Call, Fault, Outcome, text
from tests.mcp_caller import Caller
from tests.process.test_changes import attached
from tests.proxy.dialogue import ACCEPTED, EVERYTHING, FORM, ROOTS, SAMPLE, SAMPLED, Client, Curious
from tests.proxy.exchanges import SESSION, Channel, exchange_of, snapshot_of
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend.replies import Replies
from only1mcp.config.schema import ApiKey, Auth
from only1mcp.frontend.session import Session
from only1mcp.metrics import Metrics
from only1mcp.proxy.asker import MAX_PER_SESSION, ClientAsker
from only1mcp.proxy.asking import Asking
from only1mcp.proxy.desk import Desk
from only1mcp.proxy.exchange import Exchange

URL = {"mode": "url", "message": "Log in", "url": "https://x.example/", "elicitationId": "e-1"}
TOOLS = {**SAMPLE, "tools": [{"name": "t", "inputSchema": {"type": "object"}}]}
ASKS: list[tuple[str, dict[str, Any] | None, dict[str, Any]]] = [
    ("elicitation/create", FORM, ACCEPTED),
    ("elicitation/create", URL, {"action": "decline"}),
    ("sampling/createMessage", SAMPLE, SAMPLED),
    ("sampling/createMessage", TOOLS, SAMPLED),
    ("roots/list", None, ROOTS),
]


def asking(method: str, params: dict[str, Any] | None = None, id: Any = "own") -> Callable[[Call], Awaitable[Outcome]]:
    """Return a tool that asks one thing and tells what came of it."""

    async def tool(call: Call) -> Outcome:
        backend = call.backend
        assert isinstance(backend, Curious)
        return text(json.dumps(await backend.ask(call, id, method, params)))

    return tool


async def told(client: Client) -> dict[str, Any]:
    """Return the response that the tool got, as its own answer tells it."""
    answer = await client.hear()
    response: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])
    return response


@pytest.mark.parametrize(("method", "params", "result"), ASKS)
async def test_a_client_is_asked_and_its_answer_is_told(
    method: str, params: dict[str, Any] | None, result: dict[str, Any]
) -> None:
    backend = Curious(tools={"t": asking(method, params, id=3)})
    ids: set[str] = set()
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        for _ in range(2):
            call = client.call("t")
            asked = await client.hear()
            given = asked.get("params")
            if params is URL:  # under an id of ours, the same one as long as it is not complete
                assert len(ids := {*ids, given["elicitationId"]} - {"e-1"}) == 1
                given = given | {"elicitationId": "e-1"}
            assert (asked["method"], given) == (method, params)
            assert asked["id"] not in (3, call)
            await client.answer(asked, result)
            assert await told(client) == {"jsonrpc": "2.0", "id": 3, "result": result}
            await client.end()
        assert len(_asker(worker)) == 0


async def test_the_backend_is_told_what_can_be_asked() -> None:
    backend = Curious(tools={"t": asking("roots/list")})
    async with backend, running(configured(backend)):
        (initialize,) = [each for each in backend.received if each.get("method") == "initialize"]
    assert initialize["params"]["capabilities"] == {
        "sampling": {"tools": {}, "context": {}},
        "elicitation": {"form": {}, "url": {}},
        "roots": {},
        "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}},
    }


async def test_an_error_of_the_client_is_told_as_it_is() -> None:
    backend = Curious(tools={"t": asking("sampling/createMessage", SAMPLE)})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        await client.fail(await client.hear())
        assert (await told(client))["error"] == {"code": -1, "message": "the user said no"}


@pytest.mark.parametrize(
    ("declared", "revision", "ask", "code"),
    [
        ({}, "2025-11-25", ("elicitation/create", FORM), -32601),
        ({"elicitation": {}}, "2025-11-25", ("elicitation/create", URL), -32602),
        ({"elicitation": {"url": {}}}, "2025-11-25", ("elicitation/create", FORM), -32602),
        (EVERYTHING, "2025-06-18", ("elicitation/create", URL), -32602),
        (EVERYTHING, "2025-03-26", ("elicitation/create", FORM), -32602),
        ({"sampling": {}}, "2025-11-25", ("sampling/createMessage", TOOLS), -32602),
        ({"elicitation": {}}, "2025-11-25", ("sampling/createMessage", SAMPLE), -32601),
        ({}, "2024-11-05", ("roots/list", None), -32601),
        (EVERYTHING, "2025-11-25", ("something/else", {"a": 1}), -32601),
    ],
)
async def test_what_a_client_has_not_declared_it_is_not_asked(
    declared: dict[str, Any], revision: str, ask: tuple[str, dict[str, Any] | None], code: int
) -> None:
    backend = Curious(tools={"t": asking(*ask)})
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), declared, revision) as client,
    ):
        client.call("t")
        assert (await told(client))["error"]["code"] == code


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-03-26", "2024-11-05"])
async def test_clients_of_older_revisions_are_asked_what_theirs_has(revision: str) -> None:
    backend = Curious(tools={"t": asking("sampling/createMessage", SAMPLE)})
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), {"sampling": {}}, revision) as client,
    ):
        client.call("t")
        await client.answer(await client.hear(), SAMPLED)
        assert (await told(client))["result"] == SAMPLED


async def test_two_sessions_are_asked_at_once_and_only_the_asked_one_can_answer() -> None:
    async def tool(call: Call) -> Outcome:
        backend = call.backend
        assert isinstance(backend, Curious)
        # Ids are the backend's own; that two calls use others is all that it has to see to.
        return text(json.dumps(await backend.ask(call, call.arguments["id"], "elicitation/create", FORM)))

    backend = Curious(tools={"t": tool})
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker)) as one,
        Client.opened(_port(worker)) as two,
    ):
        one.call("t", id=1)
        two.call("t", id=2)
        of_one, of_two = await one.hear(), await two.hear()
        assert of_one["id"] != of_two["id"]
        # A foreign answer, a second one, and one to nothing that was ever asked are accepted and reach nobody.
        await two.answer(of_one, {"action": "decline"})
        await two.answer({"id": "0.0000000000000000"}, {"action": "decline"})
        await two.answer(of_two, {"action": "cancel"})
        await two.answer(of_two, ACCEPTED)
        assert (await told(two))["result"] == {"action": "cancel"}
        await two.answer(of_two, ACCEPTED)
        await one.answer(of_one, ACCEPTED)
        assert await told(one) == {"jsonrpc": "2.0", "id": 1, "result": ACCEPTED}
        assert len(_asker(worker)) == 0


async def test_another_user_with_a_stolen_session_cannot_answer() -> None:
    names = ("a", "b")
    keys = tuple(ApiKey(name=name, key_sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names)
    backend = Curious(tools={"t": asking("elicitation/create", FORM)})
    async with (
        backend,
        running(configured(backend, auth=Auth(api_keys=keys))) as worker,
        Client.opened(_port(worker), authorization="Bearer a") as client,
        Client.opened(_port(worker), authorization="Bearer b") as thief,
    ):
        client.call("t")
        asked = await client.hear()
        thief.post.session = client.post.session
        stolen = {"jsonrpc": "2.0", "id": asked["id"], "result": ACCEPTED}
        assert (await thief.post.in_session(stolen)).status == 404
        await client.answer(asked, {"action": "decline"})
        assert (await told(client))["result"] == {"action": "decline"}


async def test_progress_passes_both_ways_with_tokens_that_are_each_others() -> None:
    heard: list[dict[str, Any]] = []

    async def tool(call: Call) -> Outcome:
        backend = call.backend
        assert isinstance(backend, Curious)
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        answer = asyncio.ensure_future(
            backend.ask(call, 1, "sampling/createMessage", {**SAMPLE, "_meta": {"progressToken": 77, "x": 1}})
        )
        await backend.notified.wait()
        heard.extend(each for each in backend.received if each.get("method") == "notifications/progress")
        await answer
        return text("done")

    backend = Curious(tools={"t": tool})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t", meta={"progressToken": "mine"})
        assert (await client.hear())["params"] == {"progressToken": "mine", "progress": 1}
        asked = await client.hear()
        token = asked["params"]["_meta"]["progressToken"]
        assert token == asked["id"]
        assert asked["params"]["_meta"]["x"] == 1
        # Without a token of ours it concerns nobody.
        await client.notify("notifications/progress", progressToken=77, progress=1)
        await client.notify("notifications/progress", progressToken=token, progress=0.50, message="half")
        await asyncio.wait_for(backend.notified.wait(), 20)
        await client.answer(asked, SAMPLED)
        assert (await client.hear())["result"] == text("done")
    assert [each["params"] for each in heard] == [{"progressToken": 77, "progress": 0.5, "message": "half"}]


async def test_a_backend_cancels_what_it_has_asked() -> None:
    async def tool(call: Call) -> Outcome:
        backend = call.backend
        assert isinstance(backend, Curious)
        lost = asyncio.ensure_future(backend.ask(call, "x", "elicitation/create", FORM))
        await asyncio.sleep(0)
        await call.say(method="notifications/cancelled", params={"requestId": "never"})
        await call.say(method="notifications/cancelled", params={"requestId": "x", "reason": "late"})
        answer = await backend.ask(call, "y", "elicitation/create", FORM)
        assert not lost.done()
        lost.cancel()
        return text(json.dumps(answer))

    backend = Curious(tools={"t": tool})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        first, cancelled, second = await client.hear(), await client.hear(), await client.hear()
        assert (cancelled["method"], cancelled["params"]["requestId"]) == ("notifications/cancelled", first["id"])
        await client.answer(first, {"action": "decline"})
        await client.answer(second, ACCEPTED)
        assert await told(client) == {"jsonrpc": "2.0", "id": "y", "result": ACCEPTED}


async def test_a_backend_that_answers_without_waiting_leaves_nothing() -> None:
    async def tool(call: Call) -> Outcome:
        await call.say(id=9, method="elicitation/create", params=FORM)
        return text("never mind")

    backend = Curious(tools={"t": tool}, methods={9: "elicitation/create"})
    backend.answers[9] = asyncio.get_running_loop().create_future()
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        asked, cancelled = await client.hear(), await client.hear()
        assert cancelled["params"]["requestId"] == asked["id"]
        assert (await client.hear())["result"] == text("never mind")
        await client.answer(asked, ACCEPTED)
        assert "error" in await backend.answers[9]
        assert len(_asker(worker)) == 0


async def test_a_client_that_vanishes_is_not_waited_for() -> None:
    backend = Curious(tools={"t": asking("elicitation/create", FORM)})
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), revision="2025-06-18") as client,  # whose streams cannot be resumed
    ):
        client.call("t")
        await client.hear()
        client.stream.vanish()
        answer = await asyncio.wait_for(backend.answers["own"], 20)
        assert answer["error"]["message"] == "the client has gone"
        assert len(_asker(worker)) == 0


async def test_a_client_that_cancels_its_call_is_not_asked_any_more() -> None:
    backend = Curious(tools={"t": asking("elicitation/create", FORM)})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        call = client.call("t")
        asked = await client.hear()
        await client.notify("notifications/cancelled", requestId=call)
        assert (await client.hear())["params"]["requestId"] == asked["id"]
        assert (await client.hear())["error"]["code"] == -32800
        assert "error" in await asyncio.wait_for(backend.answers["own"], 20)
        assert len(_asker(worker)) == 0


async def test_a_backend_that_dies_while_its_client_is_asked() -> None:
    async def tool(call: Call) -> Outcome:
        await call.say(id=9, method="elicitation/create", params=FORM)
        await call.backend.release.wait()
        return b"\r\n"  # no chunk: the stream breaks

    backend = Curious(tools={"t": tool}, methods={9: "elicitation/create"})
    backend.answers[9] = asyncio.get_running_loop().create_future()
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        call = client.call("t")
        asked = await client.hear()
        backend.release.set()
        assert (await client.hear())["params"]["requestId"] == asked["id"]
        failed = await client.hear()
        assert (failed["id"], failed["error"]["code"]) == (call, -31007)
        await client.answer(asked, ACCEPTED)
        assert len(_asker(worker)) == 0


async def test_a_session_that_ends_ends_what_it_was_asked() -> None:
    backend = Curious(tools={"t": asking("elicitation/create", FORM)})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        asked = await client.hear()
        reply = await client.post.send(b"", client._fields, method="DELETE")
        assert reply.status == 204
        assert (await client.hear())["params"]["requestId"] == asked["id"]
        assert (await told(client))["error"]["message"] == "the client has ended its session"
        assert len(_asker(worker)) == 0


async def test_what_is_still_asked_when_the_gateway_stops() -> None:
    backend = Curious(tools={"t": asking("elicitation/create", FORM)})
    async with backend:
        async with running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
            client.call("t")
            await client.hear()
            await worker.stop(5)
            await client.hear()
            assert (await told(client))["error"]["message"] == "the gateway stops"
        assert len(_asker(worker)) == 0


# URL elicitations, which go on after their answer.


def finishing(call: Call) -> dict[str, Any]:
    return {"method": "notifications/elicitation/complete", "params": {"elicitationId": "e-1"}}


async def visit(call: Call) -> Outcome:
    """Ask for a visit, and say that it is over, on the stream of the call."""
    backend = call.backend
    assert isinstance(backend, Curious)
    await backend.ask(call, 1, "elicitation/create", URL)
    await call.say(**finishing(call))
    await call.say(**finishing(call))  # a second time it means nothing any more
    return text("visited")


async def need(call: Call) -> Outcome:
    data = {"elicitations": [URL, {**URL, "elicitationId": "e-2"}]}
    raise Fault(code=-32042, message="log in first", data=data)


async def test_the_end_of_an_elicitation_is_told_on_the_stream_of_its_call() -> None:
    backend = Curious(tools={"visit": visit})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("visit")
        asked = await client.hear()
        await client.answer(asked, {"action": "accept"})
        complete = await client.hear()
        assert complete["method"] == "notifications/elicitation/complete"
        assert complete["params"] == {"elicitationId": asked["params"]["elicitationId"]}
        assert "result" in await client.hear()
        assert len(_asker(worker)._elicitations) == 0


async def test_urls_that_a_call_needs_are_told_and_their_end_on_the_stream_of_the_session() -> None:
    backend = Curious(tools={"need": need}, pushes=True)
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker)) as client,
        Client.opened(_port(worker)) as other,
        Caller(_port(worker)) as reader,
        Caller(_port(worker)) as elsewhere,
    ):
        stream = await attached(reader, client.session)
        foreign = await attached(elsewhere, other.session)
        client.call("need")
        error = (await client.hear())["error"]
        assert (error["code"], error["message"]) == (-32042, "log in first")
        first, second = (each["elicitationId"] for each in error["data"]["elicitations"])
        assert len({first, second, "e-1", "e-2"}) == 4
        await backend.push(method="notifications/elicitation/complete", params={"elicitationId": "x"})
        await backend.push(method="notifications/elicitation/complete", params={"elicitationId": 7})
        await backend.push(method="notifications/elicitation/complete", params={"elicitationId": "e-2"})
        told = await stream.next()
        assert told == {
            "jsonrpc": "2.0",
            "method": "notifications/elicitation/complete",
            "params": {"elicitationId": second},
        }
        # The other session hears what is said next, and nothing before it.
        other.call("need")
        (mine, _) = (each["elicitationId"] for each in (await other.hear())["error"]["data"]["elicitations"])
        assert mine != first
        # Both wait for the end of `e-1` now: whose it is nobody knows.
        await backend.push(method="notifications/elicitation/complete", params={"elicitationId": "e-1"})
        await client.end_session()
        await backend.push(method="notifications/elicitation/complete", params={"elicitationId": "e-1"})
        assert (await foreign.next())["params"] == {"elicitationId": mine}
        await other.end_session()
        assert len(_asker(worker)._elicitations) == 0


@pytest.mark.parametrize(("declared", "revision"), [({}, "2025-11-25"), (EVERYTHING, "2025-06-18")])
async def test_a_client_that_cannot_visit_is_not_told_a_code_it_does_not_know(
    declared: dict[str, Any], revision: str
) -> None:
    backend = Curious(tools={"need": need})
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), declared, revision) as client,
    ):
        client.call("need")
        error = (await client.hear())["error"]
        assert (error["code"], error["message"]) == (-32603, "log in first")
        assert error["data"]["elicitations"][0]["url"] == URL["url"]
        assert len(_asker(worker)._elicitations) == 0


# Without connections.


class Scene:
    """An asker, a backend that hears what it is told, and as many calls as are needed."""

    def __init__(self, input_s: float = 60.0) -> None:
        self.server = FakeServer()
        self.replies = Replies(self.server(), name="b")
        self.asker = ClientAsker(3, input_s, Metrics())

    def call(self, session: str = "s", revision: str = "2025-11-25") -> tuple[Exchange, Channel]:
        exchange, channel = exchange_of(snapshot_of())
        exchange.snapshot.desk = Desk(asker=self.asker)
        exchange.session = replace(SESSION, id=session, revision=revision, capabilities=orjson.dumps(EVERYTHING))
        return exchange, channel

    def ask(self, exchange: Exchange, id: int = 1, params: dict[str, Any] | None = None) -> Asking:
        message = {"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params or FORM}
        asking = Asking(scan(orjson.dumps(message)), self.replies, "b", None)
        self.asker.relay(exchange, asking)
        return asking


def said(channel: Channel) -> list[dict[str, Any]]:
    events = channel.body.split(b"\n\n")
    messages = [json.loads(event.partition(b"data: ")[2]) for event in events if b"data: " in event]
    for message in messages:
        validity.check(message, "2025-11-25")
    return messages


def response(id: str) -> Any:
    return scan(orjson.dumps({"jsonrpc": "2.0", "id": id, "result": ACCEPTED}))


@virtual
async def test_a_client_that_takes_too_long() -> None:
    scene = Scene(input_s=5.0)
    exchange, channel = scene.call()
    scene.ask(exchange)
    await asyncio.sleep(4.9)
    assert len(scene.asker) == 1
    await asyncio.sleep(0.2)
    asked, cancelled = said(channel)
    assert cancelled["params"] == {"requestId": asked["id"], "reason": "the client did not answer in time"}
    assert scene.server.sent[0]["error"]["message"] == "the client did not answer in time"
    assert exchange.session is not None
    scene.asker.answered(exchange.session, response(asked["id"]))
    await asyncio.sleep(0.1)
    assert (len(scene.server.sent), len(scene.asker)) == (1, 0)
    await scene.replies.aclose()


@virtual
async def test_the_stream_is_kept_alive_while_a_user_thinks() -> None:
    scene = Scene(input_s=300.0)
    exchange, channel = scene.call()
    scene.ask(exchange)
    await asyncio.sleep(299)
    assert channel.body.count(b": \n\n") == 11
    assert (len(said(channel)), scene.server.sent) == (1, [])
    await asyncio.sleep(2)
    assert len(said(channel)) == 2
    body = channel.body
    await asyncio.sleep(300)
    assert channel.body == body
    await scene.replies.aclose()


@virtual
async def test_a_backend_cannot_flood_a_client() -> None:
    scene = Scene()
    exchange, channel = scene.call()
    for number in range(MAX_PER_SESSION + 3):
        scene.ask(exchange, number)
    assert len(said(channel)) == len(scene.asker) == MAX_PER_SESSION
    other, _ = scene.call("another")
    assert scene.ask(other).open
    await asyncio.sleep(0.1)
    assert [each["id"] for each in scene.server.sent] == [MAX_PER_SESSION + n for n in range(3)]
    scene.asker.over(exchange)
    scene.asker.over(other)
    assert repr(scene.asker) == "<ClientAsker open=0 sessions=0>"
    await scene.replies.aclose()


@virtual
async def test_all_clients_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("only1mcp.proxy.asker.MAX_PER_WORKER", 2)
    scene = Scene()
    exchanges = [scene.call(name)[0] for name in "abc"]
    open = [scene.ask(exchange).open for exchange in exchanges]
    assert open == [True, True, False]
    await scene.asker.aclose()
    assert len(scene.asker) == 0
    await scene.replies.aclose()


@virtual
async def test_over_ends_what_was_asked_for_this_call_and_for_no_other() -> None:
    scene = Scene()
    (one, _), (two, heard) = scene.call(), scene.call()
    first, second = scene.ask(one, 1), scene.ask(two, 2)
    scene.asker.over(one)
    assert (first.open, second.open) == (False, True)
    assert two.session is not None
    scene.asker.answered(two.session, response(said(heard)[0]["id"]))
    await asyncio.sleep(0.1)
    assert scene.server.sent[1] == {"jsonrpc": "2.0", "id": 2, "result": ACCEPTED}
    await scene.replies.aclose()


@virtual
async def test_ids_carry_the_number_of_the_worker_and_are_never_the_same() -> None:
    scene = Scene()
    exchange, channel = scene.call()
    for number in range(8):
        scene.ask(exchange, number, {**FORM, "task": {"ttl": 1}})
    asked = said(channel)
    assert len({each["id"] for each in asked}) == 8
    assert all(each["id"].startswith("3.") and "task" not in each["params"] for each in asked)
    scene.asker.over(exchange)
    await scene.replies.aclose()


@virtual
async def test_answers_that_are_none() -> None:
    scene = Scene()
    exchange, channel = scene.call()
    session = exchange.session
    assert session is not None
    scene.ask(exchange)
    for data in (b'{"jsonrpc":"2.0","error":{"code":-1,"message":"m"}}', b'{"jsonrpc":"2.0","id":0,"result":{}}'):
        scene.asker.answered(session, scan(data))
    assert not scene.asker.notified(session, scan(b'{"jsonrpc":"2.0","method":"notifications/progress"}'))
    assert not scene.asker.cancelled(exchange, scan(b'{"jsonrpc":"2.0","method":"notifications/cancelled"}'))
    assert len(scene.asker) == 1
    id = said(channel)[0]["id"]
    scene.asker.answered(session, scan(orjson.dumps({"jsonrpc": "2.0", "id": id, "result": 7})))
    await asyncio.sleep(0.1)
    assert scene.server.sent[0]["error"]["code"] == -32603
    await scene.replies.aclose()


@pytest.mark.parametrize("more", [b'"_meta":{"progressToken":1,"progressToken":2}', b'"mode":"form","mode":"url"'])
@virtual
async def test_params_that_two_readers_could_read_differently_are_refused(more: bytes) -> None:
    scene = Scene()
    exchange, channel = scene.call()
    params = b'{"message":"m","requestedSchema":{},' + more + b"}"
    message = scan(b'{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":' + params + b"}")
    scene.asker.relay(exchange, Asking(message, scene.replies, "b", None))
    await asyncio.sleep(0.1)
    assert (channel.body, len(scene.asker)) == (b"", 0)
    assert scene.server.sent[0]["error"]["code"] == -32602
    await scene.replies.aclose()


def test_what_a_stateless_backend_is_told_of_a_client() -> None:
    asker = ClientAsker(0, 1.0, Metrics())
    session = Session("s", "p", "2025-06-18", orjson.dumps(EVERYTHING), 1e12)
    assert orjson.loads(asker.declared(session)) == {
        "sampling": {"tools": {}},
        "elicitation": {"form": {}},
        "roots": {},
    }


def _port(worker: Any) -> int:
    port: int = worker.listener.port
    return port


def _asker(worker: Any) -> ClientAsker:
    asker = worker.desk.asker
    assert isinstance(asker, ClientAsker)
    return asker
