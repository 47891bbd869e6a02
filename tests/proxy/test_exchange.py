"""How an exchange answers: whole, on a stream, or with an error and the headers that belong to it."""

from __future__ import annotations

import orjson
import pytest
from tests.proxy.exchanges import exchange_of, snapshot_of

from only1mcp.errors import (
    BackendUnavailable,
    NotAllowed,
    NotAuthenticated,
    Only1MCPError,
    Overloaded,
    ProtocolError,
    RateLimited,
    RequestRefused,
)
from only1mcp.proxy import exchange as module
from only1mcp.wire.mcp import Era

SNAPSHOT = snapshot_of()


def test_replies_whole() -> None:
    exchange, channel = exchange_of(SNAPSHOT)
    exchange.cors = [(b"vary", b"origin")]
    exchange.reply(200, b"{}", [(b"x", b"y")])
    assert (channel.status, channel.body, channel.complete) == (200, b"{}", True)
    assert channel.headers == {b"content-type": b"application/json", b"vary": b"origin", b"x": b"y"}


def test_the_first_interim_message_makes_a_stream() -> None:
    exchange, channel = exchange_of(SNAPSHOT)
    exchange.cors = [(b"vary", b"origin")]
    exchange.interim(b'{"a":1}')
    exchange.interim(b'{"b":\n2}')
    assert (channel.status, channel.complete) == (200, False)
    assert channel.headers[b"content-type"] == b"text/event-stream"
    assert channel.headers[b"vary"] == b"origin"
    exchange.refuse(BackendUnavailable("gone"))
    assert channel.status == 200
    assert channel.complete
    events = channel.body.split(b"\n\n")
    assert [b'"a"' in events[0], b'"b"' in events[1], b"-31001" in events[2]] == [True, True, True]
    exchange.interim(b"{}")  # too late, and no error
    assert b"{}" not in channel.body


def test_a_client_that_does_not_read_gets_no_more_interim_messages() -> None:
    exchange, channel = exchange_of(SNAPSHOT)
    channel.unsent_bytes = module.MAX_WAITING_BYTES + 1
    exchange.interim(b'{"a":1}')
    assert (channel.status, channel.body) == (0, b"")
    channel.unsent_bytes = 0
    exchange.interim(b'{"b":1}')
    assert b'"b"' in channel.body


ERRORS: list[tuple[Only1MCPError, int, dict[bytes, bytes]]] = [
    (RequestRefused("x"), 400, {}),
    (RequestRefused("x", code=-32601, http_status=404), 404, {}),
    (RateLimited("x", retry_after_s=0.01), 429, {b"retry-after": b"1"}),
    (RateLimited("x", retry_after_s=1.5), 429, {b"retry-after": b"2"}),
    (RateLimited("x", retry_after_s=60), 429, {b"retry-after": b"60"}),
    (Overloaded("x"), 503, {b"retry-after": b"1"}),
    (NotAuthenticated("x"), 401, {b"www-authenticate": b'Bearer realm="only1mcp"'}),
    (NotAllowed("x"), 403, {}),
    (BackendUnavailable("x"), 503, {}),
]


@pytest.mark.parametrize(("error", "status", "headers"), ERRORS)
def test_refuses(error: Only1MCPError, status: int, headers: dict[bytes, bytes]) -> None:
    exchange, channel = exchange_of(SNAPSHOT, era=Era.STATELESS)
    exchange.refuse(error)
    assert exchange.error is error
    assert channel.status == status
    assert channel.headers == {b"content-type": b"application/json"} | headers
    body = orjson.loads(channel.body)
    assert (body["id"], body["error"]["code"]) == (7, error.code)


def test_a_missing_scope_is_named() -> None:
    exchange, channel = exchange_of(SNAPSHOT, era=Era.STATELESS)
    error = NotAllowed("x")
    error.challenge = b'Bearer error="insufficient_scope"'
    exchange.refuse(error)
    assert channel.headers[b"www-authenticate"] == b'Bearer error="insufficient_scope"'


@pytest.mark.parametrize("error", [row[0] for row in ERRORS])
def test_inside_a_session_the_status_is_200(error: Only1MCPError) -> None:
    exchange, channel = exchange_of(SNAPSHOT, era=Era.HANDSHAKE)
    exchange.refuse(error)
    assert channel.status == 200
    assert orjson.loads(channel.body)["error"]["code"] == error.code


def test_an_unread_message_is_refused_with_the_id_that_could_be_read() -> None:
    exchange, channel = exchange_of(SNAPSHOT, era=Era.STATELESS)
    exchange.message = None
    exchange.refuse(ProtocolError("x", id=b'"r"'))
    assert orjson.loads(channel.body)["id"] == "r"
    exchange, channel = exchange_of(SNAPSHOT, era=Era.STATELESS)
    exchange.message = None
    exchange.refuse(ProtocolError("x"))
    assert "id" not in orjson.loads(channel.body)
