"""Parked calls in virtual time: they end by themselves, are bounded, keep what came early, and leave nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tests import validity
from tests.backend.fakes import Watch, tool
from tests.proxy.asked import ALL, FORM, NAMED
from tests.proxy.exchanges import Channel, exchange_of
from tests.proxy.lanes import RESULT, Begun, LaneServer, Proxy, body_of, forwarding
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend.base import Clock
from only1mcp.errors import BackendAnswerError, BackendUnavailable, Only1MCPError, RequestRefused
from only1mcp.proxy import parked, parking
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.parked import GATHER_S
from only1mcp.proxy.parking import Lot
from only1mcp.proxy.route import find_target
from only1mcp.wire.asks import META_INPUT_KEY
from only1mcp.wire.mcp import LATEST_STATELESS, META_CAPABILITIES, Era

ANN = Principal("ann", "ann", "key")


class Parking:
    """A proxy with a lot, whose backend asks as the test says."""

    def __init__(self, proxy: Proxy, server: LaneServer) -> None:
        self.proxy = proxy
        self.server = server
        self.lot = Lot(b"k" * 32, worker=0, input_s=300, wall_clock=asyncio.get_running_loop().time)
        proxy.snapshot.desk.lot = self.lot
        for group in proxy.snapshot.groups.values():
            group._learn_era()  # the endpoint came up before there was a group

    def call(self, principal: Principal = ANN, **more: Any) -> tuple[Exchange, Channel]:
        """Forward a call, or a retry; raise what it is refused with."""
        params = {"name": "a", "_meta": {META_CAPABILITIES: ALL}, **more}
        exchange, channel = exchange_of(
            self.proxy.snapshot, params=params, era=Era.STATELESS, principal=principal, headers=[]
        )
        exchange.revision = LATEST_STATELESS
        assert exchange.message is not None
        target = find_target(exchange, exchange.message, "tools/call")
        assert self.proxy.forwarder.forward(exchange, target, "tools/call") is None
        return exchange, channel

    def ask(self, begun: Begun, id: Any = 1, clock: Clock | None = None, name: str | None = None) -> None:
        assert begun.call.asked is not None
        params = FORM if name is None else {**FORM, "_meta": {META_INPUT_KEY: name}}
        request = {"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params}
        begun.call.asked.asked(scan(orjson.dumps(request)), clock)

    async def parked(self, **how: Any) -> tuple[Begun, dict[str, Any]]:
        """Park a call; return it at the backend, and its retry."""
        _, channel = self.call(**how)
        begun = self.server.begun[-1]
        self.ask(begun)
        return begun, await retry_of(channel)

    async def sent(self) -> list[dict[str, Any]]:
        """Return what the backend was sent beside its calls."""
        await asyncio.sleep(0.1)
        sent, self.server.sent[:] = list(self.server.sent), []
        return [message for message in sent if message.get("method") != "notifications/initialized"]


async def retry_of(channel: Channel) -> dict[str, Any]:
    await asyncio.sleep(2 * GATHER_S)
    body = body_of(channel)
    validity.check(body, LATEST_STATELESS, "tools/call")
    result = body["result"]
    return {
        "requestState": result["requestState"],
        "inputResponses": dict.fromkeys(result["inputRequests"], NAMED),
    }


@asynccontextmanager
async def parking_of() -> AsyncIterator[Parking]:
    """Yield it, and see that nothing is left."""
    server = LaneServer(tools=[tool("a")])
    async with forwarding(server) as proxy:
        await proxy.endpoints[0].ready(5)
        place = Parking(proxy, server)
        server.sent.clear()
        yield place
        assert (len(place.lot), place.lot.kept_bytes, dict(place.lot._held)) == (0, 0, {})
        assert not proxy.tasks


@virtual
async def test_the_clock_of_the_call_stands_while_its_client_is_away() -> None:
    async with parking_of() as place:
        place.call()
        (begun,) = place.server.begun
        clock = Watch()
        place.ask(begun, 1, clock)
        place.ask(begun, 2, clock)
        await asyncio.sleep(200)
        assert clock.stops == 2
        begun.answer()
        assert clock.stops == 0
        await place.lot.aclose()


@virtual
async def test_who_does_not_come_back_in_time_loses_the_call() -> None:
    async with parking_of() as place:
        begun, retry = await place.parked()
        clock = Watch()
        place.ask(begun, 2, clock)
        await asyncio.sleep(299)
        assert (begun.cancelled, len(place.lot), await place.sent()) == (0, 1, [])
        await asyncio.sleep(1)
        assert (begun.cancelled, len(place.lot), clock.stops) == (1, 0, 0)
        assert [(message["id"], message["error"]["code"]) for message in await place.sent()] == [
            (1, -32603),
            (2, -32603),
        ]
        with pytest.raises(RequestRefused, match="expired"):
            place.call(**retry)


@virtual
async def test_every_round_has_its_own_time() -> None:
    async with parking_of() as place:
        begun, retry = await place.parked()
        await asyncio.sleep(250)
        _, channel = place.call(**retry)
        place.ask(begun, 2)
        again = await retry_of(channel)
        await asyncio.sleep(250)
        _, channel = place.call(**again)
        begun.answer()
        assert body_of(channel)["result"]["x"] == 1.5
        await place.sent()


@virtual
async def test_a_result_that_comes_early_waits_for_its_client() -> None:
    async with parking_of() as place:
        begun, retry = await place.parked()
        begun.answer()
        assert place.lot.kept_bytes > len(RESULT)
        _, channel = place.call(**retry)
        assert body_of(channel)["result"]["resultType"] == "complete"
        assert await place.sent() == []  # nobody waits for the answer that came with it


@pytest.mark.parametrize("error", [BackendAnswerError("broke"), BackendUnavailable("gone")])
@virtual
async def test_a_backend_that_dies_meanwhile_is_told_with_the_retry_and_not_called_again(error: Only1MCPError) -> None:
    async with parking_of() as place:
        begun, retry = await place.parked()
        begun.done(error)  # type: ignore[arg-type]
        _, channel = place.call(**retry)
        assert body_of(channel)["error"]["code"] == -31007
        assert len(place.server.begun) == 1
        await place.proxy.endpoints[0].ready(5)
        await place.sent()


@virtual
async def test_what_came_early_is_dropped_with_its_call() -> None:
    async with parking_of() as place:
        begun, _ = await place.parked()
        begun.answer()
        await asyncio.sleep(300)
        assert (place.lot.kept_bytes, begun.cancelled) == (0, 0)


@virtual
async def test_a_result_that_is_too_large_to_be_kept() -> None:
    async with parking_of() as place:
        begun, retry = await place.parked()
        begun.answer(b'{"content":[],"x":"' + b"x" * parked.MAX_OUTCOME_BYTES + b'"}')
        assert place.lot.kept_bytes == 0
        _, channel = place.call(**retry)
        error = body_of(channel)["error"]
        assert (error["code"], error["data"]["hint"]) == (-31007, "call again")


@virtual
async def test_results_that_are_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked, "MAX_KEPT_BYTES", 200)
    async with parking_of() as place:
        calls = [await place.parked(id=number) for number in range(3)]
        codes = []
        for begun, _ in calls:
            begun.answer()
            assert place.lot.kept_bytes <= 200
        for number, (_, retry) in enumerate(calls):
            _, channel = place.call(id=number, **retry)
            codes.append(body_of(channel).get("error", {}).get("code"))
        assert codes == [None, None, -31007]


@virtual
async def test_one_principal_cannot_park_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "MAX_PARKED", parking.MAX_PER_PRINCIPAL + 1)
    async with parking_of() as place:
        for number in range(parking.MAX_PER_PRINCIPAL):
            await place.parked(id=number)
        for principal, served in ((ANN, False), (Principal("bob", "bob", "key"), True), (ANN, False)):
            _, channel = place.call(principal)
            place.ask(place.server.begun[-1], "last")
            await asyncio.sleep(2 * GATHER_S)
            assert channel.complete is served
            if not served:
                assert [message["error"]["code"] for message in await place.sent()] == [-32603]
                place.server.begun[-1].answer()
        _, channel = place.call(Principal("eve", "eve", "key"))
        place.ask(place.server.begun[-1], "more")
        assert [message["error"]["message"] for message in await place.sent()] == ["too many requests wait for clients"]
        place.server.begun[-1].answer()
        assert body_of(channel)["result"]
        await place.lot.aclose()
        await place.sent()


@virtual
async def test_one_call_cannot_ask_for_everything_or_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked, "MAX_ROUNDS", 3)
    async with parking_of() as place:
        _, channel = place.call()
        (begun,) = place.server.begun
        for number in range(40):
            place.ask(begun, number)
        retry = await retry_of(channel)
        assert len(retry["inputResponses"]) == 32
        assert [message["id"] for message in await place.sent()] == list(range(32, 40))
        for _ in range(2):
            _, channel = place.call(requestState=retry["requestState"])
            retry = await retry_of(channel)
        _, channel = place.call(requestState=retry["requestState"])
        assert body_of(channel)["error"]["code"] == -32603
        assert begun.cancelled == 1
        assert len(await place.sent()) == 32


@virtual
async def test_what_is_asked_while_the_client_is_away_is_the_next_round() -> None:
    async with parking_of() as place:
        begun, retry = await place.parked()
        place.ask(begun, 2)
        _, channel = place.call(**retry)
        again = await retry_of(channel)
        assert list(again["inputResponses"]) == ["input-2"]
        assert [message["id"] for message in await place.sent()] == [1]
        _, channel = place.call(**again)
        begun.answer()
        assert body_of(channel)["result"]
        assert [message["id"] for message in await place.sent()] == [2]


@virtual
async def test_what_is_asked_message_by_message_is_one_round() -> None:
    async with parking_of() as place:
        _, channel = place.call()
        (begun,) = place.server.begun
        for number in range(3):
            place.ask(begun, number)
            assert channel.answers == 0
            await asyncio.sleep(0.9 * GATHER_S)
        retry = await retry_of(channel)
        assert list(retry["inputResponses"]) == ["input-1", "input-2", "input-3"]
        _, channel = place.call(**retry)
        begun.answer()
        assert body_of(channel)["result"]
        assert sorted(message["id"] for message in await place.sent()) == [0, 1, 2]


@virtual
async def test_no_two_questions_of_a_call_have_the_same_name() -> None:
    async with parking_of() as place:
        _, channel = place.call()
        (begun,) = place.server.begun
        for number, name in enumerate(["user", "user", "input-3", None]):
            place.ask(begun, number, name=name)
        retry = await retry_of(channel)
        assert list(retry["inputResponses"]) == ["user", "input-2", "input-3", "input-4"]
        _, channel = place.call(**retry)
        place.ask(begun, 4, name="user")
        again = await retry_of(channel)
        assert list(again["inputResponses"]) == ["input-5"]
        _, channel = place.call(**again)
        begun.answer()
        assert body_of(channel)["result"]
        assert [message["id"] for message in await place.sent()] == [0, 1, 2, 3, 4]


@virtual
async def test_a_backend_may_take_its_request_back() -> None:
    async with parking_of() as place:
        exchange, channel = place.call()
        (begun,) = place.server.begun
        place.ask(begun, 1)
        begun.say("notifications/cancelled", requestId="another")
        begun.say("notifications/cancelled", requestId=1)
        await asyncio.sleep(2 * GATHER_S)
        assert channel.answers == 0
        place.ask(begun, 2)
        retry = await retry_of(channel)
        begun.say("notifications/cancelled", requestId=2)
        exchange, channel = place.call(**retry)
        assert (channel.answers, exchange.http.on_cancel is None) == (0, False)
        begun.answer()
        assert body_of(channel)["result"]
        assert await place.sent() == []


@virtual
async def test_a_client_that_leaves_in_the_turn_in_which_it_is_asked() -> None:
    async with parking_of() as place:
        exchange, channel = place.call()
        (begun,) = place.server.begun
        place.ask(begun)
        exchange.http.client_gone = True
        assert exchange.http.on_cancel is not None
        exchange.http.on_cancel()
        await asyncio.sleep(2 * GATHER_S)
        assert (channel.answers, begun.cancelled) == (0, 1)
        assert [message["error"]["code"] for message in await place.sent()] == [-32603]


@virtual
async def test_a_backend_that_answers_without_waiting() -> None:
    async with parking_of() as place:
        _, channel = place.call()
        (begun,) = place.server.begun
        place.ask(begun)
        begun.answer()
        await asyncio.sleep(2 * GATHER_S)
        assert body_of(channel)["result"]["resultType"] == "complete"
        assert await place.sent() == []


@virtual
async def test_nothing_is_parked_after_the_end() -> None:
    async with parking_of() as place:
        begun, _ = await place.parked()
        await place.lot.aclose()
        assert begun.cancelled == 1
        _, channel = place.call()
        place.ask(place.server.begun[-1], 2)
        place.server.begun[-1].answer()
        assert body_of(channel)["result"]
        assert [message["id"] for message in await place.sent()] == [1, 2]


@virtual
async def test_what_breaks_costs_the_backend_no_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise LookupError("a bug")

    async with parking_of() as place:
        _, channel = place.call()
        monkeypatch.setattr(parking, "may_ask", broken)
        place.ask(place.server.begun[-1])
        assert "parking.failed" in caplog.messages
        place.server.begun[-1].answer()
        assert body_of(channel)["result"]
        assert [message["error"]["code"] for message in await place.sent()] == [-32603]


@virtual
async def test_a_plain_call_ends_without_a_cycle() -> None:
    async with parking_of() as place:
        exchange, channel = place.call()
        place.server.begun[-1].answer()
        assert body_of(channel)["result"]
        assert exchange.work is None
        exchange, _ = place.call()
        assert exchange.http.on_cancel is not None
        exchange.http.on_cancel()
        assert exchange.work is None
