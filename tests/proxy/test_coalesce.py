"""Identical requests in flight: who shares a call, who does not, and that nobody's fate becomes another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.backend.fakes import tool
from tests.proxy.exchanges import Channel
from tests.proxy.lanes import LaneServer, Proxy, body_of, events_of, forwarding
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.config.schema import Cache, CachedItem, Config, Timeouts
from only1mcp.config.schema import Proxy as Settings
from only1mcp.errors import BackendAnswerError, BackendTimeout, BackendUnavailable
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.metrics import Metrics
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.cache import ResponseCache
from only1mcp.wire.mcp import Era

H, S = Era.HANDSHAKE, Era.STATELESS
FRESH = b'{"resultType":"complete","ttlMs":60000,"cacheScope":"public","contents":[]}'
STALE = b'{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[]}'
URI = "test://a"
META = "io.modelcontextprotocol/"


class Stage:
    """A proxy before one backend; requests have ids of their own."""

    def __init__(self, server: LaneServer, proxy: Proxy, cache: ResponseCache) -> None:
        self.server = server
        self.proxy = proxy
        self.cache = cache
        self.exchanges: dict[Any, HttpExchange] = {}
        self._ids = 0

    def read(self, era: Era = S, *, uri: str = URI, principal: Principal | None = None, **params: Any) -> Channel:
        return self.ask("resources/read", {"uri": uri, **params}, era, principal)

    def ask(self, method: str, params: Any, era: Era = S, principal: Principal | None = None) -> Channel:
        self._ids += 1
        options = {} if principal is None else {"principal": principal}
        exchange, channel = self.proxy.ask(method, params, era, id=self._ids, **options)
        self.exchanges[self._ids] = exchange.http
        return channel

    def leave(self, id: int) -> None:
        """Its client hangs up."""
        exchange = self.exchanges[id]
        on_cancel, exchange.on_cancel = exchange.on_cancel, None
        assert on_cancel is not None
        on_cancel()

    @property
    def coalesced(self) -> int:
        return self.proxy.metrics.cache_counts()[2]


@asynccontextmanager
async def stage(era: Era = S, *, open: bool = True, request_s: float = 60, **backend: Any) -> AsyncIterator[Stage]:
    server = LaneServer(
        era=era,
        tools=[tool("a", annotations={"readOnlyHint": True}), tool("plain")],
        resources=[{"uri": URI, "name": "a"}, {"uri": "test://b", "name": "b"}],
        prompts=[{"name": "p"}],
    )
    server.open = open
    cache = ResponseCache(1 << 20, 300_000, Metrics())
    settings = Settings(
        cache=Cache(tools={"a": CachedItem(), "plain": CachedItem()}), timeouts=Timeouts(request_s=request_s)
    )
    async with forwarding(server, cache=cache, config=Config(version="1.0", proxy=settings), **backend) as proxy:
        yield Stage(server, proxy, cache)


def ids(channels: list[Channel]) -> list[Any]:
    return [body_of(channel)["id"] for channel in channels]


def codes(channels: list[Channel]) -> list[Any]:
    return [body_of(channel).get("error", {}).get("code") for channel in channels]


# Together.


@pytest.mark.parametrize("asking", [H, S])
@virtual
async def test_identical_requests_are_one_call_and_each_gets_its_answer(asking: Era) -> None:
    async with stage() as here:
        tasks = len(asyncio.all_tasks())
        channels = [here.read(asking) for _ in range(5)]
        assert (len(here.server.begun), len(asyncio.all_tasks())) == (1, tasks)
        here.server.begun[0].answer(FRESH)
        assert ids(channels) == [1, 2, 3, 4, 5]
        for channel in channels:
            assert ("ttlMs" in body_of(channel)["result"]) == (asking is S)
        assert here.coalesced == 4
        assert body_of(here.read(asking))["result"]["contents"] == []
        assert len(here.server.begun) == 1


@virtual
async def test_in_a_task_where_no_connection_is_free() -> None:
    async with stage(open=False) as here:
        release = asyncio.Event()

        async def read(_params: Any) -> Any:
            await release.wait()
            return {"resultType": "complete", "ttlMs": 1000, "cacheScope": "private", "contents": []}

        here.server.handlers["resources/read"] = read
        channels = [here.read() for _ in range(3)]
        await asyncio.sleep(1)
        assert [channel.complete for channel in channels] == [False] * 3
        release.set()
        await asyncio.sleep(1)
        assert ids(channels) == [1, 2, 3]
        assert here.server.count("resources/read") == 1


@pytest.mark.parametrize("backend", [H, S])
@virtual
async def test_calls_of_a_tool_that_is_opted_in(backend: Era) -> None:
    async with stage(backend) as here:
        asked = [("a", {"x": 1}), ("a", {"x": 1}), ("a", {"x": 2}), ("plain", {}), ("plain", {})]
        channels = [here.ask("tools/call", {"name": name, "arguments": args}, backend) for name, args in asked]
        # `plain` does not say that it only reads.
        assert len(here.server.begun) == 4
        for begun in here.server.begun:
            begun.answer(b'{"content":[]}')
        assert ids(channels) == [1, 2, 3, 4, 5]
        assert (here.coalesced, len(here.cache)) == (1, 2)


@virtual
async def test_across_eras_everyone_gets_the_answer_of_its_own() -> None:
    async with stage(H) as here:
        params = {"name": "a", "arguments": {}}
        channels = [here.ask("tools/call", params, era) for era in (H, S, H, S)]
        for begun in here.server.begun:
            begun.answer(b'{"content":[]}')
        assert ["resultType" in body_of(channel)["result"] for channel in channels] == [False, True, False, True]
        cached = [here.ask("tools/call", params, era) for era in (H, S)]
        assert ["resultType" in body_of(channel)["result"] for channel in cached] == [False, True]
        assert body_of(cached[1])["result"]["_meta"][f"{META}serverInfo"]["name"] == "fake"
        # Nothing in these requests says which revision they are of.
        assert len(here.server.begun) == 1


# Apart.

ANN, BOB = Principal("key:ann", "ann", "key"), Principal("key:bob", "bob", "key")


@virtual
async def test_what_differs_is_not_shared() -> None:
    async with stage() as here:
        requests: list[dict[str, Any]] = [
            {},
            {"principal": ANN},
            {"principal": BOB},
            {"principal": Principal("key:ann", "ann", "key", credential=b"another")},
            {"uri": "test://b"},
            {"_meta": {"tenant": "x"}},
            {"era": H, "cursor": "1"},
        ]
        channels = [here.read(**request) for request in requests]
        assert len(here.server.begun) == len(requests)
        for begun in here.server.begun:
            begun.answer(FRESH)
        assert ids(channels) == list(range(1, len(requests) + 1))
        assert here.coalesced == 0


@pytest.mark.parametrize("member", ["progressToken", f"{META}logLevel"])
@virtual
async def test_who_wants_progress_or_logs_asks_alone_and_keeps_the_answer(member: str) -> None:
    async with stage() as here:
        wanting = here.read(_meta={member: "info"})
        plain = [here.read(), here.read()]
        assert len(here.server.begun) == 2
        token = int(here.server.begun[0].call.id)
        method, params = {
            "progressToken": ("notifications/progress", {"progressToken": token, "progress": 1}),
            f"{META}logLevel": ("notifications/message", {"level": "info", "data": "x"}),
        }[member]
        here.server.begun[0].say(method, **params)
        here.server.begun[0].answer(FRESH)
        assert [event.get("method") for event in events_of(wanting)] == [method, None]
        assert [channel.answers for channel in plain] == [0, 0]
        here.server.begun[1].answer(FRESH)
        assert ids(plain) == [2, 3]
        body_of(here.read(_meta={member: "info"}))
        assert len(here.server.begun) == 2


@pytest.mark.parametrize("member", ["inputResponses", "requestState"])
@virtual
async def test_retries_are_not_shared(member: str) -> None:
    async with stage() as here:
        channels = [here.read(**{member: {}}) for _ in range(2)]
        for begun in here.server.begun:
            begun.answer(FRESH)
        assert ids(channels) == [1, 2]
        assert (len(here.server.begun), here.coalesced, len(here.cache)) == (2, 0, 0)


@virtual
async def test_prompts_and_reads_of_a_backend_without_hints_are_not_shared() -> None:
    async with stage(H) as here:
        channels = [here.read(H), here.read(H), *(here.ask("prompts/get", {"name": "p"}, H) for _ in range(2))]
        assert len(here.server.begun) == 4
        for begun in here.server.begun:
            begun.answer(b'{"contents":[],"messages":[]}')
        assert ids(channels) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "result", [STALE, b'{"resultType":"input_required","ttlMs":9000,"requestState":"s","inputRequests":{}}']
)
@virtual
async def test_an_answer_that_is_not_for_others_sends_them_on_their_way(result: bytes) -> None:
    async with stage() as here:
        channels = [here.read() for _ in range(3)]
        here.server.begun[0].answer(result)
        assert [channel.answers for channel in channels] == [1, 0, 0]
        await asyncio.sleep(0)
        unfit = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "contents": []}
        here.server.handlers["resources/read"] = lambda _params: _value(unfit)
        await asyncio.sleep(0.1)
        assert ids(channels) == [1, 2, 3]
        assert (here.server.count("resources/read"), here.coalesced, len(here.cache)) == (2, 0, 0)
        # It is remembered for a while that nobody should wait for the first one here.
        more = [here.read() for _ in range(3)]
        assert len(here.server.begun) == 4
        for begun in here.server.begun[1:]:
            begun.answer(STALE)
        assert ids(more) == [4, 5, 6]
        await asyncio.sleep(61)
        more = [here.read() for _ in range(3)]
        assert len(here.server.begun) == 5
        here.server.begun[4].answer(FRESH)
        assert ids(more) == [7, 8, 9]


async def _value(value: Any) -> Any:
    return value


@virtual
async def test_what_is_asked_after_a_change_does_not_join_what_was_asked_before() -> None:
    async with stage() as here:
        before = here.read()
        here.cache.invalidate("g", "resources", URI)
        after = [here.read(), here.read()]
        assert len(here.server.begun) == 2
        here.server.begun[0].answer(FRESH)
        assert [channel.answers for channel in (before, *after)] == [1, 0, 0]
        here.server.begun[1].answer(FRESH)
        assert ids([before, *after]) == [1, 2, 3]


# Who leaves.


@pytest.mark.parametrize("leaving", [1, 2, 3])
@virtual
async def test_whoever_leaves_the_others_get_the_answer(leaving: int) -> None:
    async with stage() as here:
        channels = {id: here.read() for id in (1, 2, 3)}
        here.leave(leaving)
        (begun,) = here.server.begun
        assert begun.cancelled == 0
        begun.answer(FRESH)
        gone = channels.pop(leaving)
        assert (gone.answers, ids(list(channels.values()))) == (0, list(channels))


@virtual
async def test_the_call_ends_with_the_last_who_leaves() -> None:
    async with stage() as here:
        channels = [here.read() for _ in range(3)]
        for id in (1, 3):
            here.leave(id)
            assert here.server.begun[0].cancelled == 0
        here.leave(2)
        assert here.server.begun[0].cancelled == 1
        assert [channel.answers for channel in channels] == [0, 0, 0]
        again = here.read()
        here.server.begun[1].answer(FRESH)
        assert ids([again]) == [4]


@virtual
async def test_the_task_of_a_call_ends_with_the_last_who_leaves() -> None:
    async with stage(open=False) as here:
        cancelled = []

        async def hang(_params: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

        here.server.handlers["resources/read"] = hang
        for _ in range(2):
            here.read()
        await asyncio.sleep(1)
        here.leave(1)
        await asyncio.sleep(1)
        assert not cancelled
        here.leave(2)
        await asyncio.sleep(1)
        assert cancelled


@virtual
async def test_a_client_calls_off_its_own_request_alone() -> None:
    async with stage() as here:
        channels = [here.read(H) for _ in range(3)]
        here.proxy.cancel(id=b"1")
        here.proxy.cancel(id=b"3")
        here.proxy.cancel(id=b"3")
        assert [channel.answers for channel in channels] == [1, 0, 1]
        here.server.begun[0].answer(FRESH)
        assert codes(channels) == [-32800, None, -32800]
        channels = [here.read(H, uri="test://b") for _ in range(2)]
        for id in (b"4", b"5"):
            here.proxy.cancel(id=id)
        assert here.server.begun[1].cancelled == 1
        assert codes(channels) == [-32800, -32800]


@pytest.mark.parametrize("cancel", [True, False])
@virtual
async def test_a_call_does_not_speak_to_who_has_left(cancel: bool) -> None:
    async with stage() as here:
        first, second = here.read(H), here.read(H)
        if cancel:
            here.proxy.cancel(id=b"1")
        else:
            here.leave(1)
        answers = first.answers
        here.server.begun[0].say("notifications/message", level="info", data="x")
        assert (first.answers, second.answers) == (answers, 0)
        here.server.begun[0].answer(FRESH)
        assert ids([second]) == [2]


@virtual
async def test_logs_of_a_call_go_to_who_asked_first() -> None:
    async with stage() as here:
        first, second = here.read(H), here.read(H)
        here.server.begun[0].say("notifications/message", level="info", data="x")
        here.server.begun[0].answer(FRESH)
        assert [event.get("id") for event in events_of(first)] == [None, 1]
        assert ids([second]) == [2]


# What goes wrong.


@virtual
async def test_a_failure_is_everybodys() -> None:
    async with stage() as here:
        channels = [here.read() for _ in range(3)]
        here.server.begun[0].done(BackendAnswerError("broken"))
        assert codes(channels) == [BackendAnswerError.code] * 3
        assert ids(channels) == [1, 2, 3]
        channels = [here.read() for _ in range(3)]
        error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}'
        here.server.begun[1].done(scan(error))
        assert codes(channels) == [-32602] * 3
        assert (len(here.server.begun), len(here.cache)) == (2, 0)


@virtual
async def test_a_tools_error_is_everybodys_and_is_not_kept() -> None:
    async with stage() as here:
        channels = [here.ask("tools/call", {"name": "a"}) for _ in range(3)]
        here.server.begun[0].answer(b'{"resultType":"complete","content":[],"isError":true}')
        assert ids(channels) == [1, 2, 3]
        assert (len(here.server.begun), len(here.cache), here.coalesced) == (1, 0, 2)


@virtual
async def test_a_call_that_reached_nobody_is_made_again_for_all() -> None:
    async with stage() as here:
        channels = [here.read() for _ in range(3)]
        here.server.begun[0].done(BackendUnavailable("not now"))
        await asyncio.sleep(5)
        assert codes(channels) == [None] * 3
        assert here.server.count("resources/read") >= 1


@virtual
async def test_who_came_later_is_not_cut_off_by_the_deadline_of_the_first() -> None:
    async with stage(timeout_ms=10_000) as here:
        first = here.read()
        await asyncio.sleep(6)
        later = [here.read(), here.read()]
        await asyncio.sleep(4)
        here.server.begun[0].done(BackendTimeout("slow"))
        assert codes([first]) == [BackendTimeout.code]
        assert [channel.answers for channel in later] == [0, 0]
        assert len(here.server.begun) == 2
        await asyncio.sleep(5)
        here.server.begun[1].answer(FRESH)
        assert codes(later) == [None, None]


@virtual
async def test_nobody_waits_longer_than_it_may() -> None:
    async with stage(timeout_ms=10_000) as here:
        first = here.read()
        for _ in range(3):
            await asyncio.sleep(3)
            here.read()
        await asyncio.sleep(1.5)
        here.server.begun[0].done(BackendTimeout("slow"))
        waiting = [http for id, http in here.exchanges.items() if id > 1]
        answered = []
        for _ in range(12):
            answered.append(sum(http.finished for http in waiting))
            await asyncio.sleep(1)
        # Three, six and nine seconds after the first.
        assert answered == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        assert here.server.begun[1].cancelled == 1
        assert codes([first]) == [BackendTimeout.code]
        assert len(here.server.begun) == 2


@virtual
async def test_a_backend_that_hangs_is_not_called_more_often_than_it_times_out() -> None:
    async with stage(timeout_ms=10_000, open=False) as here:

        async def slow(_params: Any) -> Any:
            await asyncio.sleep(10)
            raise BackendTimeout("no complete answer")

        here.server.handlers["resources/read"] = slow
        channels = []
        for _ in range(1000):
            channels.append(here.read())
            await asyncio.sleep(0.1)
        await asyncio.sleep(20)
        assert set(codes(channels)) == {BackendTimeout.code}
        assert here.server.count("resources/read") <= 12


@virtual
async def test_what_is_wrong_with_one_client_does_not_reach_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as here:
        channels = [here.read() for _ in range(4)]

        def broken(*_: Any) -> None:
            raise LookupError("a bug")

        monkeypatch.setattr(channels[0], "send_response", broken)
        monkeypatch.setattr(channels[2], "settle", broken)
        here.server.begun[0].answer(FRESH)
        assert [channel.answers for channel in channels] == [0, 1, 1, 1]
        assert codes(channels[1:]) == [None] * 3
        assert caplog.messages.count("exchange.failed") == 2


@virtual
async def test_a_call_that_cannot_be_begun_is_everybodys_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as here:

        def broken(*_: Any) -> None:
            raise LookupError("a bug")

        for error in (broken, _refusing):
            monkeypatch.setattr("only1mcp.proxy.coalesce.maybe_begin", error)
            channel = here.read()
            assert codes([channel]) == [-32603 if error is broken else BackendAnswerError.code]


def _refusing(*_: Any) -> None:
    raise BackendAnswerError("cannot be said")
