"""Tasks of backends of both eras through the whole proxy: whose they are, where they are, and what they come to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from tests.in_process import configured, proxied, running
from tests.jobs import DECLARED, EXTENSION, META, RELATED, Jobs
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import Caller, Reply, stateless
from tests.proxy.dialogue import ACCEPTED, FORM, Client, Curious
from tests.proxy.test_pipeline_callers import AUTH, port_of

from only1mcp.config.schema import Cache, CachedItem, LoadBalancer, State
from only1mcp.config.secret import Secret
from only1mcp.frontend.sealing import Sealer
from only1mcp.proxy import tasks as module
from only1mcp.wire.mirror import encode_header

REQUIRED = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
METHODS = ["tasks/get", "tasks/update", "tasks/cancel"]


async def made(caller: Caller, tool: str = "job", **arguments: Any) -> str:
    """Return the id of a new task, as its client knows it."""
    result = (await caller.call(tool, meta=DECLARED, **arguments)).result
    assert result["resultType"] == "task"
    id: str = result["taskId"]
    return id


async def ask(caller: Caller, method: str, id: Any, **params: Any) -> Reply:
    return await caller.ask(method, meta=DECLARED, taskId=id, **params)


async def test_a_task_from_its_making_to_its_result() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        created = (await caller.call("job", meta=DECLARED)).result
        id = created.pop("taskId")
        assert "job-1" not in id
        assert created == {"resultType": "task", **jobs.tasks["job-1"]}
        assert (await ask(caller, "tasks/get", id)).result["status"] == "working"
        asked = {"name": {"method": "elicitation/create", "params": {"message": "name?"}}}
        await jobs.settle("job-1", status="input_required", inputRequests=asked)
        assert (await ask(caller, "tasks/get", id)).result["inputRequests"] == asked
        answers = {"name": {"action": "accept", "content": {"name": "Ann"}}}
        assert (await ask(caller, "tasks/update", id, inputResponses=answers)).result == {"resultType": "complete"}
        assert jobs.inputs == [("job-1", answers)]
        await jobs.complete("job-1", "done")
        got = (await ask(caller, "tasks/get", id)).result
        assert (got["taskId"], got["result"], got["resultType"]) == (id, text("done"), "complete")
        assert (await ask(caller, "tasks/cancel", id)).result == {"resultType": "complete"}


async def test_calls_that_come_again_make_tasks_of_this_client_too() -> None:
    jobs = Jobs(tools={"echo": echo})
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        for number in range(1, 7):  # the same head each time, of which less and less is looked at
            id = await made(caller)
            assert (await ask(caller, "tasks/get", id)).result["taskId"] == id
            assert jobs.backend.calls[-1]["params"]["taskId"] == f"job-{number}"
        for _ in range(6):
            assert (await caller.call("job")).code == -32021
            assert (await caller.call("echo", text="task")).text == "task"


def grouped(*jobs: Jobs) -> AbstractAsyncContextManager[int]:
    """Serve them as one group, whose calls go to each in turn."""
    balancer = LoadBalancer(algorithm="round_robin")
    return proxied(*(each.backend for each in jobs), each={"group": "both"}, load_balancer=balancer)


async def test_each_task_is_asked_about_where_it_is() -> None:
    one, two = Jobs("one"), Jobs("two")
    async with grouped(one, two) as port, Caller(port) as caller:
        # One group, one list of tools, whichever of the two is called.
        for jobs in (one, two):
            jobs.backend.tools["one"] = jobs.job
        ids = [await made(caller, "one") for _ in range(6)]
        assert len(set(ids)) == 6
        assert (len(one.tasks), len(two.tasks)) == (3, 3)
        await one.complete("one-2", "of one")
        await two.complete("two-2", "of two")
        results = [(await ask(caller, "tasks/get", id)).result for id in ids]
        assert [each["taskId"] for each in results] == ids
        ends = sorted(each["result"]["content"][0]["text"] for each in results if "result" in each)
        assert ends == ["of one", "of two"]


async def test_a_task_of_a_backend_that_is_down_is_not_looked_for_elsewhere() -> None:
    one, two = Jobs("job"), Jobs("job")
    async with grouped(one, two) as port, Caller(port) as caller:
        ids = [await made(caller) for _ in range(2)]
        await one.backend.__aexit__()
        replies = [await ask(caller, "tasks/get", id) for id in ids]
        assert sorted(reply.status for reply in replies) == [200, 503]
        assert {reply.code for reply in replies if reply.status == 503} == {-31001}


@pytest.mark.parametrize("method", METHODS)
async def test_a_client_that_has_not_declared_tasks(method: str) -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        id = await made(caller)
        for known in (id, "whatever"):
            reply = await caller.ask(method, taskId=known)
            assert (reply.status, reply.code, reply.error["data"]) == (400, -32021, REQUIRED)
        for settings in (None, True, "yes", []):
            meta = {META + "clientCapabilities": {"extensions": {EXTENSION: settings}}}
            assert (await caller.ask(method, meta=meta, taskId=id)).code == -32021
        # A backend may not make a task for it either.
        reply = await caller.call("job")
        assert (reply.status, reply.code, reply.error["data"]) == (400, -32021, REQUIRED)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "id", ["", "job-1", "A" * 60, "x" * 5000, "\u00e4\u0000\n", "=?base64?x?=", None, 7, ["a"], {}]
)
async def test_ids_that_are_none(method: str, id: Any) -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        await made(caller)
        message, fields = stateless(method, meta=DECLARED, taskId=id)
        header = json.dumps(id) if not isinstance(id, str) else encoded(id)
        reply = await caller.send(message, {**fields, "mcp-name": header})
        assert (reply.status, reply.code) == (400, -32602)
        assert [each for each in jobs.backend.calls if each["method"] == method] == []


def encoded(id: str) -> str:
    return encode_header(id).decode()


async def test_what_is_altered_opens_nothing() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        id = await made(caller)
        for altered in (id + "-TAMPERED", id[:-1], id[1:], id + "A", id.swapcase(), " " + id, id.replace(id[20], "-")):
            reply = await caller.send(
                *_with_name(stateless("tasks/get", meta=DECLARED, taskId=altered), encoded(altered))
            )
            assert (reply.status, reply.code) == (400, -32602), altered
        assert (await ask(caller, "tasks/get", id)).status == 200


def _with_name(request: tuple[dict[str, Any], Any], name: str) -> tuple[dict[str, Any], Any]:
    return request[0], {**request[1], "mcp-name": name}


async def test_the_header_must_name_the_same_task() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        id, other = await made(caller), await made(caller)
        for header in (other, "job-1", None, [id, id], ""):
            message, fields = stateless("tasks/get", meta=DECLARED, taskId=id)
            reply = await caller.send(message, {**fields, "mcp-name": header})
            assert (reply.status, reply.code) == (400, -32020), header


@asynccontextmanager
async def two_keys(jobs: Jobs) -> AsyncIterator[tuple[Caller, Caller]]:
    async with (
        proxied(jobs.backend, auth=AUTH) as port,
        Caller(port, authorization="Bearer ann-key") as one,
        Caller(port, authorization="Bearer bob-key") as other,
    ):
        yield one, other


async def test_a_foreign_principal_has_no_such_task() -> None:
    jobs = Jobs()
    async with two_keys(jobs) as (one, other):
        id = await made(one)
        for method in METHODS:
            reply = await ask(other, method, id)
            assert (reply.status, reply.code) == (400, -32602)
        assert (await ask(one, "tasks/get", id)).status == 200
        assert len(jobs.backend.calls) == 2


@pytest.mark.parametrize("lasting", [True, False])
async def test_ids_hold_wherever_the_key_is_the_same(lasting: bool) -> None:
    jobs = Jobs()
    async with jobs.backend:
        config = configured(jobs.backend)
        if lasting:
            config = replace(config, state=State(key=Secret("k" * 32)))
        async with running(config) as before, Caller(port_of(before)) as caller:
            id = await made(caller)
        async with running(config) as after, Caller(port_of(after)) as caller:
            reply = await ask(caller, "tasks/get", id)
            assert reply.result["taskId"] == id if lasting else reply.code == -32602


async def test_errors_of_the_backend_pass() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        id = await made(caller)
        await jobs.forget("job-1")
        for method in METHODS:
            reply = await ask(caller, method, id, **({"inputResponses": {}} if method == "tasks/update" else {}))
            assert (reply.status, reply.error["message"]) == (400, "Failed to retrieve task: Task not found")


async def test_methods_that_no_longer_are() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        for method in ("tasks/list", "tasks/result", "tasks/", "tasks/create"):
            reply = await caller.ask(method, meta=DECLARED, taskId="x")
            assert (reply.status, reply.code) == (404, -32601)


async def test_without_a_backend_that_has_tasks_there_are_none() -> None:
    async with proxied(Backend(tools={"echo": echo})) as port, Caller(port) as caller:
        assert "extensions" not in (await caller.ask("server/discover")).result["capabilities"]
        for method in METHODS:
            reply = await ask(caller, method, "A" * 60)
            assert (reply.status, reply.code) == (404, -32601)


async def test_the_extension_is_offered_to_stateless_clients_alone() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend, Backend(tools={"echo": echo})) as port, Caller(port) as caller:
        capabilities = (await caller.ask("server/discover")).result["capabilities"]
        assert capabilities["extensions"] == {EXTENSION: {}}
        assert "tasks" not in capabilities
        capabilities = (await caller.initialize()).result["capabilities"]
        assert not {"extensions", "tasks"} & capabilities.keys()


async def test_a_handshake_client_is_never_given_a_task_of_the_other_era() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        await caller.initialize()
        reply = await caller.call("job")
        assert reply.code == -31007
        assert "resultType 'task'" in reply.error["message"]
        # Its capabilities do not say that it wants tasks, whatever it has declared.
        assert "extensions" not in jobs.backend.calls[0]["params"]["_meta"][META + "clientCapabilities"]


async def test_results_that_speak_of_tasks_and_are_none() -> None:
    async def tricky(call: Call) -> Outcome:
        return {**text('"task"'), "taskId": "mine", "task": {"taskId": "also mine"}, "structuredContent": {"task": "t"}}

    jobs = Jobs(tools={"tricky": tricky})
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        result = (await caller.call("tricky", meta=DECLARED)).result
        assert (result["taskId"], result["task"]) == ("mine", {"taskId": "also mine"})


@pytest.mark.parametrize("suffix", ["", "\u00e4\U0001f600", "/../..", "\u0000", '"\\', "x" * 900])
async def test_ids_of_backends_may_be_any_text(suffix: str) -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        id = await made(caller, suffix=suffix)
        sent = await ask_bare(jobs, caller, id)
        assert sent == f"job-1{suffix}"


async def ask_bare(jobs: Jobs, caller: Caller, id: str) -> str:
    """Return the id with which the backend was asked."""

    async def get(call: Call) -> Outcome:
        return {"taskId": call.params["taskId"], "status": "working"}

    jobs.backend.scripts["tasks/get"] = get
    assert (await ask(caller, "tasks/get", id)).result["taskId"] == id
    sent: str = jobs.backend.calls[-1]["params"]["taskId"]
    return sent


@pytest.mark.parametrize("id", ["", "x" * 2000, None, 7])
async def test_ids_of_backends_that_cannot_be_used(id: Any) -> None:
    async def job(call: Call) -> Outcome:
        return {"resultType": "task", "taskId": id, "status": "working"}

    jobs = Jobs(tools={"odd": job})
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        reply = await caller.call("odd", meta=DECLARED)
        if isinstance(id, str):
            assert (reply.status, reply.code) == (502, -31007)
        else:
            assert reply.result["taskId"] == id  # an answer that is none, which is the client's to see


async def test_large_results_of_tasks() -> None:
    jobs = Jobs()
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        id = await made(caller, message="m" * 200_000)
        await jobs.complete("job-1", "x" * 300_000)
        got = (await ask(caller, "tasks/get", id)).result
        assert (got["taskId"], len(got["result"]["content"][0]["text"])) == (id, 300_000)


async def test_a_task_is_never_kept_nor_shared() -> None:
    jobs = Jobs(annotations={"job": {"readOnlyHint": True}})
    cache = Cache(tools={"job": CachedItem(ttl_seconds=60)})
    async with (
        proxied(jobs.backend, cache=cache) as port,
        Caller(port) as one,
        Caller(port) as two,
        asyncio.TaskGroup() as group,
    ):
        both = [group.create_task(made(caller)) for caller in (one, two)]
        ids = [await each for each in both] + [await made(one)]
        assert len(set(ids)) == 3
        assert len(jobs.tasks) == 3
        for id in ids:
            assert (await ask(one, "tasks/get", id)).result["taskId"] == id
        await jobs.complete("job-1", "done")
        assert len([each for each in jobs.backend.calls if each["method"] == "tasks/get"]) == 3


async def test_resources_in_what_a_task_comes_to_are_named_as_clients_know_them() -> None:
    listed = [{"uri": "test://a", "name": "a"}]
    jobs = Jobs(resources=listed)
    async with proxied(Backend(resources=listed), jobs.backend) as port, Caller(port) as caller:
        id = await made(caller)
        link = {"type": "resource_link", "uri": "test://a", "name": "a"}
        await jobs.settle("job-1", status="completed", result={"content": [link]})
        got = (await ask(caller, "tasks/get", id)).result
        assert got["result"]["content"][0]["uri"] == "only1mcp://b1/test://a"
        assert RELATED not in json.dumps(got)


def test_what_is_sealed_fits_into_a_listen() -> None:
    sealed = Sealer(bytes(32), "only1mcp.tasks").seal(bytes(module.MAX_ID_BYTES), "p", module.NEVER)
    assert len(sealed) <= 2048


# Tasks of 2025-11-25, which both sides know as a capability.


async def made_in_session(caller: Caller) -> str:
    result = (await caller.ask("tools/call", name="job", arguments={}, task={"ttl": 60_000})).result
    id: str = result["task"]["taskId"]
    assert result["_meta"][RELATED] == {"taskId": id}
    return id


async def test_a_task_of_the_handshake_era() -> None:
    jobs = Jobs(era="handshake")
    async with proxied(jobs.backend) as port, Caller(port) as caller, Caller(port) as waiter:
        capabilities = (await caller.initialize()).result["capabilities"]
        assert capabilities["tasks"] == {"cancel": {}, "requests": {"tools": {"call": {}}}}
        id = await made_in_session(caller)
        assert "job-1" not in id
        assert (await caller.ask("tasks/get", taskId=id)).result["taskId"] == id
        waiter.session = caller.session
        waiting = asyncio.create_task(waiter.ask("tasks/result", taskId=id))
        await jobs.complete("job-1", "done")
        result = (await waiting).result
        assert (result["content"], result["_meta"]) == (text("done")["content"], {RELATED: {"taskId": id}})
        cancelled = (await caller.ask("tasks/cancel", taskId=id)).result
        assert (cancelled["taskId"], cancelled["status"]) == (id, "cancelled")
        for wrong in ("job-1", "", id + "A"):
            assert (await caller.ask("tasks/get", taskId=wrong)).code == -32602
        for method in ("tasks/list", "tasks/update"):
            assert (await caller.ask(method, taskId=id)).code == -32601


async def test_what_a_task_asks_while_its_result_is_waited_for() -> None:
    backend = Curious()
    jobs = Jobs(era="handshake")

    async def result(call: Call) -> Outcome:
        meta = {RELATED: {"taskId": call.params["taskId"]}}
        await call.say(method="notifications/tasks/status", params={"taskId": call.params["taskId"]})
        answer = await backend.ask(call, "q", "elicitation/create", {**FORM, "_meta": meta})
        return {**text(answer["result"]["content"]["name"]), "_meta": meta}

    backend.tools = jobs.backend.tools
    backend.capabilities = jobs.backend.capabilities
    backend.scripts = {"tasks/result": result}
    async with proxied(backend) as port, Client.opened(port) as client:
        client.begin("tools/call", name="job", arguments={}, task={})
        id = (await client.hear("none"))["result"]["task"]["taskId"]
        client.begin("tasks/result", taskId=id)
        asked = await client.hear()
        assert asked["params"]["_meta"] == {RELATED: {"taskId": id}}
        await client.answer(asked, ACCEPTED)
        answer = (await client.hear())["result"]
        assert (answer["content"], answer["_meta"]) == (text("Bo")["content"], {RELATED: {"taskId": id}})


async def test_tasks_of_the_handshake_era_are_not_for_stateless_clients() -> None:
    jobs = Jobs(era="handshake", tools={"echo": echo})
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        assert not {"tasks", "extensions"} & (await caller.ask("server/discover")).result["capabilities"].keys()
        assert (await ask(caller, "tasks/get", "A" * 60)).code == -32601
        # What a client of the other era would say of a task means nothing, and does not reach the backend.
        reply = await caller.ask("tools/call", name="echo", arguments={"text": "hi"}, task={"ttl": 1})
        assert reply.text == "hi"
        assert "task" not in jobs.backend.calls[-1]["params"]


async def test_who_asks_for_no_task_is_given_what_the_backend_says() -> None:
    task = {"taskId": "mine", "status": "working", "createdAt": "now", "lastUpdatedAt": "now", "ttl": None}
    said = {**text("t"), "task": task, "_meta": {RELATED: {"taskId": "mine"}}}

    async def odd(call: Call) -> Outcome:
        return said

    jobs = Jobs(era="handshake", tools={"odd": odd})
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        await caller.initialize()
        assert (await caller.call("odd", task="no task")).result == said


async def test_only_the_latest_handshake_revision_is_told_of_tasks() -> None:
    jobs = Jobs(era="handshake")
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        assert "tasks" not in (await caller.initialize("2025-06-18")).result["capabilities"]


@pytest.mark.parametrize("makes", [True, False])
async def test_tools_say_that_they_make_tasks_where_their_backend_does(makes: bool) -> None:
    said = {"execution": {"taskSupport": "optional"}}
    makes_none = Backend(era="handshake", tools={"echo": echo}, extras={"echo": said})
    jobs = Jobs(era="handshake", extras={"job": said})
    backends = [jobs.backend, makes_none] if makes else [makes_none]
    async with proxied(*backends) as port, Caller(port) as caller:
        await caller.initialize()
        listed = {each["name"]: each for each in (await caller.ask("tools/list")).result["tools"]}
        assert "execution" not in listed["echo"]
        assert not makes or listed["job"]["execution"] == said["execution"]
