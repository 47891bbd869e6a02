"""GET /sse and POST /messages as requests: who may send them, what is refused and how, and what is counted."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import Backend, echo
from tests.mcp_caller import Caller, Fields, request
from tests.proxy.exchanges import Channel, exchange_of, snapshot_of
from tests.proxy.test_pipeline_callers import JWT_SETTINGS, LIMIT, assert_limited, ending, key, port_of
from tests.sse_caller import SseClient, emptied

from only1mcp.config.schema import Auth
from only1mcp.config.schema import Limits as LimitsConfig
from only1mcp.config.schema import Timeouts as TimeoutsConfig
from only1mcp.process.worker import Worker
from only1mcp.proxy.access import access_log
from only1mcp.proxy.posted import SseGate
from only1mcp.wire.http1_events import Headers

KEYS = Auth(api_keys=(key("ann"), key("bob", tools=("other",))))
PING = request("ping", id=77)
NONE: Fields = {"content-type": None, "content-length": None}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with proxied(Backend(tools={"echo": echo})) as port:
        yield port


# What is no request for these paths.


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/sse", 405, "GET"),
        ("HEAD", "/sse", 405, "GET"),
        ("PUT", "/sse", 405, "GET"),
        ("DELETE", "/sse", 405, "GET"),
        ("GET", "/messages", 405, "POST"),
        ("HEAD", "/messages", 405, "POST"),
        ("PUT", "/messages", 405, "POST"),
        ("DELETE", "/messages", 405, "POST"),
        ("PATCH", "/messages", 405, "POST"),
        ("GET", "/sse/", 404, None),
        ("GET", "/sse/more", 404, None),
        ("POST", "/messages/", 404, None),
        ("POST", "/Messages", 404, None),
        ("GET", "/%73se", 404, None),
    ],
)
async def test_methods_and_paths(port: int, method: str, path: str, status: int, allow: str | None) -> None:
    async with Caller(port) as caller:
        reply = await caller.send(b"" if method in ("GET", "HEAD") else PING, method=method, path=path)
        assert (reply.status, reply.headers.get("allow")) == (status, allow)


@pytest.mark.parametrize(
    "query", ["", "?", "?session_id", "?session=1", "?x=session_id=1", "?session_id=1&session_id=2"]
)
async def test_a_post_names_one_session(port: int, query: str) -> None:
    async with Caller(port) as caller:
        reply = await caller.send(PING, path=f"/messages{query}")
        assert (reply.status, reply.code) == (400, -32600)


@pytest.mark.parametrize("id", ["", "0.", "0", "x" * 5000, "%00", "../x", "0.%2e", "\xff"])
async def test_a_session_that_does_not_exist(port: int, id: str) -> None:
    async with Caller(port) as caller:
        caller.writer.write(
            f"POST /messages?session_id={id} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 2\r\n\r\n{}".encode("latin-1")
        )
        reply = await caller.reply()
        # What is no octet of a target is refused by the connection.
        assert reply.status == (400 if id == "\xff" else 404)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"content-type": None}, 400),
        ({"content-type": "text/plain"}, 400),
        ({"content-type": "application/x-www-form-urlencoded"}, 400),
        ({"content-type": ["application/json", "application/json"]}, 400),
        ({"content-type": "application/json; charset=latin-1"}, 400),
        ({"content-type": "Application/JSON; charset=utf-8"}, 202),
        ({"accept": None}, 202),
        ({"accept": "*/*"}, 202),
        ({"accept": "application/json"}, 202),
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
        ({"origin": "http://localhost:1234"}, 202),
        ({"mcp-session-id": "made up"}, 202),
        ({"mcp-protocol-version": "2026-07-28"}, 202),
        ({"mcp-protocol-version": "nonsense"}, 202),
    ],
)
async def test_header_fields(port: int, fields: Fields, status: int) -> None:
    async with SseClient.opened(port) as client:
        assert (await client.post(PING, fields)).status == status
        if status == 202:
            assert (await client.answer(77))["result"] == {}
        assert await client.text("echo", text="on") == "on"


BODIES: list[tuple[bytes, int]] = [
    (b"", -32700),
    (b"garbage", -32700),
    (b"\xff\xfe{}", -32700),
    (b"{}", -32600),
    (b"null", -32600),
    (b"[]", -32600),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600),
    (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}', -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 500 + b"]" * 500 + b"}", -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"x', -32700),
]


@pytest.mark.parametrize(("body", "code"), BODIES)
async def test_bodies_that_are_no_message(port: int, body: bytes, code: int) -> None:
    async with SseClient.opened(port) as client:
        reply = await client.post(body)
        assert (reply.status, reply.code) == (400, code)
        # Nothing of it on the stream, which goes on.
        assert await client.text("echo", text="on") == "on"


async def test_bodies_that_are_too_large_or_never_come() -> None:
    backend = Backend(tools={"echo": echo})
    async with (
        proxied(backend, limits=LimitsConfig(max_body_mb=1), timeouts=TimeoutsConfig(request_s=0.3)) as port,
        SseClient.opened(port) as client,
        Caller(port) as other,
        Caller(port) as slow,
    ):
        large = request("tools/call", name="echo", arguments={"text": "x" * 1_100_000})
        assert (await other.send(large, path=client.path)).status == 413
        slow.writer.write(slow.http(b"", {"content-length": "100"}, path=client.path) + b'{"jsonrpc')
        assert (await slow.reply()).status == 408
        assert await client.text("echo", text="on") == "on"


async def test_params_that_are_too_large_are_answered_on_the_stream(port: int) -> None:
    async with SseClient.opened(port) as client:
        meta = {f"k{number}": "x" * 100 for number in range(3000)}
        answer = await client.answer(await client.ask("tools/list", meta=meta))
        assert answer["error"]["code"] in (-32600, -32602)


# Who sends it.


@pytest.mark.parametrize(("method", "path"), [("GET", "/sse"), ("POST", "/messages?session_id=1")])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 401),
        ({"x-api-key": "nobody's"}, 401),
        ({"x-api-key": "ann-key", "origin": "http://evil.example"}, 403),
        ({"x-api-key": "ann-key", "host": "evil.example"}, 421),
    ],
)
async def test_credentials_host_and_origin(method: str, path: str, fields: Fields, status: int) -> None:
    async with proxied(Backend(), auth=KEYS) as port, Caller(port) as caller:
        reply = await caller.send(PING if method == "POST" else b"", fields, method=method, path=path)
        assert reply.status == status
        assert ("www-authenticate" in reply.headers) == (status == 401)


async def test_only_who_opened_a_session_may_post_to_it() -> None:
    async with (
        proxied(Backend(tools={"echo": echo}), auth=KEYS) as port,
        SseClient.opened(port, x_api_key="ann-key") as ann,
        SseClient.opened(port, x_api_key="bob-key") as bob,
        Caller(port) as nobody,
    ):
        foreign = await bob.poster.send(PING, path=ann.path)
        unknown = await bob.poster.send(PING, path="/messages?session_id=0.unknown")
        assert (foreign.status, foreign.body) == (unknown.status, unknown.body)
        assert foreign.status == 404
        assert (await nobody.send(PING, path=ann.path)).status == 401
        # The same key in another header is the same principal.
        reply = await ann.post(PING, {"x-api-key": None, "authorization": "Bearer ann-key"})
        assert reply.status == 202
        await ann.answer(77)
        assert [tool["name"] for tool in (await ann.result("tools/list"))["tools"]] == ["echo"]
        assert (await bob.result("tools/list"))["tools"] == []


async def test_a_page_of_an_allowed_origin(port: int) -> None:
    page: Fields = {"origin": "http://localhost:5173", "access-control-request-method": "POST"}
    async with Caller(port) as caller:
        for path in ("/sse", "/messages?session_id=1"):
            reply = await caller.send(fields=page, method="OPTIONS", path=path)
            assert reply.status == 204
            assert reply.headers["access-control-allow-origin"] == "http://localhost:5173"
    async with SseClient.opened(port, origin="http://localhost:5173") as client:
        assert client.headers["access-control-allow-origin"] == "http://localhost:5173"
        reply = await client.post(PING)
        assert reply.headers["access-control-allow-origin"] == "http://localhost:5173"


async def test_rate_limit() -> None:
    auth = Auth(api_keys=KEYS.api_keys, rate_limit=LIMIT)
    async with Backend(tools={"echo": echo}) as backend, running(configured(backend, auth=auth)) as worker:
        port = port_of(worker)
        # The stream, `initialize` and its notification are the three that may come at once, each counted once.
        async with SseClient.opened(port, x_api_key="ann-key") as client:
            # Official clients would wait for ever for the answer to a POST that is refused.
            answer = await client.answer(await client.call("echo"))
            assert answer["error"]["code"] == -31003
            assert 0 < answer["error"]["data"]["retry_after_ms"] <= 60_000
            assert_limited(await client.post({"jsonrpc": "2.0", "method": "notifications/cancelled"}))
            assert_limited(await client.post(b"{"))
            async with Caller(port, x_api_key="ann-key") as again:
                assert_limited(await again.send(fields=NONE, method="GET", path="/sse"))
            assert not backend.calls
            assert _limited(worker) == 4


async def test_a_stream_that_cannot_begin_leaves_no_session() -> None:
    class Broken(Channel):
        def send_head(self, status: int, headers: Headers, length: int | None = None) -> None:
            raise ValueError

    exchange, _ = exchange_of(snapshot_of())
    exchange.http._channel = Broken()
    gate = SseGate(None, None, print, print)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        gate.open(exchange)
    assert len(gate) == 0


async def test_a_stream_ends_with_the_latest_credentials() -> None:
    first, second = ending(4.0), ending(9.0)
    async with (
        proxied(Backend(tools={"echo": echo}), auth=Auth(jwt=JWT_SETTINGS)) as port,
        SseClient.opened(port, **first) as left,
        SseClient.opened(port, **first) as renewed,
    ):
        assert (await renewed.post(PING, {**second})).status == 202
        await renewed.answer(77)
        assert await left.ended()
        assert (await left.post(PING, {**second})).status == 404
        assert (await renewed.post(PING)).status == 401
        assert (await renewed.post(PING, {**second})).status == 202
        await renewed.answer(77)
        assert await renewed.ended()


# What is counted.


def _limited(worker: Worker) -> int:
    return int(_samples(worker)["only1mcp_rate_limited_total"])


def _samples(worker: Worker) -> dict[str, float]:
    lines = worker.metrics.render()[1].decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith(("only1mcp_requests", "only1mcp_rate"))]
    return {name: float(value) for name, _, value in pairs}


async def test_metrics_and_access_log_tell_of_each_request_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Backend(tools={"echo": echo}) as backend, running(configured(backend)) as worker:
        access_log.propagate, propagate = True, access_log.propagate
        try:
            with caplog.at_level(logging.INFO, access_log.name):
                async with SseClient.opened(port_of(worker)) as client:
                    await client.text("echo", text="hi")
                    assert (await client.poster.send(PING, path="/messages?session_id=secret")).status == 404
                await emptied(worker)
        finally:
            access_log.propagate = propagate
        lines: list[dict[str, Any]] = [record.fields for record in caplog.records if record.name == access_log.name]  # type: ignore[attr-defined]
        told = [(line["http"], line["path"], line["status"], line.get("method")) for line in lines]
        assert told == [
            ("POST", "/messages", 200, "initialize"),
            ("POST", "/messages", 202, "notifications/initialized"),
            ("POST", "/messages", 200, "tools/call"),
            ("POST", "/messages", 404, None),
            ("GET", "/sse", 200, None),
        ]
        assert all(line["client"] == "127.0.0.1" for line in lines)
        assert "secret" not in json.dumps(lines)
        counted = {name: value for name, value in _samples(worker).items() if name.startswith("only1mcp_requests")}
        assert counted == {
            'only1mcp_requests_total{method="initialize",status="2xx"}': 1,
            'only1mcp_requests_total{method="notifications/initialized",status="2xx"}': 1,
            'only1mcp_requests_total{method="tools/call",status="2xx"}': 1,
            'only1mcp_requests_total{method="none",status="4xx"}': 1,
            'only1mcp_requests_total{method="none",status="2xx"}': 1,
        }


async def test_a_client_that_leaves_its_post_before_the_body_is_there(port: int) -> None:
    async with SseClient.opened(port) as client:
        async with Caller(port) as other:
            other.writer.write(other.http(b"", {"content-length": "100"}, path=client.path) + b"{")
            await other.writer.drain()
            other.vanish()
        assert await client.text("echo", text="on") == "on"


async def test_a_session_that_ends_before_the_body_is_there(port: int) -> None:
    async with Caller(port) as other:
        async with SseClient.opened(port) as client:
            body = json.dumps(PING).encode()
            other.writer.write(
                other.http(b"", {"content-length": str(len(body)), "expect": "100-continue"}, path=client.path)
            )
            assert await other.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.stream.vanish()
            async with Caller(port) as third:
                while (await third.send(PING, path=client.path)).status != 404:
                    await client.hear()
        other.writer.write(body)
        assert (await other.reply()).status == 404
