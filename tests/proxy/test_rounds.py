"""Handshake clients are asked what stateless backends want to know, round after round, until there is an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.in_process import configured, running
from tests.mcp_backend import STATELESS, Backend, Call, Outcome, text
from tests.mcp_caller import META
from tests.proxy.dialogue import ACCEPTED, EVERYTHING, FORM, ROOTS, SAMPLE, SAMPLED, Client, Curious

from only1mcp.proxy.asker import ClientAsker
from only1mcp.proxy.rounds import MAX_ROUNDS

WEB = {"mode": "url", "message": "Log in", "url": "https://x.example/"}
ASKS: list[tuple[str, dict[str, Any] | None, dict[str, Any]]] = [
    ("elicitation/create", FORM, ACCEPTED),
    ("elicitation/create", WEB, {"action": "accept"}),
    ("sampling/createMessage", SAMPLE, SAMPLED),
    ("roots/list", None, ROOTS),
]
Script = Callable[[Call], Awaitable[Outcome]]


def required(state: str | None = "s1", **asks: Any) -> dict[str, Any]:
    """Return an `input_required` result; `asks` maps keys to method and params."""
    result: dict[str, Any] = {"resultType": "input_required"}
    if asks:
        result["inputRequests"] = {
            key: {"method": method} | ({} if params is None else {"params": params})
            for key, (method, params) in asks.items()
        }
    return result if state is None else {**result, "requestState": state}


def rounds(*asked: dict[str, Any]) -> Script:
    """Return a tool that asks these, one after the other, and then tells what it was sent in the last round."""
    left = list(asked)

    async def tool(call: Call) -> Outcome:
        if left:
            return left.pop(0)
        return text(json.dumps({key: call.params.get(key) for key in ("inputResponses", "requestState")}))

    return tool


def curious(**tools: Script) -> Curious:
    return Curious(era=STATELESS, tools=tools)


async def told(client: Client) -> dict[str, Any]:
    answer = await client.hear()
    assert "result" in answer, answer
    sent: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])
    return sent


@pytest.mark.parametrize(("method", "params", "result"), ASKS)
async def test_a_client_is_asked_and_the_request_goes_out_again(
    method: str, params: dict[str, Any] | None, result: dict[str, Any]
) -> None:
    backend = curious(t=rounds(required(k=(method, params))))
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t", a=1.50)
        asked = await client.hear()
        shown = {key: value for key, value in asked.get("params", {}).items() if key != "elicitationId"}
        assert (asked["method"], shown) == (method, params or {})
        assert ("elicitationId" in asked.get("params", {})) is (params is WEB)
        await client.answer(asked, result)
        assert await told(client) == {"inputResponses": {"k": result}, "requestState": "s1"}
        await client.end()
        first, second = backend.calls
        assert first["id"] != second["id"]
        for key in ("inputResponses", "requestState"):
            del second["params"][key]
        assert second["params"] == first["params"]
        assert len(_asker(worker)) == 0


async def test_the_backend_is_told_whose_call_it_is() -> None:
    backend = curious(t=rounds())
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        await client.hear()
        meta = backend.calls[0]["params"]["_meta"]
        assert meta[f"{META}clientCapabilities"] == {
            "sampling": {"tools": {}},
            "elicitation": {"form": {}, "url": {}},
            "roots": {},
        }
        assert meta[f"{META}clientInfo"] == {"name": "t", "version": "1"}


async def test_several_rounds_with_several_asks_at_once() -> None:
    first = required("s1", f=("elicitation/create", FORM), r=("roots/list", None))
    tool = rounds(first, required(None, s=("sampling/createMessage", SAMPLE)))
    backend = curious(t=tool)
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t", meta={"progressToken": 5})
        form, roots = await client.hear(), await client.hear()
        await client.answer(roots, ROOTS)
        await client.answer(form, {"action": "decline"})
        await client.answer(await client.hear(), SAMPLED)
        # Without a state of the last answer there is none in the request, whatever there was before.
        assert await told(client) == {"inputResponses": {"s": SAMPLED}, "requestState": None}
        second = backend.calls[1]["params"]
        assert second["inputResponses"] == {"f": {"action": "decline"}, "r": ROOTS}
        assert second["requestState"] == "s1"
        assert len({each["id"] for each in backend.calls}) == 3


async def test_a_result_that_asks_nothing_is_asked_again_later() -> None:
    backend = curious(t=rounds(required("s1"), required("s2")))
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        assert await told(client) == {"inputResponses": None, "requestState": "s2"}


@pytest.mark.parametrize("method", ["prompts/get", "resources/read"])
async def test_prompts_and_resources_ask_as_well(method: str) -> None:
    results: dict[str, dict[str, Any]] = {
        "prompts/get": {"messages": []},
        "resources/read": {"contents": [], "ttlMs": 60_000, "cacheScope": "public"},
    }
    left = [required(k=("elicitation/create", FORM))]

    async def script(call: Call) -> Outcome:
        return left.pop() if left else results[method]

    backend = curious()
    backend.prompts, backend.resources = [{"name": "p"}], [{"name": "r", "uri": "x://r"}]
    backend.scripts[method] = script
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        for _ in range(2):
            # What came of one client's answer is not kept for the next, though the backend says that it may be.
            client.begin(method, **({"name": "p"} if method == "prompts/get" else {"uri": "x://r"}))
            await client.answer(await client.hear(), ACCEPTED)
            answer = await client.hear(method)
            assert "error" not in answer
            await client.end()
            left.append(required(k=("elicitation/create", FORM)))
        assert len(backend.calls) == 4


async def test_an_elicitation_that_fails_is_a_cancelled_one() -> None:
    backend = curious(t=rounds(required(k=("elicitation/create", FORM))))
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        await client.fail(await client.hear())
        assert (await told(client))["inputResponses"] == {"k": {"action": "cancel"}}


@pytest.mark.parametrize("ask", ASKS[2:])
async def test_a_request_that_cannot_go_on_fails_and_the_rest_is_withdrawn(ask: tuple[str, Any, Any]) -> None:
    backend = curious(t=rounds(required(f=("elicitation/create", FORM), k=ask[:2])))
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        call = client.call("t")
        form, asked = await client.hear(), await client.hear()
        await client.fail(asked)
        assert (await client.hear())["params"]["requestId"] == form["id"]
        failed = await client.hear()
        assert (failed["id"], failed["error"]["code"]) == (call, -32603)
        assert ask[0] in failed["error"]["message"]
        assert len(backend.calls) == 1
        assert len(_asker(worker)) == 0


@pytest.mark.parametrize(
    ("declared", "revision", "ask", "code"),
    [
        ({}, "2025-11-25", ASKS[0], None),
        ({"elicitation": {}}, "2025-11-25", ASKS[1], None),
        (EVERYTHING, "2025-06-18", ASKS[1], None),
        (EVERYTHING, "2025-03-26", ASKS[0], None),
        ({"elicitation": {}}, "2025-11-25", ASKS[2], -32603),
        ({}, "2024-11-05", ASKS[3], -32603),
    ],
)
async def test_what_a_client_has_not_declared_it_is_not_asked(
    declared: dict[str, Any], revision: str, ask: tuple[str, Any, Any], code: int | None
) -> None:
    backend = curious(t=rounds(required(k=ask[:2])))
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), declared, revision) as client,
    ):
        client.call("t")
        if code is None:
            assert (await told(client))["inputResponses"] == {"k": {"action": "cancel"}}
        else:
            assert (await client.hear())["error"]["code"] == code


async def test_a_backend_that_never_has_enough() -> None:
    async def tool(call: Call) -> Outcome:
        return required(k=("elicitation/create", FORM))

    backend = curious(t=tool)
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        for _ in range(MAX_ROUNDS):
            await client.answer(await client.hear(), ACCEPTED)
        failed = await client.hear()
        assert failed["error"]["code"] == -31007
        assert "10 rounds" in failed["error"]["message"]
        assert len(backend.calls) == MAX_ROUNDS + 1


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "input_required"},
        {"resultType": "input_required", "requestState": 7},
        {"resultType": "input_required", "inputRequests": {"k": {"method": "tools/call"}}},
        {"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list", "params": [1]}}},
        {"resultType": "input_required", "inputRequests": {str(n): {"method": "roots/list"} for n in range(33)}},
    ],
)
async def test_a_backend_that_breaks_the_rules(result: dict[str, Any]) -> None:
    async def tool(call: Call) -> Outcome:
        return result

    backend = curious(t=tool)
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        assert (await client.hear())["error"]["code"] == -31007
        assert len(backend.calls) == 1


async def test_a_client_cannot_answer_what_it_was_not_asked() -> None:
    backend = curious(t=rounds(required(k=("elicitation/create", FORM))))
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.begin("tools/call", name="t", requestState="mine")
        assert (await client.hear())["error"]["code"] == -32602
        assert len(_asker(worker)) == 0


async def test_a_client_cancels_while_it_is_asked() -> None:
    backend = curious(t=rounds(required(k=("elicitation/create", FORM))))
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        call = client.call("t")
        asked = await client.hear()
        await client.notify("notifications/cancelled", requestId=call)
        assert (await client.hear())["params"]["requestId"] == asked["id"]
        assert (await client.hear())["error"]["code"] == -32800
        await client.answer(asked, ACCEPTED)
        assert len(backend.calls) == 1
        assert len(_asker(worker)) == 0


async def test_a_client_vanishes_while_the_backend_works_on_its_answer() -> None:
    backend = curious()
    left = [required(k=("elicitation/create", FORM))]

    async def tool(call: Call) -> Outcome:
        return left.pop() if left else await backend.hold(call)

    backend.tools["t"] = tool
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), revision="2025-06-18") as client,  # whose streams cannot be resumed
    ):
        client.call("t")
        await client.answer(await client.hear(), ACCEPTED)
        await asyncio.wait_for(backend.holding.wait(), 20)
        client.stream.vanish()
        await asyncio.wait_for(backend.gone.wait(), 20)
        assert backend.abandoned == ["t"]
        assert len(_asker(worker)) == 0


async def test_a_client_vanishes_while_it_is_asked() -> None:
    backend = curious(t=rounds(required(k=("elicitation/create", FORM))))
    async with (
        backend,
        running(configured(backend)) as worker,
        Client.opened(_port(worker), revision="2025-06-18") as client,  # whose streams cannot be resumed
    ):
        client.call("t")
        asked = await client.hear()
        client.stream.vanish()
        asker = _asker(worker)
        for _ in range(1000):
            # Each turn takes what has arrived; the end of the connection is among it.
            await client.notify("notifications/progress", progressToken=asked["id"], progress=1)
            if not len(asker):
                break
        assert len(asker) == 0
        assert len(backend.calls) == 1


async def test_the_backend_is_gone_when_the_answer_comes() -> None:
    async def tool(call: Call) -> Outcome:
        if "inputResponses" in call.params:
            return b""
        return required(k=("elicitation/create", FORM))

    backend = curious(t=tool)
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.call("t")
        await client.answer(await client.hear(), ACCEPTED)
        assert (await client.hear())["error"]["code"] == -31007


async def test_the_next_round_goes_to_the_backend_that_has_asked() -> None:
    async def tool(call: Call) -> Outcome:
        if "inputResponses" in call.params:
            return text("done")
        return required(k=("elicitation/create", FORM))

    backends = [curious(t=tool), curious(t=tool)]
    async with backends[0], backends[1]:
        settings = configured(*backends, each={"group": "g"})
        async with running(settings) as worker, Client.opened(_port(worker)) as client:
            for _ in range(4):
                client.call("t")
                await client.answer(await client.hear(), ACCEPTED)
                assert (await client.hear())["result"] == text("done")
                await client.end()
            for backend in backends:
                kinds = ["inputResponses" in each["params"] for each in backend.calls]
                assert kinds == [False, True] * (len(kinds) // 2)


async def test_nothing_of_this_concerns_other_methods() -> None:
    async def complete(call: Call) -> Outcome:
        return required(k=("elicitation/create", FORM))

    backend = Backend(prompts=[{"name": "p"}], scripts={"completion/complete": complete})
    async with backend, running(configured(backend)) as worker, Client.opened(_port(worker)) as client:
        client.begin(
            "completion/complete", ref={"type": "ref/prompt", "name": "p"}, argument={"name": "a", "value": ""}
        )
        assert (await client.hear("completion/complete"))["error"]["code"] == -31007


def _port(worker: Any) -> int:
    port: int = worker.listener.port
    return port


def _asker(worker: Any) -> ClientAsker:
    asker = worker.desk.asker
    assert isinstance(asker, ClientAsker)
    return asker
