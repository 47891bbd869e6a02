"""Clients of both eras hear once of what has changed for them, in their own form, and of nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.backend.fakes import FakeServer, Raw, tool
from tests.backend.test_interest import Server
from tests.proxy.hubs import STAMP, hubbed
from tests.proxy.offers import offer
from tests.virtual import virtual

from only1mcp.backend.endpoint import Endpoint
from only1mcp.proxy import hub as hub_module
from only1mcp.proxy import listeners, topics
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.hub import AGE_S
from only1mcp.wire.mcp import Era

TOOLS = {"toolsListChanged": True}
EVERYTHING = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
KEY = Principal("key:k", "k", "key", tools=("a*",))
A = "test://a"
ACK = "subscriptions/acknowledged"


def relist(endpoint: Endpoint, *tools: str) -> None:
    """Let the endpoint have these tools."""
    endpoint.inventory = offer(endpoint.id, tools=list(tools)).inventory


@virtual
async def test_one_notification_for_any_number_of_changes_at_a_time() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        client, session = made.listen(**TOOLS), made.attach()
        assert client.methods() == [ACK]
        for number in range(5):
            relist(backend, "a", f"more{number}")
            made.change()
        await made.told()
        assert client.methods() == ["tools/list_changed"]
        assert session.methods() == ["tools/list_changed"]
        relist(backend, "a", "other")
        made.change()
        await made.told()
        assert client.methods() == ["tools/list_changed"]
        assert session.methods() == ["tools/list_changed"]


@virtual
async def test_equal_lists_are_no_change_and_neither_is_what_comes_back_in_time() -> None:
    backend = offer("b0", tools=["a", "b"])
    async with hubbed(backend) as made:
        client, session = made.listen(**TOOLS), made.attach()
        client.heard()
        relist(backend, "b", "a")
        made.change()
        await made.told()
        relist(backend)
        made.change()
        relist(backend, "a", "b")
        made.change()
        await made.told()
        assert client.heard() == session.heard() == []


@virtual
async def test_changes_without_end_are_told_all_the_same() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        client = made.listen(**TOOLS)
        client.heard()
        for number in range(60):
            relist(backend, f"a{number}")
            made.change()
            await asyncio.sleep(0.05)
        # Three seconds, in which it is told once a second.
        assert 2 <= len(client.heard()) <= 4


@virtual
async def test_only_who_sees_the_change_is_told() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        everybody, some = made.listen(**TOOLS), made.listen(principal=KEY, **TOOLS)
        mine = made.attach(session="s2", principal=KEY)
        everybody.heard(), some.heard()
        relist(backend, "a", "b")
        made.change()
        await made.told()
        assert everybody.methods() == ["tools/list_changed"]
        assert some.heard() == mine.heard() == []
        relist(backend, "a", "ab", "b")
        made.change()
        await made.told()
        assert everybody.methods() == some.methods() == mine.methods() == ["tools/list_changed"]


@virtual
async def test_the_filter_holds_and_is_acknowledged() -> None:
    backend = offer("b0", tools=["a"], prompts=["p"])
    async with hubbed(backend) as made:
        client = made.listen(promptsListChanged=True, toolsListChanged=False, somethingElse=True)
        (ack,) = client.heard()
        assert ack["params"]["notifications"] == {"promptsListChanged": True}
        backend.inventory = offer("b0", tools=["a", "b"], prompts=["p"]).inventory
        made.change()
        await made.told()
        assert client.heard() == []


@pytest.mark.parametrize("id", [7, "7", "listen-1", 0])
def test_every_message_carries_the_id_of_its_listen_as_it_was_given(id: Any) -> None:
    @virtual
    async def test() -> None:
        backend = offer("b0", tools=["a"])
        async with hubbed(backend) as made:
            client = made.listen(id=id, **EVERYTHING)
            relist(backend, "b")
            made.change()
            await made.told()
            await made.hub.aclose()
            *told, last = client.heard()
            assert [message["params"]["_meta"] for message in told] == [{STAMP: id}] * 2
            assert last == {"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", "_meta": {STAMP: id}}}
            assert client.channel.complete

    test()


@virtual
async def test_a_filter_that_is_none() -> None:
    async with hubbed(offer("b0", tools=["a"])) as made:
        client = made.listen(toolsListChanged=True, resourceSubscriptions="test://a")
        assert client.messages[0]["error"]["code"] == -32602
        assert (client.channel.status, len(made.hub)) == (400, 0)


@virtual
async def test_a_client_that_goes_leaves_nothing() -> None:
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        client, session = made.listen(resourceSubscriptions=[A], **TOOLS), made.attach()
        await made.told()
        assert len(made.hub) == 2
        client.vanish()
        session.vanish()
        await made.told()
        assert len(made.hub) == 0
        assert server.uris("unsubscribe") == [A]


@virtual
async def test_a_client_that_does_not_read_is_cut_and_nobody_else() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        slow, quick = made.listen(**TOOLS), made.listen(**TOOLS)
        slow.heard(), quick.heard()
        slow.channel.unsent_bytes = 1 << 20
        relist(backend, "b")
        made.change()
        await made.told()
        assert (slow.channel.closed, slow.channel.complete, slow.heard()) == (True, False, [])
        assert quick.methods() == ["tools/list_changed"]
        assert len(made.hub) == 1


@virtual
async def test_a_thousand_listeners() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        clients = [made.listen(id=number, **TOOLS) for number in range(1000)]
        relist(backend, "b")
        made.change()
        await made.told()
        assert all(client.methods() == [ACK, "tools/list_changed"] for client in clients)
        for client in clients:
            client.vanish()
        assert len(made.hub) == 0


@virtual
async def test_a_key_has_room_for_so_many_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_LISTENS", 2)
    async with hubbed(offer("b0", tools=["a"])) as made:
        first, _, third = [made.listen(principal=KEY, **TOOLS) for _ in range(3)]
        assert third.messages[0]["error"]["code"] == -31006
        assert made.listen(**TOOLS).methods() == [ACK]
        first.vanish()
        assert made.listen(principal=KEY, **TOOLS).methods() == [ACK]


# Sessions


@virtual
async def test_a_session_has_one_stream() -> None:
    async with hubbed(offer("b0", tools=["a"])) as made:
        first, second, other = made.attach(), made.attach(), made.attach(session="s2")
        assert [each.channel.status for each in (first, second, other)] == [200, 409, 200]
        first.vanish()
        assert made.attach().channel.status == 200


@virtual
async def test_events_are_numbered_by_what_the_client_has_seen() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        session = made.attach()
        (primed,) = session.events
        assert (primed["retry"], primed["data"]) == (str(listeners.RETRY_MS), "")
        session.vanish()
        relist(backend, "b")
        made.change()
        again = made.attach(primed["id"])
        assert again.methods() == ["tools/list_changed"]
        latest = again.events[-1]["id"]
        again.vanish()
        assert made.attach(latest).heard() == []


@virtual
async def test_a_first_stream_is_told_of_nothing_from_before() -> None:
    backend = offer("b0", tools=["a"])
    async with hubbed(backend) as made:
        relist(backend, "b")
        made.change()
        session = made.attach()
        await made.told()
        assert session.heard() == []


@virtual
@pytest.mark.parametrize("last", ["x", "g.1.2.3", "g", "g.zzzzzzzzzzzzzzzz.0.0\n"])
async def test_foreign_event_ids(last: str) -> None:
    async with hubbed(offer("b0", tools=["a"])) as made:
        refused = made.attach(last)
        assert (refused.channel.status, refused.messages[0]["error"]["code"]) == (400, -32602)
        assert len(made.hub) == 0


@virtual
async def test_old_revisions_get_no_event_without_data() -> None:
    async with hubbed(offer("b0", tools=["a"])) as made:
        session = made.attach(revision="2025-03-26")
        assert session.channel.status == 200
        assert session.events == []


@virtual
async def test_deleting_a_session_ends_its_stream_and_its_subscriptions() -> None:
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        session = made.attach()
        assert (await made.subscribe(A))["result"] == {}
        made.hub.ended("s1")
        await made.told()
        assert session.channel.complete
        assert server.uris("unsubscribe") == [A]
        assert len(made.hub) == 0


@virtual
async def test_sessions_expire_and_without_a_stream_sooner() -> None:
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        await made.subscribe(A, session="short")
        session = made.attach(session="long")
        await made.subscribe(A, session="long")
        await asyncio.sleep(hub_module.LINGER_S + 1)
        assert len(made.hub) == 1
        assert server.uris("unsubscribe") == []
        await asyncio.sleep(24 * 3600)
        assert session.channel.complete
        assert server.uris("unsubscribe") == [A]
        assert len(made.hub) == 0


# Resources


@pytest.mark.parametrize("era", list(Era))
def test_one_subscription_upstream_for_clients_of_both_eras(era: Era) -> None:
    @virtual
    async def test() -> None:
        server = Server(era)
        async with hubbed(server) as made:
            client, other, session = made.listen(resourceSubscriptions=[A]), made.listen(**EVERYTHING), made.attach()
            assert (await made.subscribe(A))["result"] == {}
            assert (await made.subscribe(A))["result"] == {}
            await made.told()
            (ack,) = client.heard()
            assert ack["params"]["notifications"] == {"resourceSubscriptions": [A]}
            other.heard()
            if era is Era.HANDSHAKE:
                assert server.uris("subscribe") == [A]
                server.transport.tell("notifications/resources/updated", {"uri": A})
                server.transport.tell("notifications/resources/updated", {"uri": A})
            else:
                assert server.filters() == [[A]]
                server.say("notifications/resources/updated", {"uri": A})
            await made.told()
            assert client.heard() == [
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/resources/updated",
                    "params": {"uri": A, "_meta": {STAMP: 7}},
                }
            ]
            assert [message["params"] for message in session.heard()] == [{"uri": A}]
            assert other.heard() == []
            assert (await made.subscribe(A, on=False))["result"] == {}
            client.vanish()
            await made.told()
            if era is Era.HANDSHAKE:
                assert server.uris("unsubscribe") == [A]
            server_says = len(session.heard())
            made.hub.updated("b0", A)
            await made.told()
            assert (server_says, session.heard()) == (0, [])

    test()


@virtual
async def test_what_is_not_granted_is_not_acknowledged() -> None:
    server = Server(Era.STATELESS)
    server.unknown = {"test://no"}
    async with hubbed(server) as made:
        client = made.listen(resourceSubscriptions=[A, "test://no"], **TOOLS)
        await made.told()
        (ack,) = client.heard()
        assert ack["params"]["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": [A]}


@virtual
async def test_a_backend_that_is_silent_does_not_hold_up_the_acknowledgement_for_ever() -> None:
    server = Server(Era.STATELESS)
    server.silent = True
    async with hubbed(server) as made:
        client = made.listen(resourceSubscriptions=[A])
        await asyncio.sleep(hub_module.ACKNOWLEDGE_S - 1)
        assert client.channel.status == 0
        await asyncio.sleep(2)
        (ack,) = client.heard()
        assert ack["params"]["notifications"] == {}
        assert len(made.hub._topics) == 0


@virtual
async def test_a_client_that_goes_before_the_acknowledgement() -> None:
    server = Server(Era.STATELESS)
    server.silent = True
    async with hubbed(server) as made:
        client = made.listen(resourceSubscriptions=[A])
        await asyncio.sleep(1)
        client.vanish()
        server.silent = False
        await asyncio.sleep(10)
        assert client.channel.status == 0
        assert len(made.hub) == len(made.hub._topics) == 0


@virtual
async def test_stopping_before_the_acknowledgement() -> None:
    server = Server(Era.STATELESS)
    server.silent = True
    async with hubbed(server) as made:
        client = made.listen(resourceSubscriptions=[A])
        await asyncio.sleep(1)
        await made.hub.aclose()
        assert (client.channel.status, client.messages[0]["error"]["code"]) == (503, -31006)
        assert made.listen(**TOOLS).channel.status == 503


@virtual
async def test_requests_that_cannot_be_served() -> None:
    server = FakeServer(capabilities={"resources": {"subscribe": True}}, resources=[])
    async with hubbed(server) as made:
        assert (await made.subscribe(None))["error"]["code"] == -32602
        assert (await made.subscribe("x" * 3000))["error"]["code"] == -32602
    plain = FakeServer(capabilities={"resources": {}}, resources=[])
    async with hubbed(plain) as made:
        assert (await made.subscribe(A))["error"]["code"] == -32601
        assert plain.count("resources/subscribe") == len(made.hub) == 0


@virtual
async def test_updates_without_a_stream_wait_for_the_next() -> None:
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        await made.subscribe(A)
        await made.subscribe("test://b")
        for _ in range(3):
            server.transport.tell("notifications/resources/updated", {"uri": A})
            await made.told()
        session = made.attach()
        assert [message["params"]["uri"] for message in session.heard()] == [A]
        session.vanish()
        assert made.attach().heard() == []


@virtual
async def test_missed_updates_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "MAX_MISSED", 2)
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        await made.subscribe("test://dir")
        for number in range(5):
            made.hub.updated("b0", f"test://dir/{number}")
        await made.told()
        assert [message["params"]["uri"] for message in made.attach().heard()] == ["test://dir"]


@virtual
async def test_a_part_of_a_resource_is_told_to_those_who_want_the_whole() -> None:
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        client = made.listen(resourceSubscriptions=["test://dir/", "test://dir/other", "test://di"])
        await made.told()
        client.heard()
        server.transport.tell("notifications/resources/updated", {"uri": "test://dir/x/y"})
        await made.told()
        assert [message["params"]["uri"] for message in client.heard()] == ["test://dir/x/y"]


@virtual
async def test_resources_of_two_backends_do_not_meet() -> None:
    one, other = (Server(Era.HANDSHAKE, resources=[{"uri": A, "name": "a"}]) for _ in range(2))
    async with hubbed(one, other) as made:
        uris = [item.key for item in made.snapshot.catalog.lists["resources/list"].items]
        assert uris[0] == A
        first, second = made.listen(resourceSubscriptions=[uris[0]]), made.listen(resourceSubscriptions=[uris[1]])
        await made.told()
        first.heard(), second.heard()
        assert (one.uris("subscribe"), other.uris("subscribe")) == ([A], [A])
        other.transport.tell("notifications/resources/updated", {"uri": A})
        await made.told()
        assert first.heard() == []
        assert [message["params"]["uri"] for message in second.heard()] == [uris[1]]


@virtual
async def test_a_backend_that_reconnects_tells_of_resources_and_not_of_equal_lists() -> None:
    server = Server(Era.HANDSHAKE, tools=[tool("t")], capabilities={"tools": {}, "resources": {"subscribe": True}})
    async with hubbed(server) as made:
        client = made.listen(resourceSubscriptions=[A], **EVERYTHING)
        await made.told()
        client.heard()
        server.transport.die("gone")
        await made.told()
        made.change()
        await made.told()
        assert client.methods() == ["resources/updated"]
        assert server.uris("subscribe") == [A, A]


@virtual
async def test_a_resource_that_moves_to_another_backend_is_watched_there() -> None:
    one = Server(Era.HANDSHAKE, resources=[{"uri": A, "name": "a"}])
    other = Server(Era.HANDSHAKE, resources=[])
    async with hubbed(one, other) as made:
        client = made.listen(resourceSubscriptions=[A])
        await made.told()
        client.heard()
        first, second = made.groups["b0"].source, made.groups["b1"].source
        assert first is not None
        assert second is not None
        assert first.inventory is not None
        assert second.inventory is not None
        first.inventory.lists["resources/list"], second.inventory.lists["resources/list"] = (
            second.inventory.lists["resources/list"],
            first.inventory.lists["resources/list"],
        )
        made.change()
        await made.told()
        assert (one.uris("unsubscribe"), other.uris("subscribe")) == ([A], [A])
        assert client.methods() == ["resources/updated"]
        one.transport.tell("notifications/resources/updated", {"uri": A})
        await made.told()
        assert client.heard() == []
        other.transport.tell("notifications/resources/updated", {"uri": A})
        await made.told()
        assert client.methods() == ["resources/updated"]


@virtual
async def test_subscriptions_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_WANTED_EACH", 2)
    server = Server(Era.HANDSHAKE)
    async with hubbed(server) as made:
        await made.subscribe("test://1")
        await made.subscribe("test://2")
        assert (await made.subscribe("test://3"))["error"]["code"] == -31006
        await made.subscribe("test://1", on=False)
        assert (await made.subscribe("test://3"))["result"] == {}


@virtual
async def test_one_of_two_subscriptions_that_fails_leaves_the_other() -> None:
    server = Server(Era.HANDSHAKE)
    gate = asyncio.Event()

    async def answer(params: Any) -> Any:
        if params["uri"] == A:
            await gate.wait()
            return {}
        return Raw(error=b'{"code":-32002,"message":"no"}')

    server.handlers["resources/subscribe"] = answer
    async with hubbed(server) as made:
        waiting = asyncio.ensure_future(made.subscribe(A))
        await asyncio.sleep(0.1)
        assert (await made.subscribe("test://b"))["error"]["code"] == -32002
        gate.set()
        assert (await waiting)["result"] == {}
        assert len(made.hub) == 1


@pytest.mark.parametrize("era", list(Era))
def test_a_backend_that_tells_of_nothing_is_read_again_while_somebody_listens(era: Era) -> None:
    @virtual
    async def run() -> None:
        server = FakeServer(era=era, capabilities={"tools": {}}, tools=[tool("a")])
        telling = FakeServer(era=era, tools=[tool("b")])
        async with hubbed(server, telling) as place:
            place.groups["b0"].endpoints["b0"]._on_change = lambda _: place.change()
            await asyncio.sleep(2 * AGE_S)
            assert server.count("tools/list") == 1  # there is nobody to tell
            listen, session = place.listen(toolsListChanged=True), place.attach()
            listen.heard()
            server.lists["tools/list"].append(tool("c"))
            await asyncio.sleep(1.3 * AGE_S)
            assert listen.methods() == session.methods() == ["tools/list_changed"]
            await asyncio.sleep(1.3 * AGE_S)
            assert (listen.methods(), session.methods()) == ([], [])
            assert telling.count("tools/list") == 1
            read = server.count("tools/list")
            listen.vanish()
            session.vanish()
            await asyncio.sleep(3 * AGE_S)
            assert server.count("tools/list") == read

    run()


@virtual
async def test_two_lists_that_change_at_a_time_are_told_once_each() -> None:
    server = FakeServer(tools=[tool("a")], prompts=[{"name": "p"}], resources=[])
    async with hubbed(server) as place:
        place.groups["b0"].endpoints["b0"]._on_change = lambda _: place.change()
        listen, session = place.listen(**EVERYTHING), place.attach()
        listen.heard()
        server.lists["tools/list"].append(tool("c"))
        server.lists["prompts/list"].append({"name": "q"})
        for _ in range(3):
            server.transport.tell("notifications/tools/list_changed")
            server.transport.tell("notifications/prompts/list_changed")
        await asyncio.sleep(10)
        assert listen.methods() == session.methods() == ["tools/list_changed", "prompts/list_changed"]


@virtual
async def test_what_is_for_one_session_is_said_as_long_as_it_is_read() -> None:
    message = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
    async with hubbed(FakeServer(tools=[tool("a")])) as place:
        assert not place.hub.tell("s1", message)
        session, other = place.attach(), place.attach(session="s2")
        assert place.hub.tell("s1", message)
        session.channel.unsent_bytes = 200_000
        assert not place.hub.tell("s1", message)
        session.channel.unsent_bytes = 0
        assert place.hub.tell("s1", message)
        assert (session.methods(), other.methods(), session.channel.closed) == (["message"] * 2, [], False)
