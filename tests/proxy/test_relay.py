"""What arrives on a call's own stream before its answer: to whom it goes, and what goes to nobody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from tests.proxy.exchanges import Channel, exchange_of, snapshot_of
from tests.proxy.offers import peer

from only1mcp._fast import Envelope, scan
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.relay import Relay
from only1mcp.wire.levels import LEVELS
from only1mcp.wire.mcp import HANDSHAKE, META_LOG_LEVEL, STATELESS, Era

ERAS = [HANDSHAKE, STATELESS]
LISTS = {"notifications/tools/list_changed", "ping"}


class Line:
    """Hears what concerns the backend, and keeps what it is answered."""

    def __init__(self) -> None:
        self.id = "b"
        self.peer = None
        self.heard: list[str | None] = []
        self.refused: list[tuple[bytes, str]] = []
        self.replies: Any = SimpleNamespace(
            closed=False, refuse=lambda id, text, code: self.refused.append((id, text)) or code
        )

    def hear(self, message: Envelope) -> bool:
        self.heard.append(message.method)
        return message.method in LISTS


def said(method: str, **params: Any) -> Envelope:
    return scan(orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params}))


def asked(method: str, **params: Any) -> Envelope:
    return scan(orjson.dumps({"jsonrpc": "2.0", "id": "its-own", "method": method, "params": params}))


def relayed(
    client: Era, backend: Era, *, meta: dict[str, Any] | None = None, token: bytes | None = None
) -> tuple[Relay, Exchange, Channel, Line]:
    params = {"name": "x", **({} if meta is None else {"_meta": meta})}
    exchange, channel = exchange_of(snapshot_of(), params=params, era=client)
    line = Line()
    return Relay(exchange, line, peer(backend), token), exchange, channel, line  # type: ignore[arg-type]


def events(channel: Channel) -> list[dict[str, Any]]:
    lines = channel.body.split(b"\n")
    return [orjson.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: {")]


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("backend", ERAS)
def test_what_we_do_not_know_passes_between_the_same_eras(client: Era, backend: Era) -> None:
    relay, _, channel, line = relayed(client, backend)
    message = said("notifications/of_tomorrow", x=1.0)
    relay(message)
    assert (message.data in channel.body) == (client is backend)
    assert line.heard == ["notifications/of_tomorrow"]


@pytest.mark.parametrize(
    "method",
    [
        "notifications/tools/list_changed",
        "notifications/resources/updated",
        "notifications/tasks",
        "notifications/tasks/status",
    ],
)
@pytest.mark.parametrize("era", ERAS)
def test_what_belongs_on_other_streams_does_not_pass(method: str, era: Era) -> None:
    relay, exchange, _, line = relayed(era, era)
    relay(said(method, uri="test://a", taskId="t"))
    assert not exchange.http.started_response
    assert line.heard == [method]


@pytest.mark.parametrize("era", ERAS)
def test_only_notifications_are_relayed(era: Era) -> None:
    relay, exchange, _, line = relayed(era, era, token=b"1")
    relay(asked("notifications/progress", progressToken=7, progress=1))
    relay(scan(b'{"jsonrpc":"2.0","id":7,"result":{}}'))
    relay(scan(b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}'))
    assert not exchange.http.started_response
    assert line.heard == []


@pytest.mark.parametrize("backend", ERAS)
def test_a_stateless_client_gets_the_levels_that_it_asked_for(backend: Era) -> None:
    relay, exchange, _, _ = relayed(STATELESS, backend)
    for level in LEVELS:
        relay(said("notifications/message", level=level, data="x"))
    assert not exchange.http.started_response
    assert not relay.wants_logs

    relay, _, channel, _ = relayed(STATELESS, backend, meta={META_LOG_LEVEL: "error"})
    for level in LEVELS:
        relay(said("notifications/message", level=level, data="x"))
    # A stateless backend has read the level itself; one that is told of no level is filtered for.
    passed = list(LEVELS) if backend is STATELESS else ["error", "critical", "alert", "emergency"]
    assert [event["params"]["level"] for event in events(channel)] == passed
    assert relay.wants_logs == (backend is STATELESS)

    relay, _, channel, _ = relayed(STATELESS, backend, meta={META_LOG_LEVEL: "whatever"})
    relay(said("notifications/message", level="debug", data="x"))
    assert len(events(channel)) == 1
    assert relay.wants_logs


def test_a_ping_is_the_backends_own_matter() -> None:
    relay, exchange, _, line = relayed(HANDSHAKE, HANDSHAKE)
    relay.asked(asked("ping"), None)
    assert (line.heard, line.refused, exchange.http.started_response) == (["ping"], [], False)


def test_nobody_is_asked_for_a_result_that_others_may_be_given() -> None:
    for client in ERAS:
        relay, exchange, _, line = relayed(client, HANDSHAKE)
        exchange.cache_key = object()  # type: ignore[assignment]
        relay.asked(asked("elicitation/create", message="?"), None)
        ((id, reason),) = line.refused
        assert (id, reason) == (b'"its-own"', "a call whose result may be kept cannot ask its client")
        assert not exchange.http.started_response


def test_a_stateless_client_whose_call_cannot_be_parked_is_not_asked() -> None:
    relay, exchange, _, line = relayed(STATELESS, HANDSHAKE)
    relay.asked(asked("roots/list"), None)
    assert line.refused == [(b'"its-own"', "this client does not serve requests from servers")]
    assert not exchange.http.started_response


def test_a_parked_call_goes_on_with_the_token_of_the_retry() -> None:
    relay, exchange, channel, _ = relayed(STATELESS, STATELESS, token=b'"first"')
    retry, its_channel = exchange_of(snapshot_of(), params={"name": "x"}, era=STATELESS, id=8)
    relay.attach(retry, b'"second"')
    relay(said("notifications/progress", progressToken=1, progress=1))
    assert not exchange.http.started_response
    assert channel.body == b""
    assert [event["params"]["progressToken"] for event in events(its_channel)] == ["second"]
    relay.attach(retry, None)
    relay(said("notifications/progress", progressToken=1, progress=2))
    assert len(events(its_channel)) == 1
    assert (relay.owner, relay.in_session) == ("anonymous", False)
