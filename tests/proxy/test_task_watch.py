"""Listens that name tasks: what is granted, what is told, and what happens when a backend tells no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.in_process import configured, running
from tests.jobs import DECLARED, EXTENSION, META, Jobs
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import Caller, stateless
from tests.process.test_changes import STATELESS, Stream
from tests.proxy.test_pipeline_callers import AUTH
from tests.proxy.test_tasks import made

from only1mcp.config.schema import Auth
from only1mcp.process.worker import Worker
from only1mcp.proxy import task_watch

STAMP = META + "subscriptionId"


@asynccontextmanager
async def watched(*backends: Backend, auth: Auth | None = None) -> AsyncIterator[tuple[Worker, int]]:
    """Serve the backends, and see that nothing is left of any listen."""
    async with running(configured(*backends, auth=auth)) as worker:
        assert worker.listener is not None
        yield worker, worker.listener.port
    hub: Any = worker.desk.hub
    assert (dict(hub._watches), hub._tasks, len(hub)) == ({}, set(), 0)


async def listening(caller: Caller, *ids: str, meta: Any = DECLARED, **more: Any) -> tuple[Stream, dict[str, Any]]:
    """Return the stream of a listen and what its acknowledgement grants."""
    wanted = {"taskIds": list(ids), **more}
    caller.write(*stateless("subscriptions/listen", id="mine", meta=meta, notifications=wanted))
    status, headers = await caller.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    stream = Stream(caller, STATELESS)
    first = await stream.next()
    assert first["params"]["_meta"] == {STAMP: "mine"}
    granted: dict[str, Any] = first["params"]["notifications"]
    return stream, granted


async def test_what_becomes_of_tasks_is_told() -> None:
    one, two = Jobs("one", tools={"echo": echo}), Jobs("two")
    async with (
        one.backend,
        two.backend,
        watched(one.backend, two.backend) as (_, port),
        Caller(port) as caller,
        Caller(port) as listener,
    ):
        mine, other, third = await made(caller, "one"), await made(caller, "two"), await made(caller, "one")
        stream, granted = await listening(listener, mine, "nobody's", other, mine, toolsListChanged=True)
        assert granted == {"toolsListChanged": True, "taskIds": [mine, other]}
        await one.complete("one-2", "not watched")
        await one.complete("one-1", "first")
        told = await stream.next()
        assert (told["method"], told["params"]["taskId"]) == ("notifications/tasks", mine)
        assert told["params"] == {**one.tasks["one-1"], "taskId": mine, "_meta": {STAMP: "mine"}}
        await two.settle("two-1", status="failed", error={"code": -32603, "message": "no"})
        told = await stream.next()
        assert (told["params"]["taskId"], told["params"]["error"]["message"]) == (other, "no")
        assert third != mine
        sent = [each for each in one.backend.received if "taskIds" in str(each.get("params", {}).get("notifications"))]
        assert [each["params"]["notifications"] for each in sent] == [{"taskIds": ["one-1"]}]
        listener.vanish()


async def test_nothing_is_granted_where_there_is_nothing() -> None:
    jobs = Jobs(tools={"echo": echo})
    async with jobs.backend, watched(jobs.backend) as (_, port), Caller(port) as caller, Caller(port) as listener:
        gone = await made(caller)
        await jobs.forget("job-1")
        _, granted = await listening(listener, gone, "x", "A" * 80, toolsListChanged=True)
        assert granted == {"toolsListChanged": True}
        listener.vanish()


async def test_tasks_must_be_declared() -> None:
    jobs = Jobs()
    async with jobs.backend, watched(jobs.backend) as (_, port), Caller(port) as caller:
        id = await made(caller)
        reply = await caller.ask("subscriptions/listen", notifications={"taskIds": [id]})
        assert (reply.status, reply.code) == (400, -32021)
        assert reply.error["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        for wrong in ("x", [7], [id] * 1001, {"a": 1}):
            reply = await caller.ask("subscriptions/listen", meta=DECLARED, notifications={"taskIds": wrong})
            assert (reply.status, reply.code) == (400, -32602)


async def test_without_a_backend_that_has_tasks_they_are_not_granted() -> None:
    plain = Backend(tools={"echo": echo})
    async with plain, watched(plain) as (_, port), Caller(port) as listener:
        _, granted = await listening(listener, "x", meta=None)
        assert granted == {}
        listener.vanish()


async def test_tasks_of_another_principal_are_not_told_of() -> None:
    jobs = Jobs()
    async with (
        jobs.backend,
        watched(jobs.backend, auth=AUTH) as (_, port),
        Caller(port, x_api_key="ann-key") as ann,
        Caller(port, x_api_key="bob-key") as bob,
    ):
        id = await made(ann)
        _, granted = await listening(bob, id)
        assert granted == {}
        bob.vanish()


async def test_a_listen_ends_when_its_backend_tells_no_more() -> None:
    jobs = Jobs()
    async with jobs.backend, watched(jobs.backend) as (_, port), Caller(port) as caller, Caller(port) as listener:
        id = await made(caller)
        stream, granted = await listening(listener, id)
        assert granted == {"taskIds": [id]}
        await jobs.forget("job-1")
        last = await stream.next()
        assert last["result"]["resultType"] == "complete"
        assert await stream.next() is None


async def test_the_backend_hears_when_nobody_listens_any_more() -> None:
    jobs = Jobs()
    async with jobs.backend, watched(jobs.backend) as (_, port), Caller(port) as caller, Caller(port) as listener:
        await listening(listener, await made(caller))
        listener.vanish()
        async with asyncio.timeout(10):
            await jobs.backend.gone.wait()
        assert jobs.backend.abandoned == ["subscriptions/listen"]


async def test_a_backend_that_refuses_or_is_silent_grants_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()
    monkeypatch.setattr("only1mcp.proxy.hub.ACKNOWLEDGE_S", 0.2)
    async with jobs.backend, watched(jobs.backend) as (_, port), Caller(port) as caller:
        id = await made(caller)
        del jobs.backend.scripts["subscriptions/listen"]
        async with Caller(port) as listener:
            assert (await listening(listener, id))[1] == {}
            listener.vanish()
        jobs.backend.scripts["subscriptions/listen"] = jobs.backend.hold
        async with Caller(port) as listener:
            assert (await listening(listener, id))[1] == {}
            listener.vanish()


async def test_what_a_backend_tells_out_of_turn_is_not_passed_on() -> None:
    jobs = Jobs()

    async def listen(call: Call) -> Outcome:
        async def tell(id: Any, **more: Any) -> None:
            await call.say(method="notifications/tasks", params={"taskId": id, "status": "working", **more})

        await tell("job-1", early=True)
        params = {"notifications": {"taskIds": ["job-1", "job-2", 7]}, "_meta": {STAMP: "x"}}
        await call.say(method="notifications/subscriptions/acknowledged", params=params)
        await tell("job-2")
        await tell(None)
        await tell(["job-1"])
        await call.say(method="notifications/tasks")
        await call.say(method="notifications/message", params={"level": "info", "data": "x"})
        await call.say(method="notifications/progress", params={"progressToken": "mine", "progress": 1})
        await tell("job-1", _meta={STAMP: "forged", "a": 1})
        return await jobs.backend.hold(call)

    jobs.backend.scripts["subscriptions/listen"] = listen
    async with jobs.backend, watched(jobs.backend) as (_, port), Caller(port) as caller, Caller(port) as listener:
        id = await made(caller)
        await made(caller)
        stream, granted = await listening(listener, id)
        assert granted == {"taskIds": [id]}
        told = await stream.next()
        assert told["params"] == {"taskId": id, "status": "working", "_meta": {STAMP: "mine", "a": 1}}
        listener.vanish()


async def test_listens_beyond_the_limit_are_not_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("only1mcp.proxy.hub.MAX_WATCHES_EACH", 1)
    jobs = Jobs()
    async with (
        jobs.backend,
        watched(jobs.backend) as (_, port),
        Caller(port) as caller,
        Caller(port) as one,
        Caller(port) as two,
    ):
        id = await made(caller)
        assert (await listening(one, id))[1] == {"taskIds": [id]}
        assert (await listening(two, id))[1] == {}
        one.vanish()
        two.vanish()
    assert task_watch.MAX_WATCHES_EACH <= task_watch.MAX_WATCHES


async def test_listens_end_with_the_proxy() -> None:
    jobs = Jobs()
    async with jobs.backend, watched(jobs.backend) as (worker, port), Caller(port) as caller, Caller(port) as listener:
        stream, _ = await listening(listener, await made(caller))
        await worker.desk.aclose()
        assert (await stream.next())["result"]["resultType"] == "complete"


async def test_resources_are_named_as_clients_know_them() -> None:
    listed = [{"uri": "test://a", "name": "a"}]
    jobs, first = Jobs(resources=listed), Backend(resources=listed, tools={"echo": echo})
    async with (
        first,
        jobs.backend,
        watched(first, jobs.backend) as (_, port),
        Caller(port) as caller,
        Caller(port) as listener,
    ):
        stream, _ = await listening(listener, await made(caller))
        link = {"type": "resource_link", "uri": "test://a", "name": "a"}
        result = {**text("x"), "content": [link]}
        await jobs.settle("job-1", status="completed", result=result)
        told = await stream.next()
        assert told["params"]["result"]["content"][0]["uri"] == "only1mcp://b1/test://a"
        listener.vanish()
