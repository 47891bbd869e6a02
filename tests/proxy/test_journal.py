"""A client that comes back to its stream is told what it missed, once, and nobody else is; nothing is kept for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import HANDSHAKE, Backend, Call, Outcome, text
from tests.mcp_caller import Caller, request
from tests.proxy.exchanges import ANONYMOUS, Channel, exchange_of
from tests.proxy.offers import offer
from tests.validity import check
from tests.virtual import virtual

from only1mcp.config.schema import Config
from only1mcp.errors import RequestRefused
from only1mcp.frontend.session import Session
from only1mcp.proxy import journal
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.desk import Desk, Quiet
from only1mcp.proxy.exchange import Exchange, Snapshot
from only1mcp.proxy.group import make_groups
from only1mcp.proxy.journal import KEPT_S, Journals
from only1mcp.wire.sse import Event, SSEDecoder

REVISION = "2025-11-25"
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
ASK = b'{"jsonrpc":"2.0","id":"a","method":"roots/list"}'
RESPONSE = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'


class Asker(Quiet):
    """Notes the exchanges that are over."""

    def __init__(self) -> None:
        self.ended: list[Exchange] = []

    def over(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


class Streams(Quiet):
    """The part of `Sessions` that is looked at here."""

    def __init__(self) -> None:
        self.journals = Journals()

    def journal(self, exchange: Exchange) -> Any:
        return self.journals.open(exchange)


class House:
    """Response streams without connections."""

    def __init__(self) -> None:
        self.streams, self.asker = Streams(), Asker()
        self.journals = self.streams.journals
        groups = make_groups([offer("a", tools=["t"])], Config(version="1.0").proxy.load_balancer)
        desk = Desk(asker=self.asker, sessions=self.streams)
        self.snapshot = Snapshot(Config(version="1.0"), groups, Catalog(groups, "auto"), desk)

    def stream(self, session: str = "s", revision: str = REVISION) -> Stream:
        """Begin a response stream, as a backend's first progress does."""
        stream = Stream(self, session, revision)
        stream.exchange.http.defer(stream.abandon)
        stream.exchange.interim(PROGRESS)
        return stream

    def resume(self, last_event_id: str, session: str = "s", until: float | None = None) -> tuple[Exchange, Channel]:
        principal = replace(ANONYMOUS, expires_at=until)
        exchange, channel = exchange_of(self.snapshot, principal=principal)
        exchange.session, exchange.message = _session(session), None
        self.journals.resume(exchange, last_event_id)
        return exchange, channel

    def nothing_is_left(self) -> bool:
        left = (self.journals._by_session, self.journals._live, self.journals._ended)
        return not any(left) and len(self.journals) == self.journals.bytes == 0 and self.journals._timer is None


class Stream:
    """One response stream, and the work behind it, which asks its journal as `proxy.forward.Forwarding` does."""

    def __init__(self, house: House, session: str, revision: str) -> None:
        self.exchange, self.channel = exchange_of(house.snapshot)
        self.exchange.session = _session(session, revision)
        self.abandoned = 0

    def abandon(self) -> None:
        kept = self.exchange.journal
        if kept is None or not kept.detached(self.abandon):
            self.abandoned += 1

    def leave(self) -> None:
        gone(self.exchange)


def gone(exchange: Exchange) -> None:
    """Do what the connection does when its client has gone."""
    http = exchange.http
    http.client_gone = not http.finished
    finish(exchange)


def finish(exchange: Exchange) -> None:
    http = exchange.http
    on_cancel, http.on_cancel = http.on_cancel, None
    if on_cancel is not None:
        on_cancel()
    if http.on_finish is not None:
        http.on_finish(http)


def events(channel: Channel) -> list[Event]:
    found = SSEDecoder(1 << 20).receive_data(channel.body)
    for event in found:
        if event.data:
            check(json.loads(event.data), REVISION, "tools/call")
    return found


def said(channel: Channel) -> list[bytes]:
    return [event.data for event in events(channel) if event.data]


def _session(id: str, revision: str = REVISION) -> Session:
    return Session(id, "anonymous", revision, b"{}", 1e12)


def refused(resume: Callable[[], object]) -> bool:
    with pytest.raises(RequestRefused) as caught:
        resume()
    return (caught.value.code, caught.value.http_status) == (-32602, 400)


@virtual
async def test_a_stream_begins_with_an_id_and_a_time_to_come_back() -> None:
    house = House()
    stream = house.stream()
    stream.exchange.ask(ASK)
    stream.exchange.reply(200, RESPONSE)
    assert stream.channel.complete
    assert stream.channel.body.startswith(b"id: p.0.1.0\nretry: 1000\ndata: \n\n")
    assert [(event.id, event.data) for event in events(stream.channel)] == [
        ("p.0.1.0", b""),
        ("p.0.1.0", PROGRESS),
        ("p.0.1.1", ASK),
        ("p.0.1.2", RESPONSE),
    ]
    assert house.asker.ended == [stream.exchange]
    house.journals.close()
    assert house.nothing_is_left()


@virtual
async def test_older_clients_are_given_no_event_without_data() -> None:
    house = House()
    stream = house.stream(revision="2025-06-18")
    assert [event.id for event in events(stream.channel)] == [None]
    stream.leave()
    assert stream.abandoned == 1
    assert house.nothing_is_left()


@virtual
async def test_what_came_while_the_client_was_away_is_said_again() -> None:
    house = House()
    stream = house.stream()
    stream.leave()
    stream.exchange.ask(ASK)
    stream.exchange.interim(PROGRESS)
    stream.exchange.reply(200, RESPONSE)
    assert (stream.abandoned, said(stream.channel)) == (0, [PROGRESS])
    _, channel = house.resume("p.0.1.0")
    assert said(channel) == [ASK, RESPONSE]
    assert channel.complete
    _, channel = house.resume("p.0.1.1")
    assert [(event.id, event.data) for event in events(channel)] == [("p.0.1.2", RESPONSE)]
    _, channel = house.resume("p.0.1.2")
    assert (channel.status, channel.body, channel.complete) == (200, b"", True)
    house.journals.close()


@virtual
async def test_a_stream_goes_on_where_the_client_has_come_back() -> None:
    house = House()
    stream = house.stream()
    stream.exchange.ask(ASK)
    stream.leave()
    back, channel = house.resume("p.0.1.0")
    assert said(channel) == [ASK]  # not answered yet, as far as we know
    stream.exchange.interim(PROGRESS)
    assert not channel.complete
    gone(back)  # and away again
    again, last = house.resume("p.0.1.1")
    stream.exchange.reply(200, RESPONSE)
    finish(again)
    assert (said(channel), said(last), last.complete) == ([ASK, PROGRESS], [RESPONSE], True)
    assert stream.abandoned == 0
    house.journals.close()
    assert house.nothing_is_left()


@virtual
async def test_the_later_reader_takes_the_place_of_the_earlier() -> None:
    house = House()
    stream = house.stream()
    first = stream.exchange.http
    _, channel = house.resume("p.0.1.0")
    assert stream.channel.closed
    assert first.on_finish is not None
    first.on_finish(first)  # its connection closes, which is not the end of the work
    _, second = house.resume("p.0.1.0")
    assert channel.closed
    stream.exchange.reply(200, RESPONSE)
    assert (said(channel), said(second)) == ([], [RESPONSE])
    assert stream.abandoned == 0
    house.journals.close()


@virtual
async def test_nobody_is_told_what_belongs_to_another() -> None:
    house = House()
    stream = house.stream("one")
    stream.leave()
    stream.exchange.reply(200, RESPONSE)
    ids = ["p.0.1.2", "p.0.2.0", "p.1.1.0", "p.0.1", "p.0.1.0 ", "p.0.1.-1", "p." + "9" * 60, "p.0.1.99999999999", "p."]
    assert all(refused(lambda id=id: house.resume(id, "one")) for id in ids)
    assert refused(lambda: house.resume("p.0.1.0", "other"))
    assert said(house.resume("p.0.1.0", "one")[1]) == [RESPONSE]
    house.journals.close()


@virtual
async def test_a_client_that_stays_away_is_given_up() -> None:
    import asyncio

    house = House()
    away, late = house.stream("one"), house.stream("two")
    away.leave()
    late.leave()
    await asyncio.sleep(KEPT_S / 2)
    back, _ = house.resume("p.0.2.0", "two")
    await asyncio.sleep(KEPT_S / 2)
    assert (away.abandoned, late.abandoned) == (1, 0)
    assert house.asker.ended == [away.exchange]
    assert refused(lambda: house.resume("p.0.1.0", "one"))
    late.exchange.reply(200, RESPONSE)
    finish(back)
    await asyncio.sleep(KEPT_S)
    assert late.abandoned == 0
    assert house.nothing_is_left()


@virtual
async def test_with_the_session_ends_what_is_done_for_it() -> None:
    house = House()
    away, attached, other, answered = house.stream("one"), house.stream("one"), house.stream("two"), house.stream("one")
    away.leave()
    answered.exchange.reply(200, RESPONSE)
    house.journals.end_session("one")
    assert (away.abandoned, attached.abandoned, other.abandoned) == (1, 0, 0)
    attached.exchange.reply(200, RESPONSE)
    assert said(attached.channel) == [PROGRESS, RESPONSE]
    assert refused(lambda: house.resume("p.0.2.0", "one"))
    other.leave()
    assert len(house.journals) == 1
    house.journals.close()
    assert other.abandoned == 1
    assert house.nothing_is_left()
    assert house.stream().exchange.journal is None  # nothing new is kept by what is closing


@virtual
async def test_what_does_not_wait_for_its_client_is_not_kept() -> None:
    house = House()
    stopped = house.stream()
    finish(stopped.exchange)  # we close the connection ourselves: it has not gone
    assert stopped.abandoned == 1
    cancelled = house.stream()
    cancelled.leave()
    cancelled.abandon()  # the client says that it does not want the answer
    cancelled.exchange.reply(200, RESPONSE)
    assert cancelled.abandoned == 1
    house.journals.close()
    assert house.nothing_is_left()


@virtual
async def test_a_stream_whose_work_ends_with_its_connection_cannot_be_resumed() -> None:
    house = House()
    stream = Stream(house, "s", REVISION)
    stream.exchange.interim(PROGRESS)  # without `defer`: a task of the connection
    assert stream.exchange.journal is None
    ended = house.stream()
    ended.exchange.http.on_cancel = None
    gone(ended.exchange)  # the work has gone over to such a task meanwhile
    assert house.nothing_is_left()


@virtual
async def test_streams_of_one_session_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_OF_SESSION", 2)
    monkeypatch.setattr(journal, "MAX_JOURNALS", 3)
    house = House()
    first, second, third = house.stream(), house.stream(), house.stream()
    assert third.exchange.journal is None
    assert house.stream("other").exchange.journal is not None
    assert house.stream("third").exchange.journal is None
    second.exchange.reply(200, RESPONSE)
    assert house.stream().exchange.journal is not None  # in the place of the one that has ended
    assert refused(lambda: house.resume("p.0.2.0"))
    first.leave()
    assert said(house.resume("p.0.1.0")[1]) == []
    house.journals.close()
    assert house.nothing_is_left()


@virtual
async def test_what_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_JOURNAL_BYTES", 2 * len(RESPONSE))
    house = House()
    large = orjson.dumps({"jsonrpc": "2.0", "id": 7, "result": {"content": [], "x": "x" * 200}})
    attached, away = house.stream(), house.stream()
    attached.exchange.reply(200, large)
    assert said(attached.channel) == [PROGRESS, large]
    assert refused(lambda: house.resume("p.0.1.0"))
    away.leave()
    away.exchange.reply(200, large)
    (error,) = said(house.resume("p.0.2.0")[1])
    assert (json.loads(error)["id"], json.loads(error)["error"]["code"]) == (7, -32603)
    lost = house.stream()
    lost.exchange.ask(b'{"jsonrpc":"2.0","id":"a","method":"ping","params":{"x":"' + b"x" * 200 + b'"}}')
    lost.leave()
    assert refused(lambda: house.resume("p.0.3.0"))  # it would not hear that it was asked
    assert said(house.resume("p.0.3.1")[1]) == []
    house.journals.close()
    assert house.nothing_is_left()


@virtual
async def test_all_journals_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 2 * len(RESPONSE))
    house = House()
    for number in range(3):
        house.stream(f"s{number}").exchange.reply(200, RESPONSE)
    assert refused(lambda: house.resume("p.0.1.0", "s0"))  # made room
    assert said(house.resume("p.0.2.0", "s1")[1]) == [RESPONSE]
    assert house.journals.bytes == 2 * len(RESPONSE)
    house.journals.close()
    assert house.nothing_is_left()


@virtual
async def test_a_large_result_passes_a_reader_and_waits_for_one_that_is_away() -> None:
    house = House()
    attached, away = house.stream(), house.stream()
    assert attached.exchange.begin_passing(None)
    assert attached.exchange.journal is None
    away.leave()
    assert not away.exchange.begin_passing(None)
    house.journals.close()
    assert house.nothing_is_left()


# Through the whole proxy.


async def held(call: Call) -> Outcome:
    await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
    await call.backend.hold(call)
    return text("released")


async def begin(caller: Caller, tool: str) -> str:
    """Call a tool and return the id of the first event of the stream."""
    message = request("tools/call", id=5, name=tool, arguments={}, _meta={"progressToken": "t"})
    fields: Any = {"mcp-session-id": caller.session, "mcp-protocol-version": REVISION}
    caller.write(message, fields)
    status, headers = await caller.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    decoder, found = SSEDecoder(1 << 20), []
    while not any(event.data for event in found):
        found += decoder.receive_data(await caller.chunk())
    assert (found[0].data, decoder.retry_ms) == (b"", 1000)
    assert found[0].id is not None
    return found[0].id


async def test_a_call_outlives_its_connection() -> None:
    backend = Backend(era=HANDSHAKE, tools={"held": held})
    async with proxied(backend) as port, Caller(port) as caller, Caller(port) as back, Caller(port) as stranger:
        await caller.initialize()
        await stranger.initialize()
        id = await begin(caller, "held")
        caller.vanish()
        foreign = {"mcp-session-id": stranger.session, "last-event-id": id}
        refusal = await stranger.send(b"", dict(foreign), method="GET")
        assert (refusal.status, refusal.code) == (400, -32602)
        check(refusal.error and {"jsonrpc": "2.0", "error": refusal.error}, REVISION)
        back.write(b"", {"mcp-session-id": caller.session, "last-event-id": id}, method="GET")
        assert (await back.head())[0] == 200
        backend.release.set()
        (event,) = SSEDecoder(1 << 20).receive_data(await back.chunk())
        check(json.loads(event.data), REVISION, "tools/call")
        assert json.loads(event.data)["result"] == text("released")
        assert await back.chunk() == b""
        assert backend.abandoned == []


async def test_what_is_not_resumed_ends_with_the_proxy_and_with_the_session() -> None:
    backend = Backend(era=HANDSHAKE, tools={"held": held})
    async with backend, running(configured(backend)) as worker:
        assert worker.listener is not None
        port = worker.listener.port
        async with Caller(port) as caller, Caller(port) as other:
            await caller.initialize()
            await begin(caller, "held")
            caller.vanish()
            await caller.is_closed()
            deleted = await other.send(b"", {"mcp-session-id": caller.session}, method="DELETE")
            assert deleted.status == 204
            await backend.notified.wait()  # that the call is cancelled
            assert len(worker.desk.sessions.journals) == 0


@virtual
async def test_who_has_come_back_with_credentials_that_end_has_to_come_back_again() -> None:
    house = House()
    house.journals.wall_clock = lambda: asyncio.get_running_loop().time()
    stream = house.stream()
    gone(stream.exchange)
    stream.exchange.ask(ASK)
    again, channel = house.resume("p.0.1.0", until=5.0)
    assert said(channel) == [ASK]
    await asyncio.sleep(4)
    assert not channel.closed
    await asyncio.sleep(2)
    assert channel.closed
    finish(again)
    # The work goes on, and what it comes to waits for the client.
    stream.exchange.reply(200, RESPONSE)
    _, last = house.resume("p.0.1.1", until=20.0)
    assert said(last) == [RESPONSE]
    await asyncio.sleep(2 * KEPT_S)
    assert house.nothing_is_left()
