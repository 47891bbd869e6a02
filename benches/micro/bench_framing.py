"""HTTP/1.1 exchanges of the sizes that a proxy meets: h11 and the checks around it against the compiled parts."""

from __future__ import annotations

from typing import Any

import pytest
from tests._fast.http_heads import REQUEST_HEADS, RESPONSE_HEADS

from only1mcp._fast import framing_reference
from only1mcp.wire import http1_body, http1_client, http1_server, http1_write
from only1mcp.wire.http1_body import ChunkedBody
from only1mcp.wire.http1_client import ClientConnection
from only1mcp.wire.http1_server import ServerConnection

MAX_HEAD = 32 * 1024
REQUEST = REQUEST_HEADS["typescript sdk, call"] + b"x" * 54
RESPONSE = RESPONSE_HEADS["uvicorn, json"] + b"x" * 260
FIELDS = [
    (b"content-type", b"application/json"),
    (b"mcp-session-id", b"a46ec078-b62b-4523-8030-0bcbf72ae52d"),
    (b"cache-control", b"no-store"),
    (b"date", b"Sun, 22 Nov 2026 18:04:06 GMT"),
]
TINY_CHUNKS = b"1\r\nx\r\n" * 2**20


@pytest.fixture(params=["reference", "compiled"])
def fast(request: pytest.FixtureRequest, benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark.group = request.node.originalname
    if request.param == "compiled":
        return
    monkeypatch.setattr(http1_server, "read_request", framing_reference.read_request)
    monkeypatch.setattr(http1_client, "read_response", framing_reference.read_response)
    monkeypatch.setattr(http1_body, "read_chunks", framing_reference.read_chunks)
    monkeypatch.setattr(http1_write, "write_request", framing_reference.write_request)
    monkeypatch.setattr(http1_write, "write_response", framing_reference.write_response)


@pytest.mark.usefixtures("fast")
def test_serve_a_call(benchmark: Any) -> None:
    connection = ServerConnection(MAX_HEAD, 2**20)

    def serve() -> bool:
        connection.receive_data(REQUEST)
        while connection.next_event() is not None:
            pass
        connection.send_response(200, FIELDS, RESPONSE)
        return connection.start_next_cycle()

    assert benchmark(serve)


@pytest.mark.usefixtures("fast")
def test_make_a_call(benchmark: Any) -> None:
    connection = ClientConnection(MAX_HEAD)

    def call() -> bool:
        connection.send_request(b"POST", b"/mcp", [(b"host", b"a:80"), *FIELDS], REQUEST)
        connection.receive_data(RESPONSE)
        while connection.next_event() is not None:
            pass
        connection.start_next_cycle()
        return connection.reusable

    assert benchmark(call)


@pytest.mark.usefixtures("fast")
def test_write_a_response(benchmark: Any) -> None:
    args = (200, FIELDS, len(RESPONSE))
    assert benchmark(lambda: http1_write.response_bytes(*args, chunked=False, close=False, body=RESPONSE))


@pytest.mark.usefixtures("fast")
def test_a_million_chunks_of_one_octet(benchmark: Any) -> None:
    def decode() -> int:
        body = ChunkedBody(2**20, MAX_HEAD)
        buffer = bytearray()
        size = 0
        for start in range(0, len(TINY_CHUNKS), 2**18):
            buffer += TINY_CHUNKS[start : start + 2**18]
            while (piece := body.maybe_read(buffer)) is not None:
                size += len(piece)
        return size

    assert benchmark.pedantic(decode, rounds=5) == 2**20
