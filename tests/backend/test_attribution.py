"""Requests of children: each reaches the one client whose call it belongs to, or is refused; never anybody else."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from tests.backend.test_stdio import Backend, both_loops, child, fields_of
from tests.backend.test_stdio_lane import Direct

from only1mcp._fast import Envelope
from only1mcp.backend.attribution import MAX_OPEN_ASKS, NOT_OURS
from only1mcp.backend.base import Clock
from only1mcp.backend.deadline import NEVER
from only1mcp.errors import BackendTimeout
from only1mcp.wire import jsonrpc

FORM = {"message": "Name?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
REFUSED = {"code": -32602, "message": NOT_OURS}


class Client:
    """Who may be asked in the middle of a call."""

    def __init__(self, owner: str, *, in_session: bool = True) -> None:
        self.owner = owner
        self.in_session = in_session
        self.requests: asyncio.Queue[tuple[Envelope, Clock | None]] = asyncio.Queue()

    def asked(self, message: Envelope, clock: Clock | None) -> None:
        assert clock is not None
        clock.stop()
        self.requests.put_nowait((message, clock))


def asking(id: Any = "q", method: str = "elicitation/create", params: Any = FORM) -> dict[str, Any]:
    return {"arguments": {"id": id, "method": method, "params": params}}


def call(backend: Backend, client: Client, arguments: Any = None, **options: Any) -> Direct:
    return Direct(backend, options.pop("method", "tools/call"), arguments or {}, asked=client, **options)


async def refusal(backend: Backend, client: Client | None = None) -> Any:
    """Return the error that the child got for what it asks in the middle of a call, or of none."""
    if client is not None:
        return (await call(backend, client, asking()).answer())["error"]
    await backend.ask("says", {"jsonrpc": "2.0", "id": "late", "method": "roots/list"})
    return (await backend.ask("notices"))[-1]["error"]


@both_loops
async def test_a_request_reaches_the_client_of_the_call_and_its_answer_the_child() -> None:
    async with child() as backend:
        client = Client("one")
        waiting = call(backend, client, asking("q-1"))
        request, clock = await client.requests.get()
        assert (request.method, request.id) == ("elicitation/create", b'"q-1"')
        assert request.params is not None
        assert jsonrpc.decode(request.data, request.params) == FORM
        assert waiting.told == []
        await backend.transport.send(jsonrpc.result(b'"q-1"', b'{"action":"decline"}'))
        assert clock is not None
        clock.go_on()
        assert (await waiting.answer())["result"] == {"action": "decline"}
        assert backend.messages == []


@both_loops
async def test_a_child_that_has_served_two_asks_neither(caplog: pytest.LogCaptureFixture) -> None:
    async with child() as backend:
        first, second = Client("one"), Client("two")
        call(backend, first).cancel()
        # Also while only the first is waiting, whose call it may well be: nobody can know.
        assert await refusal(backend, second) == REFUSED
        assert await refusal(backend, first) == REFUSED
        assert first.requests.empty()
        assert second.requests.empty()
    (told,) = fields_of(caplog, "backend.request_refused")
    assert "instances: {mode: per_session}" in told["reason"]


@both_loops
async def test_what_belongs_to_no_call_is_refused() -> None:
    async with child() as backend:
        assert await refusal(backend) == REFUSED
        client = Client("one")
        # A completion is no call in the middle of which a server may ask.
        waiting = call(backend, client, asking(), method="completion/complete")
        assert (await waiting.answer())["error"] == REFUSED
        call(backend, client).cancel()
        assert await refusal(backend) == REFUSED
        assert client.requests.empty()
        assert backend.messages == []


@both_loops
async def test_our_own_calls_make_nobody_an_owner() -> None:
    async with child() as backend:
        assert await backend.ask("echo", {}) == {}
        client = Client("one")
        waiting = call(backend, client, asking())
        await client.requests.get()
        waiting.cancel()


@both_loops
async def test_the_newest_call_of_a_session_is_asked_but_a_principal_must_have_one_call() -> None:
    async with child() as backend:
        old, new = Client("one"), Client("one")
        calls = [call(backend, old), call(backend, new, asking())]
        await new.requests.get()
        assert old.requests.empty()
        for each in calls:
            each.cancel()
    async with child() as backend:
        one, other = Client("p", in_session=False), Client("p", in_session=False)
        waiting = call(backend, one, asking())
        await one.requests.get()
        assert await refusal(backend, other) == REFUSED
        waiting.cancel()
        again = call(backend, other, asking())
        await other.requests.get()
        again.cancel()


@both_loops
async def test_a_request_that_the_child_calls_off_is_called_off_where_it_went() -> None:
    async with child() as backend:
        client, heard = Client("one"), asyncio.Queue[Envelope]()
        waiting = call(backend, client, asking(7), on_message=heard.put_nowait)
        await client.requests.get()
        newer = call(backend, client, on_message=lambda message: pytest.fail("the wrong call"))
        for id in (8, 7):
            notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}
            await backend.ask("says", notice)
        message = await heard.get()
        assert orjson.loads(message.data)["params"] == {"requestId": 7}
        assert [orjson.loads(m.data)["params"] for m in backend.messages] == [{"requestId": 8}]
        waiting.cancel()
        newer.cancel()


@both_loops
async def test_ids_that_are_remembered_are_bounded() -> None:
    async with child() as backend:
        client = Client("one")
        waiting = call(backend, client)
        for id in range(MAX_OPEN_ASKS + 5):
            await backend.ask("says", {"jsonrpc": "2.0", "id": id, "method": "roots/list"})
        (begun,) = backend.transport._lane.calls.values()
        assert begun.asks == {b"%d" % id for id in range(MAX_OPEN_ASKS)}
        assert client.requests.qsize() == MAX_OPEN_ASKS + 5
        waiting.cancel()


@both_loops
async def test_log_messages_reach_the_only_owner_and_nobody_where_there_are_two() -> None:
    async with child() as backend:
        heard: list[bytes | None] = []
        waiting = call(backend, Client("one"), on_message=lambda message: heard.append(message.data))
        notice = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
        await backend.ask("says", notice)
        assert [orjson.loads(data or b"") for data in heard] == [notice]
        call(backend, Client("two")).cancel()
        await backend.ask("says", notice)
        assert len(heard) == 1
        assert [message.method for message in backend.messages] == ["notifications/message"]
        waiting.cancel()


@both_loops
async def test_a_stateless_child_asks_nobody() -> None:
    async with child() as backend:
        backend.transport.revision = "2026-07-28"
        client = Client("one")
        waiting = call(backend, client, asking())
        await backend.ask("echo", {})
        assert client.requests.empty()
        assert [message.method for message in backend.messages] == ["elicitation/create"]
        waiting.cancel()


@both_loops
async def test_a_client_that_cannot_be_asked_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Client):
        def asked(self, message: Envelope, clock: Clock | None) -> None:
            raise ZeroDivisionError

    async with child() as backend:
        waiting = call(backend, Broken("one"), asking())
        assert await backend.ask("echo", {}) == {}
        waiting.cancel()
    assert len([r for r in caplog.records if r.getMessage() == "backend.message_failed"]) == 1


@both_loops
async def test_the_time_that_a_client_takes_is_not_the_childs() -> None:
    async with child() as backend:
        client = Client("one")
        waiting = call(backend, client, asking(), timeout_s=0.2)
        _, clock = await client.requests.get()
        assert clock is not None
        # Another of the same length passes first, and one more stop needs one more end.
        assert isinstance(await Direct(backend, "silent", timeout_s=0.4).outcome(), BackendTimeout)
        clock.stop()
        clock.go_on()
        (begun,) = backend.transport._lane.calls.values()
        assert (waiting.told, begun.deadline) == ([], NEVER)
        clock.go_on()
        assert begun.deadline <= asyncio.get_running_loop().time() + 0.2
        assert isinstance(await waiting.outcome(), BackendTimeout)
        # A clock whose call has ended is nobody's.
        clock.stop()
        clock.go_on()
        assert begun.deadline == NEVER
