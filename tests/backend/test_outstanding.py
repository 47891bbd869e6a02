"""What an HTTP server says on its own stream, which belongs to no call, reaches the client that it can only mean."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.backend.fakes import Watch
from tests.in_process import configured, running
from tests.mcp_backend import Backend, Call, Outcome, text
from tests.mcp_caller import Caller
from tests.proxy.asked import answered, asks_of, call
from tests.proxy.dialogue import ACCEPTED, FORM, Client, Curious

from only1mcp.backend.base import BackendCall
from only1mcp.backend.outstanding import Outstanding
from only1mcp.process.worker import Worker


async def elicit(call: Call) -> Outcome:
    """Ask as servers do that do not say in the middle of which request they ask."""
    backend = call.backend
    assert isinstance(backend, Curious)
    return text(json.dumps(await backend.ask(call, call.message["id"], "elicitation/create", FORM)))


async def plain(call: Call) -> Outcome:
    return text("plain")


async def logging(call: Call) -> Outcome:
    params = {"level": "error", "data": f"for {call.arguments['who']}"}
    await call.backend.say_unasked(method="notifications/message", params=params)
    return await call.backend.hold(call)


def speaking() -> Curious:
    return Curious(speaks=True, tools={"elicit": elicit, "plain": plain, "log": logging})


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


def said(answer: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])
    return response


async def test_a_session_is_asked_on_the_stream_of_its_call() -> None:
    backend = speaking()
    async with backend, running(configured(backend)) as worker, Client.opened(port_of(worker)) as client:
        for _ in range(2):  # the second call goes out on a connection that is kept, without a task
            client.call("elicit")
            asked = await client.hear()
            assert (asked["method"], asked["params"]) == ("elicitation/create", FORM)
            await client.answer(asked, ACCEPTED)
            assert said(await client.hear())["result"] == ACCEPTED
            await client.end()


async def test_a_stateless_client_is_asked_by_an_answer() -> None:
    backend = speaking()
    async with backend, running(configured(backend)) as worker, Caller(port_of(worker)) as caller:
        first = await call(caller, "elicit")
        assert [each["method"] for each in asks_of(first).values()] == ["elicitation/create"]
        second = await call(caller, "elicit", **answered(first))
        assert json.loads(second.text)["result"]["action"] == "accept"


async def test_the_time_that_a_client_takes_is_not_the_backends() -> None:
    backend = speaking()
    async with (
        backend,
        running(configured(backend, each={"timeout_ms": 500})) as worker,
        Client.opened(port_of(worker)) as client,
    ):
        for _ in range(2):
            client.call("elicit")
            asked = await client.hear()
            await asyncio.sleep(1)  # twice what the backend has
            await client.answer(asked, ACCEPTED)
            assert said(await client.hear())["result"] == ACCEPTED
            await client.end()


async def test_nobody_is_asked_once_the_backend_has_served_two() -> None:
    backend = speaking()
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(port_of(worker)) as first,
        Client.opened(port_of(worker)) as second,
    ):
        first.call("plain")
        assert (await first.hear())["result"]["content"][0]["text"] == "plain"
        for client in (second, first):
            client.call("elicit")
            error = said(await client.hear())["error"]
            assert (error["code"], "per_session" in error["message"]) == (-32602, True)


async def test_log_messages_reach_the_one_who_calls_and_nobody_where_there_are_two() -> None:
    backend = speaking()
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(port_of(worker)) as first,
        Client.opened(port_of(worker)) as second,
    ):
        first.call("log", who="first")
        assert (await first.hear())["params"]["data"] == "for first"
        backend.release.set()
        assert (await first.hear())["result"]
        await first.end()
        for client, who in ((second, "second"), (first, "first again")):
            client.call("log", who=who)
            assert (await client.hear())["result"], "a log message of whom nobody can say"


async def test_what_is_asked_outside_of_any_call_is_refused() -> None:
    backend = speaking()
    async with backend, running(configured(backend)):
        backend.answers[1] = asyncio.get_running_loop().create_future()
        backend.methods[1] = "elicitation/create"
        await backend.say_unasked(id=1, method="elicitation/create", params=FORM)
        assert (await backend.answers[1])["error"]["code"] == -32602
        backend.answers[2] = asyncio.get_running_loop().create_future()
        backend.methods[2] = "ping"
        await backend.say_unasked(id=2, method="ping")
        assert (await backend.answers[2])["result"] == {}


async def test_a_backend_of_the_stateless_era_costs_no_attribution() -> None:
    backend = Backend(tools={"plain": plain})
    async with backend, running(configured(backend)) as worker, Caller(port_of(worker)) as caller:
        await caller.call("plain")
        transport: Any = worker.registry.endpoints["b0"].transport
        assert transport.lane.sole is False


def test_what_was_asked_in_calls_that_are_over_is_forgotten() -> None:
    outstanding = Outstanding(list)
    clock = Watch()
    for id in (b"1", b"2"):
        outstanding.add(BackendCall("tools/call", b"{}", id, None), clock)
    assert [each.call.id for each in outstanding.values()] == [b"1", b"2"]
    found = outstanding.get(b"1")
    assert found is not None
    assert found.asks is None
    found.asks = {b"7"}
    assert outstanding.get(b"1").asks == {b"7"}  # type: ignore[union-attr]
    found.stop()
    assert clock.stops == 1
    found.go_on()
    assert clock.stops == 0
    outstanding.remove(found.call)
    assert outstanding.get(b"1") is None
    outstanding.values()
    assert outstanding._asks == {}
