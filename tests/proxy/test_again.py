"""Requests answered from memory that come again on their connection: the same answers, and the same refusals."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.in_process import configured, running
from tests.mcp_backend import Backend, echo
from tests.mcp_caller import HANDSHAKE, Fields, request, stateless

from only1mcp._fast import COMPILED
from only1mcp.config.schema import ApiKey, Auth, RateLimit
from only1mcp.frontend.repeating import RepeatingConnection
from only1mcp.process.worker import Worker
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.exchange import Snapshot


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 5) if name == "peername" else None

    def set_write_buffer_limits(self, *limits: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    write_eof = abort = close


class Client:
    """A connection without a socket. `again` tells whether its last request was answered without being read."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.fields: dict[str, str] = {}
        self._transport = Transport()
        self._connection = RepeatingConnection(worker.listener, asyncio.get_running_loop())  # type: ignore[arg-type]
        self._connection.connection_made(self._transport)  # type: ignore[arg-type]
        self.again = False

    def send(self, message: dict[str, Any], more: Fields | None = None) -> tuple[int, dict[str, str], Any]:
        assert self.worker.listener is not None
        body = json.dumps(message).encode()
        fields = {
            "host": f"127.0.0.1:{self.worker.listener.port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **self.fields,
            **(more or {}),
        }
        lines = [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join(["POST /mcp HTTP/1.1", *lines, f"content-length: {len(body)}", "", ""])
        return self.receive(head.encode() + body)

    def receive(self, data: bytes) -> tuple[int, dict[str, str], Any]:
        self._transport.written = b""
        before = self._connection._repeat
        self._connection.data_received(data)
        self.again = before is not None and self._connection._repeat is before
        answer_head, _, answer = self._transport.written.partition(b"\r\n\r\n")
        line, *rest = answer_head.decode().split("\r\n")
        headers = dict(each.split(": ", 1) for each in rest)
        assert len(answer) == int(headers["content-length"])
        return int(line.split()[1]), headers, json.loads(answer)

    def ask(self, method: str, id: Any = 1) -> tuple[int, dict[str, str], Any]:
        return self.send(*stateless(method, id=id))

    def initialize(self) -> None:
        params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        _, headers, _ = self.send(request("initialize", **params))
        self.fields = {"mcp-protocol-version": HANDSHAKE, "mcp-session-id": headers["mcp-session-id"]}

    def close(self) -> None:
        self._connection.connection_lost(None)


@asynccontextmanager
async def client_of(**settings: Any) -> AsyncIterator[Client]:
    async with Backend(tools={"echo": echo}) as backend, running(configured(backend, **settings)) as worker:
        client = Client(worker)
        try:
            yield client
        finally:
            client.close()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with client_of() as client:
        yield client


def counted(client: Client, pattern: str) -> int:
    found = re.search(rf"^only1mcp_{pattern} (\S+)$", client.worker.metrics.render()[1].decode(), re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


def same(one: tuple[int, dict[str, str], Any], other: tuple[int, dict[str, str], Any]) -> None:
    """Check that two answers differ in their ids, and in what tells the time, alone."""
    (status, headers, body), (other_status, other_headers, other_body) = one, other
    assert (status, list(headers)) == (other_status, list(other_headers))
    assert headers["content-type"] == other_headers["content-type"]
    for each in (body, other_body):
        each["result"].pop("ttlMs", None)
    assert body["result"] == other_body["result"]


@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
async def test_stateless_requests_are_answered_again(client: Client, method: str) -> None:
    first = client.ask(method, 1)
    hits = counted(client, "cache_hits_total")
    for id in (2, 3):
        answer = client.ask(method, id)
        assert client.again == COMPILED
        assert answer[2]["id"] == id
        same(first, answer)
    assert counted(client, "cache_hits_total") == hits + 2
    label = re.escape(f'{{method="{method}",status="2xx"}}')
    assert counted(client, f"requests_total{label}") == 3


@pytest.mark.parametrize("method", ["tools/list", "ping"])
async def test_requests_of_a_session_are_answered_again_until_it_ends(client: Client, method: str) -> None:
    client.initialize()
    first = client.send(request(method, id="a"))
    answer = client.send(request(method, id="b"))
    assert client.again == COMPILED
    assert answer[2]["id"] == "b"
    same(first, answer)
    client.worker.pipeline._sealer.terminate(client.fields["mcp-session-id"], "anonymous", 0.0)
    assert client.send(request(method, id="c"))[0] == 404


async def test_another_method_or_header_is_another_request(client: Client) -> None:
    client.ask("tools/list", 1)
    client.ask("tools/list", 2)
    message, fields = stateless("tools/list", id=3)
    assert client.send(message, {**fields, "mcp-method": "tools/lisk"})[2]["error"]["code"] == -32020
    assert client.send(message, {**fields, "mcp-protocol-version": "2026-07-29"})[0] == 400
    assert client.send(message, {**fields, "host": "evil.example"})[0] == 421
    assert client.send({**message, "method": "tools/lisk"}, fields)[2]["error"]["code"] == -32020
    assert client.send(message, fields)[0] == 200


async def test_a_new_catalog_is_seen(client: Client) -> None:
    client.ask("tools/list", 1)
    client.ask("tools/list", 2)
    pipeline = client.worker.pipeline
    old = pipeline.snapshot
    pipeline.snapshot = Snapshot(old.config, {}, Catalog({}, "auto"))
    assert client.ask("tools/list", 3)[2]["error"]["code"] == -32601
    pipeline.snapshot = Snapshot(old.config, old.groups, old.catalog)
    assert client.ask("tools/list", 4)[2]["result"]["tools"]
    assert not client.again  # its pages are to be made yet
    client.ask("tools/list", 5)
    assert client.again == COMPILED
    pipeline.snapshot.pages.clear()
    client.ask("tools/list", 6)
    assert not client.again


async def test_the_rate_limit_holds() -> None:
    async with client_of(
        auth=Auth(allow_anonymous=True, rate_limit=RateLimit(requests_per_minute=1, burst=3))
    ) as client:
        statuses = [client.ask("tools/list", id)[0] for id in range(1, 6)]
        assert statuses == [200, 200, 200, 429, 429]
        assert counted(client, "rate_limited_total") == 2


async def test_credentials_are_checked_each_time() -> None:
    key = ApiKey(name="one", key_sha256="2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683")  # "key"
    async with client_of(auth=Auth(api_keys=(key,))) as client:
        client.fields = {"x-api-key": "key"}
        statuses = [client.ask("tools/list", id)[0] for id in (1, 2, 3)]
        assert statuses == [200, 200, 200]
        assert client.again == COMPILED
        client.worker.pipeline._authenticator._verified.clear()
        client.worker.pipeline._authenticator._keys.clear()
        assert client.ask("tools/list", 4)[0] == 401
        assert counted(client, "auth_failures_total") == 1


async def test_every_answer_has_its_line_in_the_access_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "only1mcp.access")
    client.ask("tools/list", 1)
    client.ask("tools/list", 2)
    first, second = [record.fields for record in caplog.records if record.name == "only1mcp.access"]  # type: ignore[attr-defined]
    assert {**first, "duration_ms": 0} == {**second, "duration_ms": 0}


@pytest.mark.parametrize("piece", [1, 40, -1])
async def test_a_request_in_pieces_is_read(client: Client, piece: int) -> None:
    client.ask("tools/list", 1)
    client.ask("tools/list", 2)
    transport, connection = client._transport, client._connection
    message, fields = stateless("tools/list", id=3)
    whole: list[bytes] = []
    receive = client.receive
    client.receive = lambda data: whole.append(data) or receive(data)  # type: ignore[method-assign, func-returns-value]
    client.send(message, fields)
    (data,) = whole
    transport.written = b""
    connection.data_received(data[:piece])
    assert transport.written == b""
    connection.data_received(data[piece:])
    assert transport.written.startswith(b"HTTP/1.1 200 ")
    # What has begun is not taken for a whole one, whatever follows.
    transport.written = b""
    connection.data_received(data[:piece])
    connection.data_received(data)
    assert b'"result":{"tools"' not in transport.written
