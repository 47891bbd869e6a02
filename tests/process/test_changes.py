"""What changes at a backend of either era reaches clients of both, through the whole proxy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests import validity
from tests.in_process import configured, proxied, running
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, STATELESS, Caller, stateless

from only1mcp.process.worker import Worker

PROMPT_S = 20.0
URI = "test://one"
ERAS = pytest.mark.parametrize("era", ["stateless", "handshake"])


class Stream:
    """The messages of a response that goes on."""

    def __init__(self, caller: Caller, revision: str, method: str = "subscriptions/listen") -> None:
        self._caller = caller
        self._revision = revision
        self._method = method
        self._rest = b""
        self.ids: list[str] = []

    async def next(self) -> Any:
        """Return the next message, None at the end of the stream."""
        async with asyncio.timeout(PROMPT_S):
            while True:
                event, end, rest = self._rest.partition(b"\n\n")
                if not end:
                    chunk = await self._caller.chunk()
                    if not chunk:
                        return None
                    self._rest += chunk
                    continue
                self._rest = rest
                fields = dict(line.split(": ", 1) for line in event.decode().split("\n") if not line.startswith(":"))
                if "id" in fields:
                    self.ids.append(fields["id"])
                if fields.get("data"):
                    message = json.loads(fields["data"])
                    validity.check(message, self._revision, self._method)
                    return message


async def listening(caller: Caller, **wanted: Any) -> Stream:
    caller.write(*stateless("subscriptions/listen", id="mine", notifications=wanted))
    status, headers = await caller.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    return Stream(caller, STATELESS)


async def attached(caller: Caller, session: str, last: str | None = None) -> Stream:
    fields = {"mcp-session-id": session, "mcp-protocol-version": HANDSHAKE, "accept": "text/event-stream"}
    caller.write(b"", {**fields, "last-event-id": last, "content-length": None, "content-type": None}, method="GET")
    status, headers = await caller.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    return Stream(caller, HANDSHAKE)


async def grow(call: Call) -> Outcome:
    call.backend.tools[f"new{len(call.backend.tools)}"] = echo
    await call.say(method="notifications/tools/list_changed")
    return text("grown")


@ERAS
async def test_lists(era: str) -> None:
    backend = Backend(era=era, tools={"grow": grow})
    async with proxied(backend) as port, Caller(port) as one, Caller(port) as other, Caller(port) as caller:
        await caller.initialize()
        assert caller.session is not None
        listen, session = await listening(one, toolsListChanged=True), await attached(other, caller.session)
        ack = await listen.next()
        assert ack["params"]["notifications"] == {"toolsListChanged": True}
        await caller.call("grow")
        stamp = {"_meta": {"io.modelcontextprotocol/subscriptionId": "mine"}}
        told = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        assert await listen.next() == {**told, "params": stamp}
        assert await session.next() == told
        assert len((await caller.ask("tools/list")).result["tools"]) == 2
        # The client goes, and hears of what it has missed when it comes back.
        other.vanish()
        await caller.call("grow")
        assert await listen.next() == {**told, "params": stamp}
        async with Caller(port) as again:
            assert await (await attached(again, caller.session, session.ids[-1])).next() == told


@ERAS
async def test_resources(era: str) -> None:
    touched, asked = asyncio.Event(), []

    async def touch(call: Call) -> Outcome:
        if era == "handshake":
            await call.say(method="notifications/resources/updated", params={"uri": URI})
        touched.set()
        return text("touched")

    async def subscribe(call: Call) -> Outcome:
        asked.append((call.message["method"], call.params["uri"]))
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
    if era == "handshake":
        scripts = {"resources/subscribe": subscribe, "resources/unsubscribe": subscribe}
    backend = Backend(era=era, tools={"touch": touch}, resources=[{"uri": URI, "name": "one"}], scripts=scripts)
    async with proxied(backend) as port, Caller(port) as one, Caller(port) as other, Caller(port) as caller:
        await caller.initialize()
        assert caller.session is not None
        session = await attached(other, caller.session)
        assert (await caller.ask("resources/subscribe", uri=URI)).result == {}
        listening_to = await listening(one, resourceSubscriptions=[URI])
        assert (await listening_to.next())["params"]["notifications"] == {"resourceSubscriptions": [URI]}
        await caller.call("touch")
        assert (await session.next())["params"] == {"uri": URI}
        stamp = {"io.modelcontextprotocol/subscriptionId": "mine"}
        assert (await listening_to.next())["params"] == {"uri": URI, "_meta": stamp}
        if era == "handshake":
            assert asked == [("resources/subscribe", URI)]
        assert (await caller.ask("resources/unsubscribe", uri=URI)).result == {}


async def test_streams_end_in_order_when_the_proxy_stops() -> None:
    async with Backend(tools={"grow": grow}) as backend, running(configured(backend)) as worker:
        port = _port(worker)
        async with Caller(port) as one, Caller(port) as other, Caller(port) as caller:
            await caller.initialize()
            assert caller.session is not None
            listen, session = await listening(one, toolsListChanged=True), await attached(other, caller.session)
            await listen.next()
            await worker.stop(5.0)
            last = await listen.next()
            assert last["id"] == "mine"
            assert last["result"]["resultType"] == "complete"
            assert await listen.next() is None
            assert await session.next() is None


def _port(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port
