"""What the recorder takes for heads among the octets of a connection."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from scripts.record_heads import Relay, heads


def test_heads_are_found_between_bodies() -> None:
    data = (
        b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n\r\n\r\nxx"
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n4;a=b\r\n\r\n\r\n\r\n0\r\n\r\n"
        b"GET / HTTP/1.1\r\n\r\nDELETE / HTTP/1.1\r\nX: y\r\n\r\nPOST / HT"
    )
    assert [head.split()[0] for head in heads(data)] == [b"POST", b"POST", b"GET", b"DELETE"]
    assert all(head.endswith(b"\r\n\r\n") for head in heads(data))


def test_an_answer_without_a_length_goes_on_to_the_end() -> None:
    first = b"HTTP/1.1 204 No Content\r\n\r\n"
    last = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    assert heads(first + last + b"data: x\r\n\r\n" * 3) == [first, last]
    assert heads(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab") == [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ]


async def test_the_relay_copies_both_ways_and_writes_down_what_is_new(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    file = tmp_path / "heads.jsonl"
    ended = asyncio.Event()
    recorder = Relay(server.sockets[0].getsockname()[1], "test", file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await recorder.serve(reader, writer)
        ended.set()

    relay = await asyncio.start_server(serve, "127.0.0.1", 0)
    for target in (b"/1", b"/2", b"/other"):
        ended.clear()
        reader, writer = await asyncio.open_connection(*relay.sockets[0].getsockname()[:2])
        writer.write(b"GET " + target + b" HTTP/1.1\r\n\r\n")
        assert await reader.read() == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        writer.close()
        await ended.wait()
    for listener in (relay, server):
        listener.close()
        await listener.wait_closed()
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(head["role"], head["head"].split("\r\n")[0]) for head in kept] == [
        ("request", "GET /1 HTTP/1.1"),
        ("response", "HTTP/1.1 200 OK"),
        ("request", "GET /other HTTP/1.1"),
    ]
