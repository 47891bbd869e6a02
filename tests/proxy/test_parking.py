"""Stateless clients asked by handshake backends, over sockets: rounds, tokens that do not hold, clients that leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests import validity
from tests.in_process import configured, running
from tests.mcp_backend import Backend, Call, Fault, Outcome, text
from tests.mcp_caller import STATELESS, Caller, Reply, stateless
from tests.proxy.asked import (
    FORM,
    SAMPLE,
    SAMPLED,
    URL,
    answer_of,
    answered,
    ask,
    asking,
    asks_of,
    call,
    elicit,
    said,
    tool_calls,
    wanting,
)
from tests.proxy.test_pipeline_callers import AUTH, token

from only1mcp.config.schema import Auth
from only1mcp.process.worker import Worker
from only1mcp.proxy.auth import LEEWAY_S


@asynccontextmanager
async def proxy_of(backend: Backend, auth: Auth | None = None) -> AsyncIterator[tuple[Worker, int]]:
    """Serve the backend, and see that nothing is left of any call."""
    async with backend, running(configured(backend, auth=auth)) as worker:
        assert worker.listener is not None
        yield worker, worker.listener.port
        lot: Any = worker.desk.lot
        assert (len(lot), lot.kept_bytes, dict(lot._held)) == (0, 0, {})
        assert worker.registry.endpoints["b0"].in_flight == 0
        assert not worker.pipeline._forwarder._tasks
        assert worker.pipeline._in_flight == 0


@pytest.mark.parametrize(
    ("tool", "method", "params", "outcome"),
    [
        ("elicit", "elicitation/create", FORM, "accept Ann"),
        ("sample", "sampling/createMessage", SAMPLE, "hello"),
        ("roots", "roots/list", None, "file:///home"),
    ],
)
async def test_a_call_that_asks_is_parked_and_goes_on(
    tool: str, method: str, params: dict[str, Any] | None, outcome: str
) -> None:
    backend = asking()
    async with proxy_of(backend) as (worker, port), Caller(port) as caller:
        first = await call(caller, tool)
        assert (first.status, first.streamed) == (200, False)
        assert asks_of(first) == {"input-1": {"method": method} | ({} if params is None else {"params": params})}
        assert first.result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "fake"
        # Nothing counts as being in flight while its client is away, and the connection serves others.
        assert (len(worker.desk.lot), worker.pipeline._in_flight) == (1, 0)  # type: ignore[arg-type]
        second = await call(caller, tool, **answered(first))
        assert (second.text, second.result["resultType"]) == (outcome, "complete")
        assert len(tool_calls(backend)) == 1


@pytest.mark.parametrize(("action", "outcome"), [("decline", "decline None"), ("cancel", "cancel None")])
async def test_what_the_user_does_not_want_reaches_the_backend(action: str, outcome: str) -> None:
    async with proxy_of(asking()) as (_, port), Caller(port) as caller:
        first = await call(caller, "elicit")
        assert (await call(caller, "elicit", **answered(first, **{"input-1": {"action": action}}))).text == outcome


async def test_an_url_is_asked_without_the_id_of_the_other_era() -> None:
    async def login(call: Call) -> Outcome:
        return text((await ask(call, "u", "elicitation/create", URL))["result"]["action"])

    async with proxy_of(asking(login=login)) as (_, port), Caller(port) as caller:
        first = await call(caller, "login")
        (asked,) = asks_of(first).values()
        assert asked["params"] == {"mode": "url", "message": "log in", "url": "https://login.example/"}
        answers = {"input-1": {"action": "accept"}}
        assert (await call(caller, "login", **answered(first, **answers))).text == "accept"


async def test_what_is_asked_at_once_is_one_round() -> None:
    async with proxy_of(asking()) as (_, port), Caller(port) as caller:
        first = await call(caller, "all_at_once")
        assert sorted(each["method"] for each in asks_of(first).values()) == [
            "elicitation/create",
            "roots/list",
            "sampling/createMessage",
        ]
        assert (await call(caller, "all_at_once", **answered(first))).text == "action role roots"


async def test_one_round_after_the_other() -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "twice")
        second = await call(caller, "twice", **answered(first))
        assert asks_of(first).keys().isdisjoint(asks_of(second))
        assert first.result["requestState"] != second.result["requestState"]
        # The state of the first round was good for one retry, and a second use disturbs nothing.
        await refused(caller, "twice", **answered(first))
        assert (await call(caller, "twice", **answered(second))).text == "Ann file:///home"
        assert len(tool_calls(backend)) == 1


async def test_prompts_and_resources_ask_too() -> None:
    async def prompt(call: Call) -> Outcome:
        name = (await ask(call, "p", "elicitation/create", FORM))["result"]["content"]["name"]
        return {"messages": [{"role": "user", "content": {"type": "text", "text": name}}]}

    async def resource(call: Call) -> Outcome:
        name = (await ask(call, "r", "elicitation/create", FORM))["result"]["content"]["name"]
        return {"contents": [{"uri": "test://one", "text": name}]}

    backend = asking()
    backend.prompts = [{"name": "who"}]
    backend.resources = [{"uri": "test://one", "name": "one"}]
    backend.scripts = {"prompts/get": prompt, "resources/read": resource}
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        for method, params in (("prompts/get", {"name": "who"}), ("resources/read", {"uri": "test://one"})):
            meta = wanting("x")[0]["params"]["_meta"]
            first = await caller.send(*stateless(method, meta=meta, **params))
            validity.check(first.response, STATELESS, method)
            second = await caller.send(*stateless(method, meta=meta, **params, **answered(first)))
            validity.check(second.response, STATELESS, method)
            assert "Ann" in second.body.decode()


async def test_progress_before_and_after_each_with_its_own_token() -> None:
    async def busy(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        outcome = await elicit(call)
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 2})
        return outcome

    async with proxy_of(asking(busy=busy)) as (_, port), Caller(port) as caller:
        first = await call(caller, "busy", meta={"progressToken": "one"})
        assert first.streamed
        assert [each["params"]["progressToken"] for each in first.messages[:-1]] == ["one"]
        second = await call(caller, "busy", meta={"progressToken": 2}, **answered(first))
        assert [each["params"]["progressToken"] for each in second.messages[:-1]] == [2]
        assert second.text == "accept Ann"


# What does not hold.


async def refused(caller: Caller, tool: str, **how: Any) -> Reply:
    reply = await call(caller, tool, **how)
    assert (reply.status, reply.code) == (400, -32602), reply.body
    return reply


async def test_a_state_of_another_process_is_refused() -> None:
    """The call is where the connection to its backend is: nobody else can go on with it."""
    async with proxy_of(asking()) as (worker, port), Caller(port) as caller:
        first = await call(caller, "elicit")
        lot: Any = worker.desk.lot
        lot._worker = 1
        reply = await refused(caller, "elicit", **answered(first))
        assert "its call is over" in reply.error["message"]
        lot._worker = 0
        assert (await call(caller, "elicit", **answered(first))).text == "accept Ann"


def tampered(state: str) -> list[str]:
    flipped = ("A" if state[20] != "A" else "B").join((state[:20], state[21:]))
    return [f"{state}-TAMPERED", f"{state}=", state[:-1], flipped, state[::-1], "", "x" * 100, "x" * 10_000]


async def test_a_state_that_is_not_ours_is_refused_and_costs_nothing() -> None:
    async with proxy_of(asking()) as (_, port), Caller(port) as caller:
        first = await call(caller, "elicit")
        retry = answered(first)
        for state in tampered(retry["requestState"]):
            await refused(caller, "elicit", **{**retry, "requestState": state})
        assert (await call(caller, "elicit", **retry)).text == "accept Ann"


async def test_a_state_is_good_once() -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        retry = answered(await call(caller, "elicit"))
        assert (await call(caller, "elicit", **retry)).text == "accept Ann"
        assert "used already" in (await refused(caller, "elicit", **retry)).error["message"]
        assert len(tool_calls(backend)) == 1


async def test_a_state_is_good_once_while_its_call_goes_on() -> None:
    async def slow(call: Call) -> Outcome:
        outcome = await elicit(call)
        await call.backend.hold(call)
        return outcome

    backend = asking(slow=slow)
    async with proxy_of(backend) as (_, port), Caller(port) as caller, Caller(port) as other:
        retry = answered(await call(caller, "slow"))
        going = asyncio.ensure_future(call(caller, "slow", **retry))
        await backend.holding.wait()
        await refused(other, "slow", **retry)
        backend.release.set()
        assert (await going).text == "accept Ann"


async def test_a_state_is_its_principals_alone() -> None:
    async with (
        proxy_of(asking(), auth=AUTH) as (_, port),
        Caller(port, x_api_key="ann-key") as ann,
        Caller(port, x_api_key="bob-key") as bob,
    ):
        retry = answered(await call(ann, "elicit"))
        await refused(bob, "elicit", **retry)
        assert (await call(ann, "elicit", **retry)).text == "accept Ann"


async def test_a_state_is_its_requests_alone() -> None:
    async with proxy_of(asking()) as (_, port), Caller(port) as caller:
        retry = answered(await call(caller, "elicit", arguments={"x": 1}))
        await refused(caller, "elicit", arguments={"x": 2}, **retry)
        await refused(caller, "elicit", **retry)
        await refused(caller, "sample", arguments={"x": 1}, **retry)
        assert (await call(caller, "elicit", arguments={"x": 1}, **retry)).text == "accept Ann"


async def test_answers_of_another_shape_are_refused_before_the_state_is_used() -> None:
    async with proxy_of(asking()) as (_, port), Caller(port) as caller:
        retry = answered(await call(caller, "elicit"))
        await refused(caller, "elicit", **{**retry, "inputResponses": {"input-1": "Ann"}})
        await refused(caller, "elicit", **{**retry, "inputResponses": []})
        assert (await call(caller, "elicit", **retry)).text == "accept Ann"


MANY = {f"{number:x}": {} for number in range(17_000)}


@pytest.mark.parametrize(
    "more",
    [
        {"task": {}, **MANY},
        {"requestState": "x", **MANY},
        {"requestState": "x", "inputResponses": MANY},
        {"inputResponses": {}, **MANY},
    ],
)
async def test_what_costs_too_much_to_look_into_is_refused(more: dict[str, Any]) -> None:
    """Ten megabytes of it were five seconds in which nobody else was served."""
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        reply = await call(caller, "elicit", **more)
        assert (reply.status, reply.code) == (400, -32600)
        assert "more than" in reply.error["message"]
        assert not tool_calls(backend)


async def test_answers_without_a_state_begin_anew() -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "elicit", inputResponses={"input-1": {"action": "accept"}})
        assert "inputResponses" not in tool_calls(backend)[0]["params"]
        assert (await call(caller, "elicit", **answered(first))).text == "accept Ann"


# Keys.


async def test_what_is_not_answered_is_asked_again_without_the_backend() -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "elicit")
        before = len(backend.received)
        retry = answered(first)
        second = await call(caller, "elicit", **{**retry, "inputResponses": {"another": {"action": "accept"}}})
        assert asks_of(second) == asks_of(first)
        assert len(backend.received) == before
        await refused(caller, "elicit", **retry)
        third = await call(caller, "elicit", requestState=second.result["requestState"])
        assert (await call(caller, "elicit", **answered(third))).text == "accept Ann"


async def test_some_answers_now_and_some_later() -> None:
    async with proxy_of(asking()) as (_, port), Caller(port) as caller:
        first = await call(caller, "all_at_once")
        (sampling,) = [key for key, each in asks_of(first).items() if each["method"].startswith("sampling")]
        state = first.result["requestState"]
        second = await call(caller, "all_at_once", requestState=state, inputResponses={sampling: SAMPLED})
        assert asks_of(second) == {key: each for key, each in asks_of(first).items() if key != sampling}
        assert (await call(caller, "all_at_once", **answered(second))).text == "action role roots"


async def test_keys_that_nobody_asked_for_reach_nobody() -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "elicit")
        extra = {"input-2": SAMPLED, "its-own": {"action": "decline"}}
        assert (await call(caller, "elicit", **answered(first, **extra))).text == "accept Ann"
        assert len([message for message in backend.received if "result" in message]) == 1


# Comings and goings.


async def test_a_client_may_leave_while_its_call_is_parked_and_come_back_elsewhere() -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port):
        async with Caller(port) as caller:
            first = await call(caller, "elicit")
            caller.vanish()
        async with Caller(port) as caller:
            assert (await call(caller, "elicit", **answered(first))).text == "accept Ann"
        assert backend.abandoned == []


async def test_a_client_that_leaves_after_its_retry_cancels_the_call() -> None:
    async def slow(call: Call) -> Outcome:
        await elicit(call)
        return await call.backend.hold(call)

    backend = asking(slow=slow)
    async with proxy_of(backend) as (_, port):
        async with Caller(port) as caller:
            message, fields = wanting("slow", **answered(await call(caller, "slow")))
            caller.write(message, fields)
            await backend.holding.wait()
            caller.vanish()
        await backend.gone.wait()
        cancelled = await said(backend, "notifications/cancelled")
        assert cancelled["params"]["requestId"] == tool_calls(backend)[0]["id"]


async def test_a_backend_that_dies_while_the_call_is_parked() -> None:
    async def dying(call: Call) -> Outcome:
        await call.say(id=1, method="elicitation/create", params=FORM)
        await call.backend.release.wait()
        return b"garbage"

    backend = asking(dying=dying)
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "dying")
        backend.release.set()
        reply = await call(caller, "dying", **answered(first))
        assert reply.code == -31007
        assert len(tool_calls(backend)) == 1


async def test_a_stop_gives_up_what_is_parked() -> None:
    backend = asking()
    async with backend:
        async with running(configured(backend)) as worker:
            assert worker.listener is not None
            async with Caller(worker.listener.port) as caller:
                await call(caller, "elicit")
        assert len(worker.desk.lot) == 0  # type: ignore[arg-type]
        await backend.gone.wait()
        assert backend.abandoned == ["elicit"]


# What clients cannot be asked.


@pytest.mark.parametrize(
    ("tool", "capabilities", "code", "required"),
    [
        ("elicit", {}, -32601, {"elicitation": {}}),
        ("elicit", {"elicitation": {"url": {}}}, -32602, {"elicitation": {}}),
        ("sample", {"elicitation": {}}, -32601, {"sampling": {}}),
    ],
)
async def test_what_was_not_declared_is_named(
    tool: str, capabilities: dict[str, Any], code: int, required: dict[str, Any]
) -> None:
    backend = asking()
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        reply = await call(caller, tool, capabilities=capabilities)
        assert (reply.status, reply.code) == (400, -32021)
        assert reply.error["data"] == {"requiredCapabilities": required}
        (answer,) = [message for message in backend.received if "error" in message]
        assert answer["error"]["code"] == code


async def test_a_tool_that_can_do_without_does() -> None:
    async def modest(call: Call) -> Outcome:
        message = await ask(call, "m", "sampling/createMessage", SAMPLE)
        return text("without" if "error" in message else "with")

    async with proxy_of(asking(modest=modest)) as (_, port), Caller(port) as caller:
        assert (await call(caller, "modest", capabilities={})).text == "without"


@pytest.mark.unchecked("there is no such mode")
@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tasks/list", {}, -32601),
        ("elicitation/create", None, -32602),
        ("elicitation/create", {**FORM, "mode": "hologram", "a": 1}, None),
    ],
)
async def test_what_nobody_can_be_asked(method: str, params: dict[str, Any] | None, code: int | None) -> None:
    async def odd(call: Call) -> Outcome:
        await call.say(id=9, method=method, **({} if params is None else {"params": params}))
        message = await answer_of(call.backend, 9)
        return text(str(message.get("error", {}).get("code")))

    async with proxy_of(asking(odd=odd)) as (_, port), Caller(port) as caller:
        reply = await caller.send(*wanting("odd"))
        if code is None:  # modes that we do not know are the client's to judge
            reply = await caller.send(*wanting("odd", **answered(reply)))
        assert reply.text == str(code)


# Logins that the handshake era asks for by an error.


async def needs_login(call: Call) -> Outcome:
    if not call.backend.release.is_set():
        raise Fault(code=-32042, message="log in first", data={"elicitations": [URL]})
    return text("welcome")


async def test_an_url_that_a_call_needs_is_asked_and_the_call_made_again() -> None:
    backend = asking(needs_login=needs_login)
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "needs_login")
        (asked,) = asks_of(first).values()
        assert asked["params"] == {"mode": "url", "message": "log in", "url": "https://login.example/"}
        retry = answered(first, **{"input-1": {"action": "accept"}})
        second = await call(caller, "needs_login", requestState=retry["requestState"])
        assert (asks_of(second), len(tool_calls(backend))) == (asks_of(first), 1)
        await refused(caller, "needs_login", **retry)
        backend.release.set()
        retry["requestState"] = second.result["requestState"]
        await refused(caller, "needs_login", arguments={"x": 1}, **retry)
        assert (await call(caller, "needs_login", **retry)).text == "welcome"
        assert tool_calls(backend)[1]["params"] == {"name": "needs_login", "arguments": {}, "_meta": {}}
        await refused(caller, "needs_login", **retry)


async def test_an_url_that_is_declined_ends_the_call() -> None:
    backend = asking(needs_login=needs_login)
    async with proxy_of(backend) as (_, port), Caller(port) as caller:
        first = await call(caller, "needs_login")
        reply = await call(caller, "needs_login", **answered(first, **{"input-1": {"action": "decline"}}))
        assert (reply.status, reply.code, len(tool_calls(backend))) == (200, -32603, 1)


async def test_an_url_that_the_client_cannot_open() -> None:
    async with proxy_of(asking(needs_login=needs_login)) as (_, port), Caller(port) as caller:
        reply = await call(caller, "needs_login", capabilities={"elicitation": {}})
        assert (reply.status, reply.code) == (400, -32021)
        assert reply.error["data"] == {"requiredCapabilities": {"elicitation": {"url": {}}}}


async def test_a_call_goes_on_for_a_newer_token_of_the_same_principal_and_for_no_older() -> None:
    async with proxy_of(asking(), AUTH) as (_, port), Caller(port) as caller:
        short = {"authorization": f"Bearer {token(exp=time.time() - LEEWAY_S + 1.0)}"}
        message, fields = wanting("elicit")
        first = await caller.send(message, {**fields, **short})
        retry, fields = wanting("elicit", **answered(first))
        while (reply := await caller.send(retry | {"method": "server/discover"}, {**fields, **short})).status != 401:
            assert reply.status == 400  # its headers name the call
        assert (await caller.send(retry, {**fields, **short})).status == 401
        assert (await caller.send(retry, {**fields, "authorization": f"Bearer {token()}"})).text == "accept Ann"
