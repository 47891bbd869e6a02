"""Backends that mirror other arguments than they did: the call is made again with the headers they want now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import Backend, Call, Fault, Outcome, text
from tests.mcp_caller import Caller, request

from only1mcp.config.schema import Cache, CachedItem
from only1mcp.proxy import remirror

ERAS = pytest.mark.parametrize("client", ["stateless", "handshake"])
PLAIN: dict[str, Any] = {"type": "object", "properties": {"region": {"type": "string"}}}


def mirrored(header: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": header}}}


@dataclass
class Slow(Backend):
    """Lists its tools when it is let go, where it is slow."""

    slow: bool = False

    async def _result(self, call: Call) -> Outcome:
        if self.slow and call.message["method"] == "tools/list":
            await self.hold(call)
        return await super()._result(call)


class Strict:
    """A backend whose tool wants its argument mirrored under `header`, and says so in its list or not."""

    def __init__(self, header: str | None = None, **more: Any) -> None:
        self.header = header
        self.ran = 0
        self.backend = Slow(tools={"run": self.run}, **more)
        self.change(header)

    def change(self, header: str | None, *, listed: bool = True) -> None:
        self.header = header
        if listed:
            self.backend.schemas["run"] = PLAIN if header is None else mirrored(header)

    async def run(self, call: Call) -> Outcome:
        sent = {name: value for name, value in call.headers.items() if name.startswith("mcp-param-")}
        wanted = {} if self.header is None else {f"mcp-param-{self.header.lower()}": call.arguments["region"]}
        if sent != wanted:
            raise Fault(code=-32020, message=f"wanted {sorted(wanted)}", data={"secret": "inside"})
        self.ran += 1
        return text(f"ran {self.ran}")

    @property
    def calls(self) -> int:
        return len(self.backend.calls)

    @property
    def readings(self) -> int:
        return len([each for each in self.backend.received if each["method"] == "tools/list"])


@ERAS
async def test_a_changed_annotation_costs_one_more_call(client: str) -> None:
    strict = Strict()
    async with proxied(strict.backend) as port, Caller(port) as caller:
        if client == "handshake":
            await caller.initialize()
        assert (await caller.call("run", region="eu")).text == "ran 1"
        strict.change("Region")
        assert (await caller.call("run", region="eu")).text == "ran 2"
        assert (strict.calls, strict.readings) == (3, 2)
        if client == "stateless":
            return  # it now has to send the header itself
        assert (await caller.call("run", region="eu")).text == "ran 3"
        strict.change("Place")
        assert (await caller.call("run", region="eu")).text == "ran 4"
        strict.change(None)
        assert (await caller.call("run", region="eu")).text == "ran 5"
        assert (strict.calls, strict.readings) == (8, 4)


@ERAS
async def test_a_call_like_many_before_it(client: str) -> None:
    strict = Strict()
    async with proxied(strict.backend) as port, Caller(port) as caller:
        if client == "handshake":
            await caller.initialize()
        for number in range(1, 7):
            assert (await caller.call("run", region="eu")).text == f"ran {number}"
        strict.change("Region")
        assert (await caller.call("run", region="eu")).text == "ran 7"


async def test_a_stateless_client_sends_the_header_as_soon_as_it_can_know_of_it() -> None:
    strict = Strict()
    async with proxied(strict.backend) as port, Caller(port) as caller, Caller(port, mcp_param_region="eu") as aware:
        strict.change("Region")
        assert (await caller.call("run", region="eu")).text == "ran 1"
        (tool,) = (await caller.ask("tools/list")).result["tools"]
        assert tool["inputSchema"] == mirrored("Region")
        assert (await caller.call("run", region="eu")).code == -32020
        assert (await aware.call("run", region="eu")).text == "ran 2"


@ERAS
@pytest.mark.parametrize("lie", ["the list is the same", "another header than listed", "no longer listed", "not valid"])
async def test_no_client_hears_of_headers_that_are_not_its_own(client: str, lie: str) -> None:
    strict = Strict()
    async with proxied(strict.backend) as port, Caller(port) as caller:
        if client == "handshake":
            await caller.initialize()
        strict.change("Region", listed=False)
        if lie == "another header than listed":
            strict.backend.schemas["run"] = mirrored("Other")
        elif lie == "not valid":
            strict.backend.schemas["run"] = mirrored("not a token")
        elif lie == "no longer listed":
            strict.backend.tools["other"] = strict.backend.tools["run"]
            strict.backend.extras["run"] = {"name": "renamed"}
        reply = await caller.call("run", region="eu")
        assert (reply.status, reply.code) == (200, -32603)
        assert "secret" not in str(reply.error)
        assert (strict.ran, strict.calls) == (0, 2 if lie == "another header than listed" else 1)


async def test_calls_that_are_refused_together_have_the_tools_read_once() -> None:
    strict = Strict()
    async with proxied(strict.backend) as port, asyncio.TaskGroup() as group:
        strict.change("Region")

        async def one() -> str:
            async with Caller(port) as caller:
                await caller.initialize()
                return (await caller.call("run", region="eu")).text

        calls = [group.create_task(one()) for _ in range(5)]
        assert sorted([await each for each in calls]) == [f"ran {number}" for number in range(1, 6)]
        assert strict.readings <= 3


async def test_a_call_that_has_said_something_is_not_made_again() -> None:
    strict = Strict()

    async def say(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        raise Fault(code=-32020, message="too late")

    strict.backend.tools["run"] = say
    async with proxied(strict.backend) as port, Caller(port) as caller:
        strict.change("Region")
        reply = await caller.call("run", meta={"progressToken": 1}, region="eu")
        assert (reply.code, strict.calls) == (-32603, 1)


async def test_a_call_whose_result_may_be_kept() -> None:
    strict = Strict(annotations={"run": {"readOnlyHint": True}})
    cache = Cache(tools={"run": CachedItem(ttl_seconds=60)})
    async with proxied(strict.backend, cache=cache) as port, Caller(port) as caller:
        await caller.initialize()
        strict.change("Region")
        assert (await caller.call("run", region="eu")).text == "ran 1"


async def test_who_waits_for_the_tools_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remirror, "WAIT_S", 0.2)
    strict = Strict()
    async with proxied(strict.backend) as port, Caller(port) as caller:
        await caller.initialize()
        strict.change("Region")
        strict.backend.slow = True
        assert (await caller.call("run", region="eu")).code == -32603
        strict.backend.release.set()


async def test_the_client_leaves_while_the_tools_are_read() -> None:
    strict = Strict()
    async with strict.backend, running(configured(strict.backend)) as worker:
        assert worker.listener is not None
        async with Caller(worker.listener.port) as caller:
            await caller.initialize()
            strict.change("Region")
            strict.backend.slow = True
            caller.write(
                request("tools/call", name="run", arguments={"region": "eu"}),
                {"mcp-session-id": caller.session, "mcp-protocol-version": "2025-11-25"},
            )
            async with asyncio.timeout(20):
                await strict.backend.holding.wait()
                caller.vanish()
                (task,) = worker.pipeline._forwarder._tasks
                await asyncio.wait([task])
            assert task.cancelled()
        strict.backend.release.set()
        async with Caller(worker.listener.port) as other:
            await other.initialize()
            assert (await other.call("run", region="eu")).text == "ran 1"
