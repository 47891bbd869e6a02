"""Sessions with a child of their own: levels, subscriptions and roots go there, and what it says comes back to them."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.in_process import running
from tests.mcp_caller import HANDSHAKE, Caller, request
from tests.process.test_changes import attached, listening

from only1mcp.config.schema import BackendConfig, Config, Instances, Metrics, Proxy
from only1mcp.process.worker import Worker

CHILD = Path(__file__).parents[1] / "fixtures" / "own_child.py"
URI = "memo:///one"


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    own = Instances(mode="per_session", max=4, idle_seconds=300.0)
    entry = BackendConfig(id="own", transport="stdio", command=sys.executable, args=(str(CHILD),), instances=own)
    config = Config(version="1.0", proxy=Proxy(port=0), metrics=Metrics(enabled=False), servers=(entry,))
    async with running(config) as worker:
        yield worker
    assert not worker.registry._exclusive[0]._owned


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


async def state_of(caller: Caller) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((await caller.call("state")).text)
    return state


async def opened(caller: Caller) -> str:
    await caller.initialize()
    assert caller.session is not None
    return caller.session


async def test_each_child_is_told_the_level_of_its_own_session(worker: Worker) -> None:
    port = port_of(worker)
    async with Caller(port) as one, Caller(port) as other, Caller(port) as third:
        for caller in (one, other, third):
            await opened(caller)
        # Before its child runs, and while it does.
        assert (await one.ask("logging/setLevel", level="error")).result == {}
        assert (await state_of(one))["level"] == "error"
        assert (await state_of(other))["level"] is None
        assert (await other.ask("logging/setLevel", level="debug")).result == {}
        assert [(await state_of(each))["level"] for each in (one, other, third)] == ["error", "debug", None]


async def test_what_a_child_says_between_calls_reaches_its_session_alone(worker: Worker) -> None:
    port = port_of(worker)
    async with Caller(port) as one, Caller(port) as other, Caller(port) as first, Caller(port) as second:
        mine, foreign = await attached(first, await opened(one)), await attached(second, await opened(other))
        await one.ask("logging/setLevel", level="warning")
        for caller in (one, other):
            assert (await caller.ask("resources/subscribe", uri=URI)).result == {}
        assert (await state_of(one))["uris"] == (await state_of(other))["uris"] == [URI]
        await one.call("touch")
        heard = [await mine.next(), await mine.next()]
        assert {each["method"] for each in heard} == {"notifications/resources/updated", "notifications/message"}
        assert [each["params"]["data"] for each in heard if "data" in each["params"]] == ["error"]
        # The first that the other session hears is of its own child; it has set no level.
        assert (await other.ask("resources/unsubscribe", uri=URI)).result == {}
        await other.call("touch")
        assert [(await foreign.next())["params"]["level"] for _ in range(2)] == ["debug", "error"]
        assert (await state_of(other))["uris"] == []
        assert (await state_of(one))["uris"] == [URI]


async def test_a_child_that_is_started_anew_is_told_again(worker: Worker) -> None:
    port = port_of(worker)
    async with Caller(port) as one, Caller(port) as reader:
        stream = await attached(reader, await opened(one))
        await one.ask("logging/setLevel", level="notice")
        await one.ask("resources/subscribe", uri=URI)
        await one.call("die")
        state = await state_of(one)
        assert (state["level"], state["uris"]) == ("notice", [URI])
        # What has happened to the resource meanwhile nobody knows.
        assert (await stream.next())["params"] == {"uri": URI}


async def test_a_session_that_ends_leaves_nothing(worker: Worker) -> None:
    async with Caller(port_of(worker)) as one:
        session = await opened(one)
        await one.ask("resources/subscribe", uri=URI)
        endpoint = worker.registry._exclusive[0]
        assert (len(endpoint._owned), len(endpoint.instances)) == (1, 1)
        fields = {"mcp-session-id": session, "mcp-protocol-version": HANDSHAKE}
        assert (await one.send(b"", fields, method="DELETE")).status == 204
        assert (len(endpoint._owned), len(endpoint.instances), len(worker.desk.hub)) == (0, 0, 0)  # type: ignore[arg-type]


async def test_other_roots_are_told_to_the_sessions_child_alone(worker: Worker) -> None:
    port = port_of(worker)
    changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    async with Caller(port) as one, Caller(port) as other:
        for caller in (one, other):
            await opened(caller)
        assert (await one.in_session(changed)).status == 202  # nobody is there yet who could be told
        assert (await state_of(one))["declared"]["roots"] == {"listChanged": True}
        await state_of(other)
        assert (await one.in_session(changed)).status == 202
        await one.in_session(request("ping"))
        assert (await state_of(one))["roots"] == 1
        assert (await state_of(other))["roots"] == 0


async def test_a_stateless_client_listens_to_the_child_of_its_principal(worker: Worker) -> None:
    port = port_of(worker)
    async with Caller(port) as listener, Caller(port) as caller, Caller(port) as session:
        await opened(session)
        stream = await listening(listener, resourceSubscriptions=[URI])
        assert (await stream.next())["params"]["notifications"] == {"resourceSubscriptions": [URI]}
        await session.ask("resources/subscribe", uri=URI)
        await session.call("touch")
        await caller.call("touch")
        assert (await stream.next())["params"]["uri"] == URI
        assert len(worker.registry._exclusive[0]._owned) == 2
