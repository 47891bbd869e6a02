"""Bringing requests to backends: with and without a task, called off by either side, from the cache, and again."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from tests.backend.fakes import tool
from tests.in_process import configured, running
from tests.mcp_backend import Backend, echo
from tests.mcp_caller import Caller
from tests.proxy.lanes import RESULT, LaneServer, body_of, events_of, forwarding
from tests.virtual import virtual

from only1mcp._fast import Envelope, scan
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from only1mcp.metrics import Metrics
from only1mcp.proxy.cache import ResponseCache
from only1mcp.wire.mcp import Era

# Without a task.


@pytest.mark.parametrize("era", [Era.HANDSHAKE, Era.STATELESS])
@virtual
async def test_answers_without_a_task(era: Era) -> None:
    server = LaneServer(era=era, tools=[tool("a")])
    async with forwarding(server) as proxy:
        tasks = len(asyncio.all_tasks())
        exchange, channel = proxy.ask(era=era)
        assert (len(asyncio.all_tasks()), proxy.endpoints[0].in_flight) == (tasks, 1)
        assert (exchange.backend, channel.answers) == ("b0", 0)
        server.begun[0].answer()
        assert (channel.status, proxy.tasks) == (200, set())
        assert channel.body == b'{"jsonrpc":"2.0","id":7,"result":' + RESULT + b"}"
        assert exchange.http.on_cancel is None


@virtual
async def test_an_error_is_the_answer() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        for error in (BackendTimeout("slow", data={"backend": "b0"}), BackendAnswerError("x"), BackendError("y")):
            exchange, channel = proxy.ask()
            server.begun[-1].done(error)
            assert body_of(channel)["error"]["code"] == error.code
            assert exchange.error is error
            assert not proxy.tasks


@virtual
async def test_progress_opens_a_stream_that_the_answer_ends() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        _, channel = proxy.ask(params={"name": "a", "_meta": {"progressToken": "mine"}})
        (begun,) = server.begun
        token = orjson.loads(begun.call.message)["params"]["_meta"]["progressToken"]
        begun.say("notifications/progress", progressToken=token, progress=1)
        assert (channel.headers[b"content-type"], channel.complete) == (b"text/event-stream", False)
        begun.answer()
        progress, answer = events_of(channel)
        assert progress["params"]["progressToken"] == "mine"
        assert answer["id"] == 7


@virtual
async def test_an_error_after_progress_travels_in_the_stream_whatever_it_is() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        _, channel = proxy.ask()
        server.begun[0].say("notifications/message", level="info", data="x")
        server.begun[0].done(BackendUnavailable("gone"))
        assert events_of(channel)[1]["error"]["code"] == BackendUnavailable.code
        assert not proxy.tasks
        await asyncio.sleep(0.1)  # the endpoint connects anew
        await proxy.endpoints[0].ready(5)


@virtual
async def test_an_answer_that_breaks_us_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        _, channel = proxy.ask()
        server.begun[0].done(None)  # type: ignore[arg-type]
        assert body_of(channel)["error"] == {"code": -32603, "message": "internal error"}
        assert "exchange.failed" in caplog.messages


@virtual
async def test_what_breaks_after_the_answer_does_not_reach_the_backends_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        exchange, channel = proxy.ask()

        def broken() -> None:
            raise LookupError("a bug")

        monkeypatch.setattr(channel, "settle", broken)
        server.begun[0].answer()
        assert exchange.http.finished
        assert body_of(channel)["id"] == 7
        assert "exchange.failed" in caplog.messages


# Called off.


@virtual
async def test_the_client_calls_it_off_and_gets_one_error() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        exchange, channel = proxy.ask()
        proxy.cancel(id=b"8")
        proxy.cancel(session="another")
        assert channel.answers == 0
        proxy.cancel()
        proxy.cancel()
        assert (server.begun[0].cancelled, channel.status) == (1, 200)
        assert body_of(channel) == {
            "jsonrpc": "2.0",
            "id": 7,
            "error": {"code": -32800, "message": "cancelled by the client"},
        }
        assert exchange.http.on_cancel is None


@virtual
async def test_the_client_calls_it_off_in_a_stream() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        exchange, channel = proxy.ask()
        server.begun[0].say("notifications/message", level="info", data="x")
        proxy.cancel()
        assert events_of(channel)[1]["error"]["code"] == -32800
        assert (server.begun[0].cancelled, exchange.http.on_cancel) == (1, None)


@virtual
async def test_after_the_end_there_is_nothing_to_call_off() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        _, channel = proxy.ask()
        server.begun[0].answer()
        proxy.cancel()
        assert body_of(channel)["id"] == 7
        assert server.begun[0].cancelled == 0


@virtual
async def test_who_has_left_is_forgotten() -> None:
    """Also where the same client then says, over another connection, that it does not wait."""
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        exchange, channel = proxy.ask()
        assert exchange.http.on_cancel is not None
        exchange.http.on_cancel()
        assert proxy.endpoints[0].in_flight == 0
        proxy.cancel()
        assert (server.begun[0].cancelled, channel.answers) == (1, 0)


@virtual
async def test_an_id_that_is_used_twice_calls_off_the_later_request() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        first, second, third = proxy.ask()[1], proxy.ask()[1], None
        server.begun[0].answer()
        proxy.cancel()
        assert [begun.cancelled for begun in server.begun] == [0, 1]
        assert body_of(first)["result"]
        assert body_of(second)["error"]["code"] == -32800
        third = proxy.ask()[1]
        server.begun[2].answer()
        assert body_of(third)["result"]


@virtual
async def test_a_stateless_request_has_nothing_to_be_called_off_by() -> None:
    server = LaneServer(era=Era.STATELESS, tools=[tool("a")])
    async with forwarding(server) as proxy:
        proxy.ask(era=Era.STATELESS)
        assert not proxy.forwarder._cancellable
        server.begun[0].answer()


# In a task.


async def hang(_params: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@virtual
async def test_in_a_task_where_no_connection_is_free() -> None:
    server = LaneServer(tools=[tool("a")])
    server.open = False
    async with forwarding(server) as proxy:
        exchange, channel = proxy.ask()
        await proxy.over()
        assert body_of(channel)["result"] == {"content": []}
        assert (exchange.backend, server.begun) == ("b0", [])


@pytest.mark.parametrize("by_client", [True, False])
@virtual
async def test_a_task_that_is_called_off(by_client: bool) -> None:
    server = LaneServer(tools=[tool("a")])
    server.open = False
    server.handlers["tools/call"] = hang
    async with forwarding(server) as proxy:
        exchange, channel = proxy.ask()
        await asyncio.sleep(0.1)
        (task,) = proxy.tasks
        if by_client:
            proxy.cancel()
            await proxy.over()
            assert body_of(channel)["error"]["code"] == -32800
        else:
            assert exchange.http.on_cancel is not None
            exchange.http.on_cancel()
            await asyncio.wait([task])
            assert (task.cancelled(), channel.answers) == (True, 0)
        assert not proxy.forwarder._cancellable


# Once more.


@virtual
async def test_a_call_that_reached_nobody_goes_to_another_endpoint_of_the_group() -> None:
    servers = [LaneServer(tools=[tool("a")]), LaneServer(tools=[tool("a")])]
    async with forwarding(*servers) as proxy:
        exchange, channel = proxy.ask()
        (failed,) = [server for server in servers if server.begun]
        (other,) = [server for server in servers if not server.begun]
        failed.begun[0].done(BackendUnavailable("not now"))
        assert exchange.http.on_cancel is not None
        await proxy.over()
        assert channel.complete
        assert body_of(channel)["result"] == {"content": []}
        assert [server.count("tools/call") for server in (failed, other)] == [0, 1]
        assert exchange.backend == proxy.endpoints[servers.index(other)].id
        await proxy.endpoints[servers.index(failed)].ready(5)


@virtual
async def test_a_call_in_a_session_that_has_ended_is_made_again_in_a_new_one() -> None:
    server = LaneServer(tools=[tool("a")])
    server.session_id = "s"
    async with forwarding(server) as proxy:
        _, channel = proxy.ask()
        server.begun[0].done(BackendRefused("404", status=404))
        await proxy.over()
        assert body_of(channel)["result"] == {"content": []}
        assert (len(server.transports), server.count("tools/call")) == (2, 1)


@virtual
async def test_what_is_made_again_has_the_time_that_is_left() -> None:
    server = LaneServer(tools=[tool("a")])
    server.session_id = "s"
    async with forwarding(server) as proxy:
        request_s = proxy.snapshot.config.proxy.timeouts.request_s
        exchange, channel = proxy.ask()
        await asyncio.sleep(request_s - 1)
        server.begun[0].done(BackendRefused("404", status=404))
        server.handlers["tools/call"] = hang
        await asyncio.sleep(0.2)
        calls = [call for call in server.transport.calls if call.method == "tools/call"]
        assert calls
        assert calls[0].timeout_s is not None
        assert calls[0].timeout_s <= 1
        assert exchange.backend == "b0"
        proxy.cancel()
        await proxy.over()
        assert body_of(channel)["error"]["code"] == -32800


@virtual
async def test_when_nobody_takes_it_the_first_reason_is_told() -> None:
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        _, channel = proxy.ask()
        server.start_error = "connection refused"
        server.begun[0].done(BackendUnavailable("broken before it was sent"))
        await proxy.over()
        assert body_of(channel)["error"]["code"] == BackendUnavailable.code
        server.start_error = None
        await asyncio.sleep(30)


# Whose turn it is.


@pytest.mark.parametrize("open", [(True, True), (False, False), (True, False), (False, True)])
@virtual
async def test_every_endpoint_of_a_group_gets_its_share(open: tuple[bool, bool]) -> None:
    servers = [LaneServer(tools=[tool("a")]), LaneServer(tools=[tool("a")])]
    for server, is_open in zip(servers, open, strict=True):
        server.open = is_open
    async with forwarding(*servers) as proxy:
        for _ in range(10):
            begun = [len(server.begun) for server in servers]
            _, channel = proxy.ask()
            for server, before in zip(servers, begun, strict=True):
                for call in server.begun[before:]:
                    call.answer()
            await proxy.over()
            assert "result" in body_of(channel)
        assert [len(server.begun) + server.count("tools/call") for server in servers] == [5, 5]


# The cache.


KEPT = b'{"resultType":"complete","ttlMs":60000,"cacheScope":"public","contents":[]}'


@virtual
async def test_an_answer_is_kept_and_answers_the_next_request() -> None:
    server = LaneServer(era=Era.STATELESS, resources=[{"uri": "test://a", "name": "a"}])
    cache = ResponseCache(1 << 20, 300_000, Metrics())
    async with forwarding(server, cache=cache) as proxy:
        found: list[Any] = []
        for _ in range(3):
            _, channel = proxy.ask("resources/read", {"uri": "test://a"}, Era.STATELESS)
            if not found:
                server.begun[0].answer(KEPT)
            found.append(body_of(channel)["result"]["contents"])
        assert found == [[], [], []]
        assert (len(server.begun), len(cache)) == (1, 1)


@virtual
async def test_only_results_are_kept() -> None:
    server = LaneServer(era=Era.STATELESS, resources=[{"uri": "test://a", "name": "a"}])
    cache = ResponseCache(1 << 20, 300_000, Metrics())
    async with forwarding(server, cache=cache) as proxy:
        error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"no"}}'
        for outcome in (scan(error), BackendAnswerError("broken")):
            proxy.ask("resources/read", {"uri": "test://a"}, Era.STATELESS)
            assert isinstance(outcome, Envelope | BackendError)
            server.begun[-1].done(outcome)
        assert (len(server.begun), len(cache)) == (2, 0)


# With everything around it.


async def test_over_sockets_a_call_takes_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    loop = asyncio.get_running_loop()

    def note(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)

    async with Backend(tools={"echo": echo}) as backend, running(configured(backend)) as worker:
        assert worker.listener is not None
        async with Caller(worker.listener.port) as caller:
            await caller.call("echo", text="warm")
            loop.set_task_factory(note)
            try:
                for number in range(10):
                    assert (await caller.call("echo", text=str(number))).text == str(number)
            finally:
                loop.set_task_factory(None)
    assert made
    assert not [name for name in made if name.startswith(("Forwarder", "HttpTransport"))]
