"""An endpoint over its life: connecting, losses, crash loops, refreshes, and nothing left when it is closed."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise
from typing import Any

import orjson
import pytest
from tests.backend.fakes import FakeServer, Raw, Watched, http, stdio, tool, tools_of
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend import endpoint as module
from only1mcp.backend.base import BackendCall
from only1mcp.backend.endpoint import GRACE_S, Endpoint, State
from only1mcp.errors import BackendAnswerError, BackendRefused, BackendTimeout, BackendUnavailable
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import Era

CHANGED = "notifications/tools/list_changed"


def now() -> float:
    return asyncio.get_running_loop().time()


async def call(endpoint: Endpoint, method: str = "tools/call") -> Any:
    id = endpoint.next_id()
    answer = await endpoint.call(BackendCall(method, jsonrpc.request(id, method, b'{"name":"x"}'), id, 5))
    return orjson.loads(answer.data)


async def hang(_params: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("era", "revision"), [(Era.HANDSHAKE, "2025-11-25"), (Era.STATELESS, "2026-07-28")])
@virtual
async def test_connects(era: Era, revision: str) -> None:
    server = FakeServer(era=era, tools=[tool("a"), tool("b")])
    async with Watched(server) as watched:
        endpoint = watched.endpoint
        assert (endpoint.state, endpoint.last_error) == (State.UP, None)
        peer = await endpoint.ready(0)
        assert (peer.era, peer.revision, endpoint.peer) == (era, revision, peer)
        assert watched.changes == [("up", ["a", "b"])]
        assert "result" in await call(endpoint)
    assert endpoint.state is State.CLOSED
    assert endpoint.peer is None
    assert server.transport.closed


@virtual
async def test_counts_calls_in_flight() -> None:
    server = FakeServer(tools=[])
    server.handlers["tools/call"] = hang
    async with Watched(server) as watched:
        calls = [asyncio.ensure_future(call(watched.endpoint)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert watched.endpoint.in_flight == 3
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert watched.endpoint.in_flight == 0


@virtual
async def test_calls_wait_for_the_first_connection() -> None:
    server = FakeServer(tools=[])
    gate = asyncio.Event()

    async def slow(_params: dict[str, Any]) -> Any:
        await gate.wait()
        return {"tools": []}

    server.handlers["tools/list"] = slow
    watched = Watched(server)
    watched.endpoint.start()
    waiting = asyncio.ensure_future(watched.endpoint.ready(5))
    impatient = asyncio.ensure_future(watched.endpoint.ready(0.5))
    with pytest.raises(BackendUnavailable):
        await impatient
    assert now() == pytest.approx(0.5)
    gate.set()
    assert (await waiting).revision == "2025-11-25"
    await watched.endpoint.aclose()


# Losses.


@virtual
async def test_a_loss_is_answered_at_once_and_calls_wait_for_it() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        endpoint = watched.endpoint
        server.handlers["tools/call"] = hang
        lost = asyncio.ensure_future(call(endpoint))
        await asyncio.sleep(20)
        began = now()
        server.transport.die("was killed")
        assert (endpoint.state, endpoint.peer) == (State.CONNECTING, None)
        with pytest.raises(BackendUnavailable):  # to a dead connection nothing goes
            await call(endpoint)
        del server.handlers["tools/call"]
        await endpoint.ready(5)
        assert "result" in await call(endpoint)
        assert now() == began
        assert len(server.transports) == 2
        assert server.transports[0].closed
        with pytest.raises(BackendAnswerError):
            await lost
        assert tools_of(endpoint) == ["a"]


@virtual
async def test_a_crash_loop_backs_off_and_calls_fail_fast() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        endpoint = watched.endpoint
        server.start_error = "no such command"
        server.transport.die("was killed")
        await asyncio.sleep(0.1)
        assert endpoint.state is State.DOWN
        assert endpoint.last_error == "no such command"
        began = now()
        with pytest.raises(BackendUnavailable) as caught:
            await endpoint.ready(60)
        assert now() == began
        assert caught.value.retryable
        await asyncio.sleep(300)
        waits = [b - a for a, b in pairwise(server.starts[1:])]
        assert len(waits) > 8
        for wait, middle in zip(waits, [1, 2, 4, 8, 16, 30, 30, 30], strict=False):
            assert 0.8 * middle <= wait <= 1.2 * middle
        server.start_error = None
        await asyncio.sleep(40)
        assert endpoint.state is State.UP
        assert endpoint.last_error is None


@virtual
async def test_a_child_that_dies_right_after_connecting_is_a_crash_loop_too() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        for expected in (State.UP, State.DOWN, State.DOWN, State.DOWN):
            server.transport.die("was killed")
            await asyncio.sleep(0.1)
            assert watched.endpoint.state is expected
            await asyncio.sleep(8)
            assert watched.endpoint.state is State.UP
        await asyncio.sleep(60)
        assert watched.endpoint.state is State.UP
        # Alive for long enough it has proved itself.
        before = now()
        server.transport.die("was killed")
        await watched.endpoint.ready(5)
        assert now() == before


@virtual
async def test_items_stay_for_the_grace_period_and_then_leave_with_one_change() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        await asyncio.sleep(20)
        server.start_error = "gone"
        server.transport.die("was killed")
        await asyncio.sleep(GRACE_S - 1)
        assert tools_of(watched.endpoint) == ["a"]
        watched.changes.clear()
        await asyncio.sleep(2)
        assert watched.endpoint.inventory is None
        assert [tools for _, tools in watched.changes].count(None) == len(watched.changes)
        server.start_error = None
        await asyncio.sleep(40)
        assert tools_of(watched.endpoint) == ["a"]


@virtual
async def test_a_return_within_the_grace_period_ends_it() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        server.start_error = "gone"
        server.transport.die("was killed")
        await asyncio.sleep(GRACE_S / 10)  # the next attempt comes at most as long again after this
        server.start_error = None
        await asyncio.sleep(GRACE_S * 3)
        assert all(tools == ["a"] for _, tools in watched.changes)


@virtual
async def test_an_ended_session_is_a_loss_that_may_be_tried_again() -> None:
    server = FakeServer(tools=[])
    server.session_id = "s1"

    async def ended(_params: dict[str, Any]) -> Any:
        raise BackendRefused("404", status=404)

    async with Watched(server, http()) as watched:
        server.handlers["tools/call"] = ended
        with pytest.raises(BackendUnavailable) as caught:
            await call(watched.endpoint)
        assert caught.value.retryable
        del server.handlers["tools/call"]
        await watched.endpoint.ready(5)
        assert "result" in await call(watched.endpoint)
        assert len(server.transports) == 2


@pytest.mark.parametrize(
    ("status", "session"), [(404, None), (400, "s"), (401, "s"), (403, "s"), (500, "s"), (503, "s")]
)
@virtual
async def test_other_refusals_are_the_calls_own(status: int, session: str | None) -> None:
    server = FakeServer(tools=[])
    server.session_id = session

    async def refuse(_params: dict[str, Any]) -> Any:
        raise BackendRefused("no", status=status)

    server.handlers["tools/call"] = refuse
    async with Watched(server, http()) as watched:
        with pytest.raises(BackendRefused):
            await call(watched.endpoint)
        assert watched.endpoint.state is State.UP
        assert len(server.transports) == 1


@pytest.mark.parametrize("error", [BackendTimeout("slow"), BackendAnswerError("garbage")])
@virtual
async def test_a_call_that_goes_wrong_leaves_the_connection_alone(error: Exception) -> None:
    server = FakeServer(tools=[])

    async def fail(_params: dict[str, Any]) -> Any:
        raise error

    server.handlers["tools/call"] = fail
    async with Watched(server) as watched:
        with pytest.raises(type(error)):
            await call(watched.endpoint)
        assert watched.endpoint.state is State.UP


@virtual
async def test_a_busy_child_is_not_restarted() -> None:
    """A child tells when it dies; one that merely does not take this call keeps those it works on."""
    server = FakeServer(tools=[])

    async def full(_params: dict[str, Any]) -> Any:
        raise BackendUnavailable("too much is waiting for it already")

    server.handlers["prompts/get"] = full
    server.handlers["tools/call"] = hang
    async with Watched(server) as watched:
        working = asyncio.ensure_future(call(watched.endpoint))
        await asyncio.sleep(0)
        with pytest.raises(BackendUnavailable):
            await call(watched.endpoint, "prompts/get")
        await asyncio.sleep(1)
        assert not working.done()
        assert len(server.transports) == 1
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@virtual
async def test_an_http_server_that_cannot_be_reached_is_lost() -> None:
    server = FakeServer(tools=[])

    async def refused(_params: dict[str, Any]) -> Any:
        raise BackendUnavailable("connection refused")

    async with Watched(server, http()) as watched:
        server.handlers["tools/call"] = refused
        with pytest.raises(BackendUnavailable):
            await call(watched.endpoint)
        assert watched.endpoint.state is State.CONNECTING
        await watched.endpoint.ready(5)
        assert len(server.transports) == 2


@virtual
async def test_a_server_of_the_old_kind_that_dies_of_the_probe_is_started_again_without() -> None:
    server = FakeServer(tools=[tool("a")])
    server.dies_of_probe = True
    async with Watched(server) as watched:
        assert watched.endpoint.state is State.UP
        assert now() == 0
        assert len(server.transports) == 2
        # And it is remembered.
        await asyncio.sleep(20)
        server.transport.die("was killed")
        await watched.endpoint.ready(5)
        assert len(server.transports) == 3
        assert server.count("server/discover") == 1


@virtual
async def test_a_command_that_does_not_exist_is_not_tried_twice_at_once() -> None:
    server = FakeServer(tools=[])
    server.start_error = "no such command"
    async with Watched(server) as watched:
        assert watched.endpoint.state is State.DOWN
        assert len(server.transports) == 1


# Lists.


@virtual
async def test_several_changes_in_a_row_are_one_refresh() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        server.lists["tools/list"] = [tool("a"), tool("b")]
        for kind in ("tools", "resources", "prompts"):
            for _ in range(10):
                server.transport.tell(f"notifications/{kind}/list_changed")
        await asyncio.sleep(0.1)
        assert server.count("tools/list") == 2
        assert watched.changes[1:] == [("up", ["a", "b"])]


@virtual
async def test_what_has_changed_is_told_at_once_and_its_list_read_later() -> None:
    server = FakeServer(tools=[tool("a")])
    stale: list[tuple[str | None, str | None]] = []
    endpoint = Endpoint(stdio(), server, lambda _: None, lambda _, kind, uri: stale.append((kind, uri)))
    endpoint.start()
    await endpoint.settled()
    server.transport.tell("notifications/resources/updated", {"uri": "test://a"})
    assert stale == [("resources", "test://a")]
    await asyncio.sleep(10)
    assert server.count("tools/list") == 1  # no list is concerned
    server.transport.tell(CHANGED)
    assert stale[1:] == [("tools", None)]
    await asyncio.sleep(10)
    assert server.count("tools/list") == 2
    endpoint.reread()
    await asyncio.sleep(10)
    assert (server.count("tools/list"), len(stale)) == (3, 2)
    await endpoint.aclose()


@virtual
async def test_a_storm_of_changes_is_read_at_a_measured_pace() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        for _ in range(1000):
            server.transport.tell(CHANGED)
            await asyncio.sleep(0.01)
        assert server.count("tools/list") <= 12
        # Nothing was new, so nobody was told.
        assert len(watched.changes) == 1
        server.lists["tools/list"] = [tool("b")]
        server.transport.tell(CHANGED)
        await asyncio.sleep(2)
        assert tools_of(watched.endpoint) == ["b"]


@virtual
async def test_a_change_during_a_refresh_is_read_as_well() -> None:
    server = FakeServer(tools=[tool("a")])
    async with Watched(server) as watched:
        names = iter("bc")

        async def changing(_params: dict[str, Any]) -> Any:
            name = next(names)
            if name == "b":
                server.transport.tell(CHANGED)
            return {"tools": [tool(name)]}

        server.handlers["tools/list"] = changing
        server.transport.tell(CHANGED)
        await asyncio.sleep(5)
        assert tools_of(watched.endpoint) == ["c"]


@pytest.mark.parametrize(
    "error", [BackendTimeout("slow"), BackendAnswerError("broken off"), BackendRefused("", status=500)]
)
@virtual
async def test_a_refresh_that_fails_keeps_items_and_calls_and_is_tried_again(error: Exception) -> None:
    server = FakeServer(tools=[tool("a")])
    server.handlers["tools/call"] = hang
    async with Watched(server) as watched:
        working = asyncio.ensure_future(call(watched.endpoint))

        async def fail(_params: dict[str, Any]) -> Any:
            raise error

        server.handlers["tools/list"] = fail
        server.transport.tell(CHANGED)
        await asyncio.sleep(0.5)
        assert tools_of(watched.endpoint) == ["a"]
        assert watched.endpoint.state is State.UP
        assert not working.done()
        server.handlers["tools/list"] = lambda _params: _value({"tools": [tool("b")]})
        await asyncio.sleep(5)
        assert tools_of(watched.endpoint) == ["b"]
        assert not working.done()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _value(value: Any) -> Any:
    return value


@virtual
async def test_connected_with_an_unread_list_is_not_the_end() -> None:
    server = FakeServer(tools=[tool("a")], prompts=[])

    async def broken(_params: dict[str, Any]) -> Any:
        raise BackendAnswerError("garbage")

    server.handlers["tools/list"] = broken
    async with Watched(server) as watched:
        assert watched.endpoint.state is State.UP
        assert tools_of(watched.endpoint) is None
        del server.handlers["tools/list"]
        await asyncio.sleep(3)
        assert tools_of(watched.endpoint) == ["a"]


@virtual
async def test_a_list_that_is_never_right_is_given_up() -> None:
    server = FakeServer(tools=[tool("a")])

    async def broken(_params: dict[str, Any]) -> Any:
        return {"tools": "none"}

    server.handlers["tools/list"] = broken
    async with Watched(server) as watched:
        await asyncio.sleep(3600)
        assert server.count("tools/list") == 1 + module.MAX_REREADS
        assert watched.endpoint.state is State.UP


@virtual
async def test_a_first_list_that_never_comes_is_no_connection() -> None:
    server = FakeServer(tools=[tool("a")])

    async def slow(_params: dict[str, Any]) -> Any:
        raise BackendTimeout("30 s")

    server.handlers["tools/list"] = slow
    async with Watched(server) as watched:
        assert watched.endpoint.state is State.DOWN
        assert watched.endpoint.last_error == "30 s"


@pytest.mark.parametrize("capabilities", [None, [], "tools", {"tools": None}, {"tools": []}, {"tools": True}, {}])
@virtual
async def test_capabilities_of_a_wrong_type_are_none_or_no_backend(capabilities: Any) -> None:
    server = FakeServer(tools=[tool("a")])
    server.handlers["initialize"] = lambda _params: _value(
        {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {}}
    )
    async with Watched(server) as watched:
        assert watched.endpoint.state is (
            State.UP if capabilities is None or isinstance(capabilities, dict) else State.DOWN
        )
        assert server.count("tools/list") == 0


# What the server says and asks.


@virtual
async def test_requests_of_the_server_are_answered_until_it_is_closed() -> None:
    server = FakeServer(tools=[])
    async with Watched(server) as watched:
        server.sent.clear()
        server.transport.tell("ping", id="p")
        await asyncio.sleep(0.1)
    assert server.sent == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    # What still arrives on the stream of a call neither goes to its client nor is it answered.
    assert watched.endpoint.hear(scan(jsonrpc.request(b"1", "ping", None)))


@virtual
async def test_other_notifications_are_nobodys() -> None:
    server = FakeServer(tools=[])
    async with Watched(server) as watched:
        server.sent.clear()
        for method in ("notifications/message", "notifications/progress", "notifications/x", "x", "ping"):
            server.transport.tell(method)
        await asyncio.sleep(1)
        assert server.sent == []
        assert server.count("tools/list") == 1
        assert watched.endpoint.state is State.UP


@virtual
async def test_a_stateless_server_is_listened_to_for_what_it_announces() -> None:
    capabilities = {"tools": {"listChanged": True}, "prompts": {"listChanged": "yes"}, "resources": {}}
    server = FakeServer(era=Era.STATELESS, capabilities=capabilities, tools=[tool("a")])
    async with Watched(server) as watched:
        await asyncio.sleep(0.1)
        listens = [params for method, params in server.asked if method == "subscriptions/listen"]
        assert [params["notifications"] for params in listens] == [{"toolsListChanged": True}]
        assert listens[0]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        server.lists["tools/list"] = [tool("b")]
        listen = next(c for c in server.transport.calls if c.method == "subscriptions/listen")
        assert listen.timeout_s is None
        assert listen.on_message is not None
        server.transport.tell(CHANGED)
        await asyncio.sleep(2)
        assert tools_of(watched.endpoint) == ["b"]


@virtual
async def test_a_broken_listen_is_resumed_and_the_gap_read() -> None:
    server = FakeServer(era=Era.STATELESS, tools=[tool("a")])
    ends = asyncio.Event()

    async def ending(_params: dict[str, Any]) -> Any:
        await ends.wait()
        server.handlers.pop("subscriptions/listen", None)
        return {"resultType": "complete"}

    server.handlers["subscriptions/listen"] = ending
    async with Watched(server) as watched:
        server.lists["tools/list"] = [tool("b")]
        ends.set()
        await asyncio.sleep(5)
        assert server.count("subscriptions/listen") == 2
        assert tools_of(watched.endpoint) == ["b"]


@virtual
async def test_a_server_that_refuses_to_be_listened_to_is_not_asked_again() -> None:
    server = FakeServer(era=Era.STATELESS, tools=[])
    server.handlers["subscriptions/listen"] = lambda _params: _value(Raw(error=b'{"code":-32601,"message":""}'))
    async with Watched(server) as watched:
        await asyncio.sleep(1000)
        assert server.count("subscriptions/listen") == 1
        assert watched.endpoint.state is State.UP


@virtual
async def test_an_http_server_is_listened_to_and_a_child_is_not() -> None:
    server = FakeServer(tools=[])
    async with Watched(server, http()):
        await asyncio.sleep(0.1)
        assert server.transport.listening == 1
    server = FakeServer(tools=[])
    async with Watched(server, stdio()):
        await asyncio.sleep(0.1)
        assert server.transport.listening == 0


# The end.


@virtual
async def test_close_leaves_nothing_and_may_come_at_any_moment() -> None:
    """`virtual` fails the test for every task that is left."""
    for steps in range(40):
        server = FakeServer(era=Era.STATELESS, tools=[tool("a")])
        watched = Watched(server, http())
        watched.endpoint.start()
        for _ in range(steps):
            await asyncio.sleep(0)
        await watched.endpoint.aclose()
        assert watched.endpoint.state is State.CLOSED
        assert all(transport.closed for transport in server.transports)
        assert watched.endpoint.peer is None


@virtual
async def test_close_during_a_reconnect_closes_the_old_transport() -> None:
    """The old child is still being stopped when we are told to stop: nobody else would finish that."""
    server = FakeServer(tools=[])
    watched = Watched(server)
    watched.endpoint.start()
    await watched.endpoint.settled()
    server.close_gate = asyncio.Event()
    server.transport.die("was killed")
    await asyncio.sleep(0.1)
    closing = asyncio.ensure_future(watched.endpoint.aclose())
    await asyncio.sleep(0.1)
    assert not closing.done()
    server.close_gate.set()
    await closing
    assert [transport.closed for transport in server.transports] == [True]


@virtual
async def test_close_wakes_who_waits() -> None:
    server = FakeServer(tools=[])
    server.handlers["tools/list"] = hang
    watched = Watched(server)
    watched.endpoint.start()
    waiting = asyncio.ensure_future(watched.endpoint.ready(60))
    settled = asyncio.ensure_future(watched.endpoint.settled())
    await asyncio.sleep(1)
    await watched.endpoint.aclose()
    with pytest.raises(BackendUnavailable):
        await waiting
    await settled
    assert now() == pytest.approx(1)
    with pytest.raises(BackendUnavailable):
        await call(watched.endpoint)
    await watched.endpoint.aclose()


@virtual
async def test_close_without_start() -> None:
    watched = Watched(FakeServer())
    await watched.endpoint.aclose()
    await watched.endpoint.settled()


@virtual
async def test_a_failure_of_our_own_is_survived() -> None:
    server = FakeServer(tools=[])
    fails = [True, False]

    async def bug(_params: dict[str, Any]) -> Any:
        if fails.pop(0):
            raise ZeroDivisionError
        return {"tools": []}

    server.handlers["tools/list"] = bug
    async with Watched(server) as watched:
        assert watched.endpoint.state is State.DOWN
        assert watched.endpoint.last_error == "ZeroDivisionError while connecting"
        await asyncio.sleep(3)
        assert watched.endpoint.state is State.UP
    gc.collect()
