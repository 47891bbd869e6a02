"""A backend that misbehaves in every way we could think of: that call fails as it should, all others are untouched."""

from __future__ import annotations

import asyncio
import gzip
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.backend.hostile import (
    LAST_CHUNK,
    SSE_HEAD,
    Behaviour,
    HostileServer,
    Incoming,
    answer_well,
    chunk,
    event,
    hosted,
    make_call,
    response,
    stay_silent,
)

from only1mcp._fast import ERROR, NOTIFICATION, RESULT, Envelope
from only1mcp.backend import surplus
from only1mcp.backend.answer import MAX_ANSWER_BYTES
from only1mcp.backend.http import HttpTransport
from only1mcp.backend.pool import MAX_CONNECTIONS
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout

JSON = "application/json"
HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"
MIB = 1024 * 1024
NOTE = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}'


def sends(*pieces: bytes, then: Callable[[Incoming], Awaitable[object]] | None = None) -> Behaviour:
    """Send the pieces, `@` standing for the id, then hang up; or do `then`."""

    async def behave(incoming: Incoming) -> None:
        id = str(incoming.message.get("id")).encode()
        for piece in pieces:
            await incoming.send(piece.replace(b"@", id))
        if then is not None:
            await then(incoming)
        else:
            await incoming.close()

    return behave


def answers(body: bytes, status: str = "200 OK", media: str = "application/json", *extra: str) -> Behaviour:
    """Send a well-formed HTTP response with this body and stay."""

    async def behave(incoming: Incoming) -> None:
        id = str(incoming.message.get("id")).encode()
        await incoming.send(response(body.replace(b"@", id), status, media, *extra))

    return behave


def streams(*pieces: bytes) -> Behaviour:
    """Send an event stream of these chunks, ended properly."""
    return sends(SSE_HEAD, *pieces, LAST_CHUNK, then=stay)


async def stay(incoming: Incoming) -> None:
    pass


def floods(head: bytes, piece: bytes, total_bytes: int, tail: bytes = b"") -> Behaviour:
    """Send `piece` again and again until the client has had enough."""

    async def behave(incoming: Incoming) -> None:
        await incoming.send(head)
        for _ in range(total_bytes // len(piece)):
            await incoming.send(piece)
        await incoming.send(tail)

    return behave


def resets(*pieces: bytes) -> Behaviour:
    async def behave(incoming: Incoming) -> None:
        await incoming.send(*pieces)
        incoming.reset()

    return behave


async def drips(incoming: Incoming) -> None:
    """Send a correct answer, an octet every 10 ms."""
    waiting = asyncio.ensure_future(incoming.until_closed())
    for octet in response(incoming.result()):
        await incoming.send(bytes([octet]))
        if await asyncio.wait([waiting], timeout=0.01) != (set(), {waiting}):
            return


async def refuses_upload(incoming: Incoming) -> None:
    await incoming.send(response(b"too large", "413 Content Too Large", "text/plain", "connection: close"))
    await incoming.close()


OK = b'{"jsonrpc":"2.0","id":@,"result":{}}'
OK_2 = OK.replace(b"@", b"2")  # chunks have their length counted before
NO_ID = b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}'
BOMB = gzip.compress(bytes(10 * MIB))
LENGTH_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
EVENT_HEAD = b"event: message\ndata: "


@dataclass
class Case:
    name: str
    behave: Behaviour
    error: type[BackendError]
    message: str
    status: int | None = None
    timeout_s: float = 10


def bad(name: str, behave: Behaviour, message: str = "") -> Case:
    return Case(name, behave, BackendAnswerError, message)


def refusal(status: int, behave: Behaviour, name: str = "") -> Case:
    return Case(name or f"status {status}", behave, BackendRefused, f"HTTP status {status}", status)


def late(name: str, behave: Behaviour) -> Case:
    return Case(name, behave, BackendTimeout, "no complete answer within 0.2 s", timeout_s=0.2)


CASES = [
    # What is not HTTP.
    bad("garbage", sends(b"\x00\xffgarbage\r\n\r\n\r\n", then=stay), "not valid HTTP"),
    bad("TLS alert", sends(b"\x15\x03\x03\x00\x02\x02\x28")),
    bad("SSH", sends(b"SSH-2.0-OpenSSH_9.9\r\n")),
    bad("HTTP/0.9", sends(b"<html>hello</html>")),
    bad("HTTP/2 preface", sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", then=stay), "not valid HTTP"),
    bad("JSON without HTTP", sends(OK)),
    bad("obsolete folding", sends(HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("NUL in a header", sends(HEAD + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("bare LF", sends(b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", then=stay), "not valid HTTP"),
    bad("header without colon", sends(HEAD + b"nonsense\r\n\r\n", then=stay), "not valid HTTP"),
    bad("header flood", floods(HEAD, b"x: y\r\n", 100 * MIB), "not valid HTTP"),
    bad("endless header line", floods(HEAD + b"x: ", b"y" * 65536, 100 * MIB), "not valid HTTP"),
    bad("endless status line", floods(b"HTTP/1.1 200 ", b"y" * 65536, 100 * MIB), "not valid HTTP"),
    bad("1xx flood", floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 100 * MIB), "not valid HTTP"),
    bad("switching protocols", sends(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", then=stay)),
    # Lengths.
    bad("two lengths", sends(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("negative length", sends(HEAD + b"content-length: -1\r\n\r\n", then=stay), "not valid HTTP"),
    bad("signed length", sends(HEAD + b"content-length: +2\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("hexadecimal length", sends(HEAD + b"content-length: 0x2\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("length of thousands of digits", sends(HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\n", then=stay)),
    bad("length and chunked", sends(CHUNKED_HEAD[:-2] + b"content-length: 2\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("unknown transfer coding", sends(HEAD + b"transfer-encoding: x\r\n\r\n{}", then=stay), "not valid HTTP"),
    bad("bad chunk size", sends(CHUNKED_HEAD + b"xyz\r\n", then=stay), "not valid HTTP"),
    bad("chunk longer than said", sends(CHUNKED_HEAD + b"2\r\n{}{}\r\n", then=stay), "not valid HTTP"),
    bad("endless chunk extension", floods(CHUNKED_HEAD + b"2;", b"x" * 65536, 100 * MIB), "not valid HTTP"),
    bad("endless trailers", floods(CHUNKED_HEAD + b"0\r\n", b"x: y\r\n" * 1000, 100 * MIB), "not valid HTTP"),
    # Dying at every stage.
    bad("closes without an answer", sends(), "closed the connection"),
    bad("resets without an answer", resets()),
    bad("closes in the status line", sends(b"HTTP/1.1 20"), "closed the connection"),
    bad("closes in the headers", sends(HEAD), "closed the connection"),
    bad("closes before the body", sends(LENGTH_HEAD % 2), "closed the connection"),
    bad("closes in the body", sends(LENGTH_HEAD % 200 + OK), "closed the connection"),
    bad("resets in the body", resets(LENGTH_HEAD % 200 + OK)),
    bad("closes in a chunk", sends(CHUNKED_HEAD + b"fff\r\n" + OK), "closed the connection"),
    bad("closes before the last chunk", sends(CHUNKED_HEAD + chunk(b"{}")), "closed the connection"),
    bad("closes in an event", sends(SSE_HEAD + chunk(b"data: {")), "closed the connection"),
    bad("ends the stream in an event", streams(chunk(b"data: " + OK_2)), "ended without the response"),
    bad("ends the stream after notifications", streams(event(NOTE), event(NOTE)), "ended without the response"),
    bad("ends the stream at once", streams(), "ended without the response"),
    bad("primes the stream and leaves", streams(chunk(b"id: 1\nretry: 10\ndata:\n\n")), "ended without the response"),
    # Never done.
    late("never answers", stay_silent),
    late("never sends the body", sends(LENGTH_HEAD % 200, then=stay_silent)),
    late("never ends the chunks", sends(CHUNKED_HEAD + chunk(b'{"jsonrpc"'), then=stay_silent)),
    late("never says anything on the stream", sends(SSE_HEAD, then=stay_silent)),
    late("comments for ever", floods(SSE_HEAD, chunk(b": still there\n\n") * 500, 10**12)),
    late("notifies for ever", floods(SSE_HEAD, event(NOTE) * 50, 10**12)),
    late("unknown fields for ever", floods(SSE_HEAD, chunk(b"foo: bar\n" * 500), 10**12)),
    late("drips", drips),
    # Too much.
    bad("announces too much", sends(LENGTH_HEAD % (100 * MIB), then=stay_silent), "longer than"),
    bad("100 MB in chunks", floods(CHUNKED_HEAD, chunk(b" " * 65536), 100 * MIB), "longer than"),
    bad("100 MB until the end", floods(HEAD + b"\r\n", b" " * 65536, 100 * MIB), "longer than"),
    bad("100 MB line", floods(SSE_HEAD + chunk(b"data: "), chunk(b"x" * 65536), 100 * MIB), "event is longer than"),
    bad("100 MB comment", floods(SSE_HEAD + chunk(b":"), chunk(b"x" * 65536), 100 * MIB), "event is longer than"),
    bad(
        "100 MB event",
        floods(SSE_HEAD, chunk((b"data: " + b"x" * 1000 + b"\n") * 64), 150 * MIB),
        "event is longer than",
    ),
    # What is not the answer.
    bad("another id", answers(OK.replace(b"@", b"999")), "no response with the id"),
    bad("the id as a string", answers(OK.replace(b"@", b'"@"')), "no response with the id"),
    bad("the id as a float", answers(OK.replace(b"@", b"@.0")), "not valid"),
    bad("the id null", answers(OK.replace(b"@", b"null")), "not valid"),
    bad("no id", answers(b'{"jsonrpc":"2.0","result":{}}'), "not valid"),
    bad("an error without id", answers(NO_ID), "no response"),
    bad("a notification", answers(NOTE), "no response with the id"),
    bad("a request", answers(b'{"jsonrpc":"2.0","id":@,"method":"ping"}'), "no response with the id"),
    bad("a batch", answers(b"[" + OK + b"]"), "batches"),
    bad("another id on a stream", streams(event(OK.replace(b"@", b"999"))), "ended without the response"),
    bad("result and error", answers(OK[:-1] + b',"error":{"code":1,"message":"m"}}'), "not valid"),
    # What is not JSON.
    bad("empty body", answers(b""), "not valid"),
    bad("no JSON", answers(b"hello"), "not valid"),
    bad("half a JSON text", answers(OK[:-1]), "not valid"),
    bad("two JSON texts", answers(OK + OK), "not valid"),
    bad("NaN", answers(OK.replace(b"{}", b"NaN")), "not valid"),
    bad("infinity", answers(OK.replace(b"{}", b"1e999")), "not valid"),
    bad("invalid UTF-8", answers(OK.replace(b"{}", b'{"a":"\xff"}')), "not UTF-8"),
    bad("UTF-16", answers(b"\xff\xfe" + OK.decode().encode("utf-16-le")), "not valid"),
    bad("byte order mark", answers(b"\xef\xbb\xbf" + OK), "not valid"),
    bad("two results", answers(OK[:-1] + b',"result":{}}'), "twice"),
    bad("another case", answers(OK[:-1] + b',"Result":{}}'), "another case"),
    bad("deep", answers(OK.replace(b"{}", b"[" * 100_000 + b"]" * 100_000)), "deeper"),
    bad("deep in an event", streams(event(OK.replace(b"{}", b"[" * 100_000 + b"]" * 100_000))), "deeper"),
    bad("no JSON in an event", streams(event(b"hello")), "not valid"),
    # Content that nobody asked for.
    bad("gzip bomb", answers(BOMB, "200 OK", JSON, "content-encoding: gzip"), "coding"),
    bad("HTML", answers(b"<html>", "200 OK", "text/html"), "content type 'text/html'"),
    bad("no content type", sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", then=stay), "content type ''"),
    bad("two content types", answers(OK, "200 OK", "application/json", "content-type: text/html"), "several"),
    bad("accepted", sends(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", then=stay), "content type"),
    bad("no content", sends(b"HTTP/1.1 204 No Content\r\n\r\n", then=stay), "content type"),
    # Refusals.
    *(
        refusal(status, answers(b"", f"{status} Moved", "text/html", "location: http://169.254.169.254/"))
        for status in (300, 301, 302, 303, 304, 307, 308)
    ),
    *(refusal(status, answers(b"<html>no", f"{status} No", "text/html")) for status in (400, 401, 403, 404, 429, 500)),
    refusal(503, answers(b"", "503 Busy", "application/json"), "empty JSON body"),
    refusal(502, answers(b"{", "502 Bad", "application/json"), "broken JSON body"),
    refusal(500, answers(b"x", "500 Error", "text/html", "content-encoding: gzip"), "compressed error page"),
    refusal(400, answers(NO_ID, "400 Bad"), "error without id"),
    refusal(400, answers(b'{"error":"invalid_request"}', "400 Bad"), "JSON of another kind"),
    refusal(500, floods(b"HTTP/1.1 500 E\r\n\r\n", b"x" * 65536, 100 * MIB), "100 MB error page"),
    refusal(413, refuses_upload, "refuses and hangs up"),
]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_a_misbehaving_backend_harms_one_call_only(case: Case) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        go = asyncio.Event()

        async def wait_and_answer(incoming: Incoming) -> None:
            await go.wait()
            await answer_well(incoming)

        server.script("resources/read", wait_and_answer)
        server.script("tools/call", case.behave)
        beside = asyncio.ensure_future(transport.call(make_call(1, "resources/read")))
        await server.arrival("resources/read")

        reset_peak_memory()
        before = peak_memory()
        started = time.monotonic()
        with pytest.raises(case.error) as caught:
            await transport.call(make_call(2, timeout_s=case.timeout_s))
        assert time.monotonic() - started < (3 if case.error is BackendTimeout else 30)
        assert peak_memory() - before < 4 * MAX_ANSWER_BYTES
        assert type(caught.value) is case.error
        assert case.message in str(caught.value)
        assert caught.value.data == {"backend": "b"}
        assert getattr(caught.value, "status", None) == case.status

        go.set()
        assert (await beside).kind == RESULT
        assert (await transport.call(make_call(3, "prompts/get"))).kind == RESULT
        assert len(server.of("tools/call")) == 1


def peak_memory() -> int:
    """Return the most memory this process has held since `reset_peak_memory`, 0 where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def reset_peak_memory() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def octets(head: bytes, body: bytes) -> Behaviour:
    """Send the body in chunks of one octet, in writes of their own."""
    return sends(head, *(chunk(bytes([octet])) for octet in body), LAST_CHUNK, then=stay)


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
FOLDED = b'\xef\xbb\xbfdata: {"jsonrpc":"2.0",\r\ndata: "id":2,"result":{}}\r\n\r\n'

# What is unusual and yet an answer.
FINE = {
    "JSON": answers(OK),
    "JSON with parameters": answers(OK, "200 OK", "Application/JSON; charset=utf-8"),
    "JSON with spaces": answers(b" \r\n" + OK + b"\n"),
    "identity coding": answers(OK, "200 OK", JSON, "content-encoding: identity"),
    "JSON in octets": octets(CHUNKED_HEAD, OK_2),
    "JSON until the end": sends(HEAD + b"\r\n" + OK),
    "HTTP/1.0": sends(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + OK),
    "100 and 103 before": sends(INTERIM, response(OK_2), then=stay),
    "stream": streams(event(OK_2)),
    "stream in octets": octets(SSE_HEAD, b"data:" + OK_2 + b"\n\n"),
    "stream with BOM, CRLF and two lines": streams(chunk(FOLDED)),
    "stream until the end": sends(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + OK + b"\n\n"),
    "stream left open": sends(SSE_HEAD, event(OK_2), then=stay_silent),
    "priming event": streams(chunk(b"id: 7\ndata:\n\n"), event(OK_2)),
    "event of another name": streams(chunk(b"event: ping\ndata: 2026\n\n"), event(OK_2)),
    "comments": streams(chunk(b": hello\n\n"), event(OK_2), chunk(b": bye\n\n")),
    "another answer first": streams(event(OK.replace(b"@", b"1")), event(OK_2)),
    "surplus bytes": sends(response(OK_2) + b"HTTP/1.1 200 OK\r\n\r\n", then=stay),
}


@pytest.mark.parametrize("behave", [pytest.param(behave, id=name) for name, behave in FINE.items()])
async def test_an_unusual_answer_is_an_answer(behave: Behaviour) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", behave)
        answer = await transport.call(make_call(2))
        assert (answer.kind, answer.id) == (RESULT, b"2")
        assert (await transport.call(make_call(3, "prompts/get"))).kind == RESULT


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "404 Not Found", "500 Internal Server Error"])
@pytest.mark.parametrize("as_stream", [False, True])
async def test_a_json_rpc_error_is_an_answer_whatever_the_status(status: str, as_stream: bool) -> None:
    body = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no such method","data":{"x":1}}}'
    if as_stream:
        behave = answers(b"data: " + body + b"\n\n", status, "text/event-stream")
    else:
        behave = answers(body, status)
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", behave)
        answer = await transport.call(make_call(2))
        assert (answer.kind, answer.data) == (ERROR, body)
        await transport.call(make_call(3, "prompts/get"))
        assert server.connections == 1


async def test_notifications_and_requests_are_delivered_in_order() -> None:
    request = b'{"jsonrpc":"2.0","id":"s1","method":"elicitation/create","params":{}}'
    numbered = [NOTE.replace(b"1}", b"%d}" % number) for number in range(10_000)]
    seen: list[Envelope] = []
    async with hosted(HANDSHAKE) as (server, transport):
        batches = [b"".join(map(event, numbered[i : i + 100])) for i in range(0, 10_000, 100)]
        server.script("tools/call", streams(*batches, event(request), event(OK_2)))
        answer = await transport.call(make_call(2, on_message=seen.append))
        assert answer.id == b"2"
        assert [message.data for message in seen] == [*numbered, request]
        assert seen[0].kind == NOTIFICATION


async def test_without_a_listener_of_its_own_a_call_leaves_messages_to_the_transport() -> None:
    seen: list[Envelope] = []
    async with hosted(HANDSHAKE) as (server, transport):
        transport.on_message = seen.append
        server.script("tools/call", streams(event(NOTE), event(OK_2)))
        await transport.call(make_call(2))
        assert [message.data for message in seen] == [NOTE]


async def test_requests_on_a_stateless_stream_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Envelope] = []
    request = b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}'
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", streams(event(request), event(NOTE), event(OK_2)))
        await transport.call(make_call(2, on_message=seen.append))
        assert [message.data for message in seen] == [NOTE]
        assert "backend.forbidden_request" in caplog.text


@pytest.mark.parametrize("cut", ["same piece", "next piece"])
async def test_a_second_answer_is_dropped_with_its_connection(cut: str, caplog: pytest.LogCaptureFixture) -> None:
    answered = asyncio.Event()

    async def twice(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(OK_2))
        await answered.wait()
        await incoming.send(event(OK.replace(b"@", b"3")), LAST_CHUNK)

    async with hosted(STATELESS) as (server, transport):
        if cut == "same piece":
            two = EVENT_HEAD + OK_2 + b"\n\n" + EVENT_HEAD + OK.replace(b"@", b"3") + b"\n\n"
            server.script("tools/call", streams(chunk(two)))
        else:
            server.script("tools/call", twice)
        assert (await transport.call(make_call(2))).id == b"2"
        answered.set()
        await server.connections_left(0)
        assert (await transport.call(make_call(3, "prompts/get"))).data.endswith(b'"result":{"ok":true}}')
        assert server.connections == 2
        assert "backend.surplus_answer" in caplog.text


@pytest.mark.parametrize("rest", [b"", b"zz\r\n", chunk(b": comment\n" * 10_000), chunk(b"data: " + b"x" * 70_000)])
async def test_a_stream_that_does_not_end_well_after_its_answer_loses_its_connection(
    rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surplus, "DRAIN_TIMEOUT_S", 0.05)

    answered = asyncio.Event()

    async def lingers(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(incoming.result()))
        await answered.wait()
        await incoming.send(rest)
        await stay_silent(incoming)

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", lingers)
        assert (await transport.call(make_call(2))).kind == RESULT
        answered.set()
        await server.connections_left(0)


async def test_a_stream_that_ends_soon_after_its_answer_keeps_its_connection() -> None:
    ended = asyncio.Event()

    async def lingers(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(incoming.result()))
        await ended.wait()
        await incoming.send(LAST_CHUNK)

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", lingers)
        await transport.call(make_call(2))
        assert "1 leased" in repr(transport)
        ended.set()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert "1 idle" in repr(transport)
        await transport.call(make_call(3, "prompts/get"))
        assert server.connections == 1


async def test_a_backend_that_reads_nothing_gets_little() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        call = make_call(2, timeout_s=0.2)
        call.message = call.message[:-1] + b" " * (8 * MIB) + b"}"
        server.script("tools/call", stay_silent)
        with pytest.raises(BackendTimeout):
            await transport.call(call)
        assert (await transport.call(make_call(3, "prompts/get"))).kind == RESULT


@pytest.mark.parametrize("as_stream", [False, True])
async def test_batches_of_the_revision_that_has_them(as_stream: bool) -> None:
    batch = b" [" + NOTE + b", " + OK.replace(b"@", b"9") + b"," + OK_2 + b"]"
    seen: list[Envelope] = []
    async with hosted("2025-03-26") as (server, transport):
        server.script("tools/call", streams(event(batch)) if as_stream else answers(batch))
        answer = await transport.call(make_call(2, on_message=seen.append))
        assert answer.data == OK_2
        assert [message.data for message in seen] == [NOTE]


BAD_BATCHES = {
    "empty": b"[]",
    "of numbers": b"[1]",
    "of batches": b"[[]]",
    "more than an array": b"[" + OK_2 + b'],"x":1',
    "unfinished": b"[" + OK,
    "without comma": b"[" + OK * 2 + b"]",
    "deep": b"[" * 90 + b"]" * 90,
    "of no messages": b'[{"jsonrpc":"2.0"}]',
    "large": b"[1" + b",1" * MIB + b"]",
}


@pytest.mark.parametrize("batch", [pytest.param(batch, id=name) for name, batch in BAD_BATCHES.items()])
async def test_batches_that_are_none(batch: bytes) -> None:
    async with hosted("2025-03-26") as (server, transport):
        server.script("tools/call", answers(batch))
        with pytest.raises(BackendAnswerError):
            await transport.call(make_call(2))


async def test_an_octet_at_a_time_costs_no_more_than_linear_time() -> None:
    """A megabyte in chunks of one octet: 6 MiB on the wire."""
    body = b'{"jsonrpc":"2.0","id":2,"result":"' + b"x" * (1 << 18) + b'"}'
    wire = CHUNKED_HEAD + b"".join(map(chunk, (bytes([octet]) for octet in body))) + LAST_CHUNK
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", sends(wire, then=stay))
        started = time.process_time()
        assert (await transport.call(make_call(2))).data == body
        assert time.process_time() - started < 10


async def test_an_answer_to_another_request_is_logged_and_an_error_without_an_id_of_ours_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        for unread in (NO_ID, NO_ID.replace(b"null", b'"server-error"')):
            server.script("tools/call", answers(unread, "400 Bad Request"))
            with pytest.raises(BackendRefused):
                await transport.call(make_call(2))
        assert not caplog.records
        server.script("tools/call", answers(OK.replace(b"@", b"999")))
        with pytest.raises(BackendAnswerError):
            await transport.call(make_call(2))
        assert caplog.messages == ["backend.foreign_answer"]


async def test_nothing_of_a_refusing_backend_reaches_the_message() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", answers(b"secret stack trace", "500 secret reason", "text/plain"))
        with pytest.raises(BackendRefused) as caught:
            await transport.call(make_call(2))
        assert "secret" not in str(caught.value)
        assert "secret" not in str(caught.value.data)


async def test_many_calls_at_once_get_their_own_answers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with hosted(STATELESS) as (server, transport):
        await check_many(server, transport)
        assert server.connections <= MAX_CONNECTIONS
    assert not caplog.records


async def check_many(server: HostileServer, transport: HttpTransport) -> None:
    async def moody(incoming: Incoming) -> None:
        number = incoming.message["id"]
        if number % 3 == 0:
            await incoming.send(SSE_HEAD, event(NOTE), event(incoming.result(b"%d" % number)), LAST_CHUNK)
        else:
            await incoming.send(response(incoming.result(b"%d" % number)))

    server.script("tools/call", moody)
    found = await asyncio.gather(*(transport.call(make_call(number)) for number in range(1, 1001)))
    for number, answer in enumerate(found, 1):
        assert answer.result is not None
        assert answer.id == answer.data[slice(*answer.result)] == b"%d" % number
