"""Resources are asked for once however many want them, anew on every connection, and given up with the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tests import validity
from tests.backend.fakes import FakeServer, Raw, Watched, http
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend import interest
from only1mcp.backend.interest import Subscriptions, subscribable
from only1mcp.errors import BackendTimeout, BackendUnavailable, Overloaded, RequestRefused
from only1mcp.wire.mcp import Era

OFFERS = {"resources": {"subscribe": True}}
A, B = "test://a", "test://b"


class Server(FakeServer):
    """Acknowledges listens: all resources but the `unknown`."""

    def __init__(self, era: Era, **options: Any) -> None:
        super().__init__(era=era, **{"capabilities": OFFERS, "resources": [], **options})
        self.unknown: set[str] = set()
        self.silent = False
        self.acknowledged = asyncio.Event()
        self.end = asyncio.Event()
        self.handlers["subscriptions/listen"] = self._listen

    async def _listen(self, params: dict[str, Any]) -> Any:
        call = self.transport.calls[-1]
        message = orjson.loads(call.message)
        validity.check(message, "2026-07-28")
        wanted = params["notifications"].get("resourceSubscriptions", [])
        granted = {"resourceSubscriptions": [uri for uri in wanted if uri not in self.unknown]}
        if not self.silent:
            self.say("notifications/subscriptions/acknowledged", {"notifications": granted}, len(self.listens) - 1)
            self.acknowledged.set()
        await self.end.wait()
        return {"resultType": "complete"}

    @property
    def listens(self) -> list[Any]:
        return [call for call in self.transport.calls if call.method == "subscriptions/listen"]

    def say(self, method: str, params: dict[str, Any], listen: int = -1) -> None:
        call = self.listens[listen]
        meta = {"io.modelcontextprotocol/subscriptionId": call.id.decode()}
        message = {"jsonrpc": "2.0", "method": method, "params": {**params, "_meta": meta}}
        validity.check(message, "2026-07-28")
        call.on_message(scan(orjson.dumps(message)))

    def filters(self) -> list[list[str]]:
        return [p["notifications"]["resourceSubscriptions"] for m, p in self.asked if m == "subscriptions/listen"]

    def uris(self, method: str) -> list[str]:
        return [params["uri"] for asked, params in self.asked if asked == f"resources/{method}"]


class Known:
    def __init__(self, server: Server, watched: Watched) -> None:
        self.server = server
        self.endpoint = watched.endpoint
        self.gaps: list[str] = []
        self.subscriptions = Subscriptions(self.endpoint, self.gaps.append)
        self.endpoint.interest = self.subscriptions


@asynccontextmanager
async def known(server: Server, **config: Any) -> AsyncIterator[Known]:
    watched = Watched(server, http(**config))
    made = Known(server, watched)
    async with watched:
        try:
            yield made
        finally:
            await made.subscriptions.aclose()


async def reconnected(made: Known) -> None:
    former = made.server.transport
    former.die("gone")
    await asyncio.sleep(5)
    assert made.endpoint.peer is not None
    assert made.endpoint.transport is not former


@virtual
async def test_handshake_asks_once_and_gives_up_with_the_last() -> None:
    server = Server(Era.HANDSHAKE)
    async with known(server) as made:
        await asyncio.gather(*(made.subscriptions.want(A) for _ in range(3)))
        await made.subscriptions.want(B)
        assert server.uris("subscribe") == [A, B]
        made.subscriptions.unwant(A)
        made.subscriptions.unwant(A)
        await asyncio.sleep(1)
        assert server.uris("unsubscribe") == []
        made.subscriptions.unwant(A)
        await asyncio.sleep(1)
        assert server.uris("unsubscribe") == [A]
        assert len(made.subscriptions) == 1
        for method, params in server.asked:
            if method.startswith("resources/") and method.endswith("subscribe"):
                validity.check({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, "2025-11-25")


@virtual
async def test_wanting_again_while_the_backend_is_told_otherwise_ends_subscribed() -> None:
    server, gate = Server(Era.HANDSHAKE), asyncio.Event()

    async def slowly(_: Any) -> Any:
        await gate.wait()
        return {}

    async with known(server) as made:
        await made.subscriptions.want(A)
        server.handlers["resources/unsubscribe"] = slowly
        made.subscriptions.unwant(A)
        await asyncio.sleep(0.1)
        again = asyncio.ensure_future(made.subscriptions.want(A))
        await asyncio.sleep(0.1)
        assert not again.done()
        gate.set()
        await again
        assert [m for m, _ in server.asked if "subscribe" in m] == [
            "resources/subscribe",
            "resources/unsubscribe",
            "resources/subscribe",
        ]


@pytest.mark.parametrize("era", list(Era))
def test_a_new_connection_is_asked_again_and_what_may_have_been_missed_is_told(era: Era) -> None:
    @virtual
    async def test() -> None:
        server = Server(era)
        async with known(server) as made:
            await made.subscriptions.want(A)
            await made.subscriptions.want(B)
            assert made.gaps == []
            before = len(server.asked)
            await reconnected(made)
            await asyncio.sleep(1)
            later = server.asked[before:]
            if era is Era.HANDSHAKE:
                assert [p["uri"] for m, p in later if m == "resources/subscribe"] == [A, B]
            else:
                assert [p["notifications"] for m, p in later if m == "subscriptions/listen"] == [
                    {"resourceSubscriptions": [A, B]}
                ]
            assert made.gaps == [A, B]

    test()


@virtual
async def test_the_backends_refusal_reaches_all_who_wait_and_a_later_want_asks_again() -> None:
    server = Server(Era.HANDSHAKE)
    refusal = Raw(error=b'{"code":-32002,"message":"no such resource","data":{"uri":"test://a"}}')

    async def refuse(_: Any) -> Any:
        return refusal

    server.handlers["resources/subscribe"] = refuse
    async with known(server) as made:
        errors = await asyncio.gather(*(made.subscriptions.want(A) for _ in range(2)), return_exceptions=True)
        assert [(type(e), e.code, e.data) for e in errors] == [  # type: ignore[union-attr]
            (RequestRefused, -32002, {"uri": A})
        ] * 2
        assert len(made.subscriptions) == 0
        del server.handlers["resources/subscribe"]
        await made.subscriptions.want(A)
        assert server.uris("subscribe") == [A, A]


@virtual
async def test_codes_of_one_era_do_not_leave_it() -> None:
    server = Server(Era.STATELESS)

    async def refuse(_: Any) -> Any:
        return Raw(error=b'{"code":-32021,"message":"declare more"}')

    server.handlers["subscriptions/listen"] = refuse
    async with known(server) as made:
        with pytest.raises(RequestRefused) as caught:
            await made.subscriptions.want(A)
        assert caught.value.code == -32603


@virtual
async def test_a_backend_that_gives_no_answer_is_waited_for_no_longer_than_its_timeout() -> None:
    server = Server(Era.HANDSHAKE)

    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    server.handlers["resources/subscribe"] = never
    async with known(server, timeout_ms=2000) as made:
        began = asyncio.get_running_loop().time()
        with pytest.raises(BackendTimeout):
            await made.subscriptions.want(A)
        assert asyncio.get_running_loop().time() - began < 2.5
        assert len(made.subscriptions) == 0


@virtual
async def test_who_does_not_serve_subscriptions_is_not_asked() -> None:
    server = Server(Era.HANDSHAKE, capabilities={"resources": {}})
    async with known(server) as made:
        with pytest.raises(RequestRefused) as caught:
            await made.subscriptions.want(A)
        assert caught.value.code == -32601
        assert server.uris("subscribe") == []
        assert made.endpoint.peer is not None
        assert not subscribable(made.endpoint.peer)


@virtual
async def test_a_backend_that_is_away() -> None:
    server = Server(Era.HANDSHAKE)
    server.start_error = "not there"
    async with known(server) as made:
        with pytest.raises(BackendUnavailable):
            await made.subscriptions.want(A)
        assert len(made.subscriptions) == 0


@virtual
async def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interest, "MAX_URIS", 2)
    async with known(Server(Era.HANDSHAKE)) as made:
        await made.subscriptions.want(A)
        await made.subscriptions.want(B)
        await made.subscriptions.want(B)
        with pytest.raises(Overloaded):
            await made.subscriptions.want("test://c")


@virtual
async def test_stateless_puts_all_into_one_listen_and_replaces_it_before_it_ends_the_former() -> None:
    server = Server(Era.STATELESS)
    async with known(server) as made:
        heard: list[str] = []
        made.endpoint._on_stale = lambda _endpoint, _kind, uri: heard.append(uri or "")
        await asyncio.gather(made.subscriptions.want(A), made.subscriptions.want(B))
        assert server.filters() == [[A, B]]
        server.silent = True
        waiting = asyncio.ensure_future(made.subscriptions.want("test://c"))
        await asyncio.sleep(1)
        assert server.filters() == [[A, B], [A, B, "test://c"]]
        # The new one has not been acknowledged: the former still speaks, the new one does not yet.
        server.say("notifications/resources/updated", {"uri": A}, 0)
        server.say("notifications/resources/updated", {"uri": A}, 1)
        assert heard == [A]
        granted = {"notifications": {"resourceSubscriptions": [A, B, "test://c"]}}
        server.say("notifications/subscriptions/acknowledged", granted, 1)
        await waiting
        server.say("notifications/resources/updated", {"uri": B}, 0)
        server.say("notifications/resources/updated", {"uri": "test://c"}, 1)
        assert heard == [A, "test://c"]
        assert made.gaps == []


@virtual
async def test_stateless_names_what_it_grants() -> None:
    server = Server(Era.STATELESS)
    server.unknown = {B}
    async with known(server) as made:
        granted, refused = await asyncio.gather(
            made.subscriptions.want(A), made.subscriptions.want(B), return_exceptions=True
        )
        assert granted is None
        assert isinstance(refused, RequestRefused)
        with pytest.raises(RequestRefused):
            await made.subscriptions.want(B)
        assert list(made.subscriptions.wants) == [A]


@virtual
async def test_stateless_listens_again_after_a_break_and_not_at_all_for_nothing() -> None:
    server = Server(Era.STATELESS)
    async with known(server) as made:
        await made.subscriptions.want(A)
        server.end.set()
        server.end = asyncio.Event()
        await asyncio.sleep(5)
        assert server.filters() == [[A], [A]]
        assert made.gaps == [A]
        made.subscriptions.unwant(A)
        await asyncio.sleep(5)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("subscribe")]
        assert server.filters() == [[A], [A]]


@virtual
async def test_stateless_want_given_up_and_wanted_again_at_once() -> None:
    server = Server(Era.STATELESS)
    async with known(server) as made:
        await made.subscriptions.want(A)
        made.subscriptions.unwant(A)
        await made.subscriptions.want(A)
        assert server.filters() == [[A]]


@virtual
async def test_closing_answers_whoever_waits() -> None:
    server = Server(Era.STATELESS)
    server.silent = True
    async with known(server) as made:
        waiting = asyncio.ensure_future(made.subscriptions.want(A))
        await asyncio.sleep(1)
        await made.subscriptions.aclose()
        with pytest.raises(BackendUnavailable):
            await waiting
