"""What a session has set holds for it and for nobody else; it has one stream, and nothing is left when it ends."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from tests.in_process import proxied
from tests.mcp_backend import HANDSHAKE, STATELESS, Backend, Call, Outcome, text
from tests.mcp_caller import Caller, Reply
from tests.proxy.exchanges import Channel, exchange_of
from tests.proxy.offers import offer
from tests.validity import check

from only1mcp.config.schema import Config
from only1mcp.frontend.session import Session
from only1mcp.proxy import sessions
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.desk import Desk, Quiet
from only1mcp.proxy.exchange import Exchange, Snapshot
from only1mcp.proxy.group import make_groups
from only1mcp.proxy.sessions import Sessions
from only1mcp.wire.levels import LEVELS, RANK

LOG_LEVEL = "io.modelcontextprotocol/logLevel"


async def chatty(call: Call) -> Outcome:
    for level in LEVELS:
        await call.say(method="notifications/message", params={"level": level, "data": level})
    return text("done")


async def accepting(call: Call) -> Outcome:
    check(call.message, "2025-11-25")
    return {}


def logger(era: str = HANDSHAKE) -> Backend:
    return Backend(era=era, tools={"chatty": chatty}, scripts={"logging/setLevel": accepting})


def told(backend: Backend) -> list[str]:
    return [each["params"]["level"] for each in backend.received if each.get("method") == "logging/setLevel"]


def levels_in(reply: Reply, revision: str = "2025-11-25") -> list[str]:
    for message in reply.messages:
        check(message, revision, "tools/call")
    return [message["params"]["level"] for message in reply.messages if "method" in message]


async def test_the_level_is_told_and_kept_to() -> None:
    backend = logger()
    async with proxied(backend) as port, Caller(port) as caller:
        initialized = await caller.initialize()
        check(initialized.response, "2025-11-25", "initialize")
        assert initialized.result["capabilities"]["logging"] == {}
        assert levels_in(await caller.call("chatty")) == list(LEVELS)
        assert (await caller.ask("logging/setLevel", level="error")).result == {}
        # Told no more than what others get who set none.
        assert told(backend) == ["info"]
        assert levels_in(await caller.call("chatty")) == ["error", "critical", "alert", "emergency"]
        await caller.ask("logging/setLevel", level="debug")
        assert told(backend) == ["info", "debug"]
        assert levels_in(await caller.call("chatty")) == list(LEVELS)


async def test_what_one_session_wants_is_not_pushed_on_another() -> None:
    backend = logger()
    async with proxied(backend) as port, Caller(port) as one, Caller(port) as other, Caller(port) as third:
        for caller in (one, other, third):
            await caller.initialize()
        await one.ask("logging/setLevel", level="debug")
        await other.ask("logging/setLevel", level="alert")
        assert told(backend) == ["debug"]
        assert levels_in(await one.call("chatty")) == list(LEVELS)
        assert levels_in(await other.call("chatty")) == ["alert", "emergency"]
        assert levels_in(await third.call("chatty")) == list(LEVELS[1:])
        # With the session that wanted it goes its level.
        deleted = await one.send(b"", {"mcp-session-id": one.session}, method="DELETE")
        assert deleted.status == 204
        assert (await other.ask("logging/setLevel", level="error")).result == {}
        assert told(backend) == ["debug", "info"]
        assert levels_in(await third.call("chatty")) == list(LEVELS)


async def test_a_stateless_backend_learns_it_with_each_request() -> None:
    backend = logger(STATELESS)
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.initialize()
        await caller.ask("logging/setLevel", level="warning")
        assert levels_in(await caller.call("chatty")) == ["warning", "error", "critical", "alert", "emergency"]
        assert told(backend) == []
        (call,) = backend.calls
        assert call["params"]["_meta"][LOG_LEVEL] == "warning"


async def test_a_stateless_client_of_a_handshake_backend_is_given_what_it_asked_for() -> None:
    backend = logger()
    async with proxied(backend) as port, Caller(port) as caller:
        reply = await caller.call("chatty", meta={LOG_LEVEL: "critical"})
        assert levels_in(reply, "2026-07-28") == ["critical", "alert", "emergency"]
        assert levels_in(await caller.call("chatty"), "2026-07-28") == []


@pytest.mark.parametrize("params", [{}, {"level": "loud"}, {"level": 3}, {"level": None}, {"level": ["info"]}])
async def test_what_is_no_level_is_refused(params: dict[str, Any]) -> None:
    backend = logger()
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.initialize()
        assert (await caller.ask("logging/setLevel", **params)).code == -32602
        assert told(backend) == []


async def test_without_a_backend_that_logs_there_is_no_such_method() -> None:
    async with proxied(Backend(era=HANDSHAKE, tools={"chatty": chatty})) as port, Caller(port) as caller:
        assert "logging" not in (await caller.initialize()).result["capabilities"]
        assert (await caller.ask("logging/setLevel", level="info")).code == -32601


async def test_a_backend_that_refuses_is_no_matter_for_the_client() -> None:
    async def refusing(call: Call) -> Outcome:
        return b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n"

    backend = Backend(era=HANDSHAKE, tools={"chatty": chatty}, scripts={"logging/setLevel": refusing})
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.initialize()
        assert (await caller.ask("logging/setLevel", level="error")).result == {}
        assert levels_in(await caller.call("chatty")) == ["error", "critical", "alert", "emergency"]


# Without connections.


class Told:
    """Notes what the backends would be told."""

    def __init__(self) -> None:
        self.levels: list[str] = []
        self.own: list[tuple[str, str]] = []

    def want(self, level: str) -> set[Any]:
        self.levels.append(level)
        return set()

    def want_own(self, session_id: str, level: str) -> set[Any]:
        self.own.append((session_id, level))
        return set()

    async def aclose(self) -> None: ...


class Attaching(Quiet):
    """A hub that takes every stream, and those exchanges."""

    def __init__(self) -> None:
        self.attached: list[tuple[Exchange, str | None]] = []

    def attach(self, exchange: Exchange, last_event_id: str | None) -> None:
        self.attached.append((exchange, last_event_id))
        exchange.interim_events(b": \n\n")


class House:
    """A desk with sessions, and exchanges that come to it."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.told = Told()
        self.hub = Attaching()
        self.sessions = Sessions(self.told, wall_clock=lambda: self.now)
        groups = make_groups([offer("a", capabilities={"logging": {}})], Config(version="1.0").proxy.load_balancer)
        desk = Desk(sessions=self.sessions, hub=self.hub)
        self.snapshot = Snapshot(Config(version="1.0"), groups, Catalog(groups, "auto"), desk)

    def exchange(self, session: Session, method: str = "tools/call", **params: Any) -> tuple[Exchange, Channel]:
        exchange, channel = exchange_of(self.snapshot, method, params)
        exchange.session, exchange.revision = session, session.revision
        return exchange, channel

    def set_level(self, session: Session, level: str) -> None:
        exchange, channel = self.exchange(session, "logging/setLevel", level=level)
        assert exchange.message is not None
        check(orjson.loads(exchange.message.data), session.revision)
        assert self.sessions.set_level(exchange, exchange.message) is None
        assert channel.status == 200

    def get(self, session: Session, **fields: str) -> tuple[Exchange, Channel]:
        exchange, channel = self.exchange(session)
        exchange.message = exchange.method = None
        exchange.http.head.headers += [(name.replace("_", "-").encode(), v.encode()) for name, v in fields.items()]
        self.sessions.open_stream(exchange)
        return exchange, channel


def session(id: str = "s", expires_at: float = 1e9, revision: str = "2025-11-25") -> Session:
    return Session(id, "anonymous", revision, b"{}", expires_at)


def test_the_rank_of_a_session() -> None:
    house = House()
    one, other = session("one"), session("other")
    assert house.sessions.log_rank(one) is None
    assert house.sessions.level(one) is None
    house.set_level(one, "error")
    assert (house.sessions.log_rank(one), house.sessions.level(one)) == (RANK["error"], "error")
    assert house.sessions.log_rank(other) is None
    assert house.sessions.level(other) is None
    house.set_level(one, "debug")
    assert (house.sessions.log_rank(one), house.sessions.log_rank(other)) == (0, RANK["info"])
    house.sessions.ended("one")
    house.sessions.ended("other")
    assert house.sessions.log_rank(one) is house.sessions.log_rank(other) is None
    assert house.told.levels == ["info", "debug", "info"]
    assert not house.sessions._ranks
    assert not any(house.sessions._wanting)


def test_what_has_expired_is_forgotten_with_the_next_level() -> None:
    house = House(now=10.0)
    house.set_level(session("old", expires_at=20.0), "debug")
    house.now = 20.0
    house.set_level(session("new", expires_at=90.0), "error")
    assert list(house.sessions._ranks) == ["new"]
    assert house.told.levels == ["debug", "info"]


def test_levels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_LEVELS", 3)
    house = House()
    for number in range(5):
        house.set_level(session(f"s{number}"), "debug")
    assert list(house.sessions._ranks) == ["s2", "s3", "s4"]
    assert sum(house.sessions._wanting) == 3


def test_one_stream_for_each_session() -> None:
    house = House()
    first, channel = house.get(session("one"))
    assert channel.status == 200
    _, refused = house.get(session("one"))
    assert refused.status == 409
    error = json.loads(refused.body)
    check(error, "2025-11-25")
    assert error["error"]["code"] == -32600
    assert not channel.closed  # the first is not cut off
    assert house.get(session("other"))[1].status == 200
    assert first.http.on_finish is not None
    first.http.on_finish(first.http)
    assert house.get(session("one"), last_event_id="g.1")[1].status == 200
    assert [last for _, last in house.hub.attached] == [None, None, "g.1"]


def test_the_end_of_a_stream_is_still_told_to_the_pipeline() -> None:
    house = House()
    exchange, _ = house.exchange(session())
    finished: list[object] = []
    exchange.http.on_finish = finished.append
    exchange.message = None
    house.sessions.open_stream(exchange)
    exchange.http.on_finish(exchange.http)
    assert finished == [exchange.http]
    assert not house.sessions._open
