"""Large results on their way through the proxy, over real sockets: what passes, what must not, and what is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import HANDSHAKE, STATELESS, Backend, Call, Outcome
from tests.mcp_caller import Caller, request, stateless

ERAS = [STATELESS, HANDSHAKE]
SIZE = 1 << 20
PIECE = 64 * 1024
# How a result begins that is valid in both eras.
RESULT = b',"result":{"resultType":"complete"'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def result(call: Call, *, size: int = SIZE) -> bytes:
    """Return a result of about `size` octets as the Python SDK orders its members."""
    text = b"some of it \\n" * (size // 12)
    return b'{"jsonrpc":"2.0","id":' + id_of(call) + RESULT + b',"content":[{"type":"text","text":"' + text + b'"}]}}'


def turned(call: Call) -> bytes:
    """Return a result as the TypeScript SDK orders its members."""
    return (
        b'{"result":{"resultType":"complete","content":[],"n":"'
        + b"x" * SIZE
        + b'"},"jsonrpc":"2.0","id":'
        + id_of(call)
        + b"}"
    )


def spread(call: Call) -> bytes:
    """Return a result with line ends between its tokens."""
    values = b",\n".join(b"%d" % number for number in range(SIZE // 8))
    return (
        b'{"jsonrpc": "2.0",\n "id": '
        + id_of(call)
        + b',\n "result": {"resultType":"complete","content":[],"values": [\n'
        + values
        + b"\n]}}\n"
    )


def id_of(call: Call) -> bytes:
    return json.dumps(call.message["id"]).encode()


def with_length(body: bytes) -> bytes:
    return JSON_HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


def in_chunks(body: bytes, head: bytes = JSON_HEAD, size: int = 50_000) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, [*pieces, b""]))


def until_close(body: bytes) -> bytes:
    return JSON_HEAD + b"\r\n" + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes, end: bytes = b"\n") -> bytes:
    lines = b"".join(b"data: " + line + end for line in data.split(b"\n"))
    return b"event: message" + end + lines + end


def as_event(body: bytes) -> bytes:
    return in_chunks(event(body), EVENTS_HEAD)


def as_event_with_crlf(body: bytes) -> bytes:
    return in_chunks(event(body, b"\r\n"), EVENTS_HEAD, size=4099)


def answering(make: Callable[[Call], bytes]) -> Callable[[Call], Awaitable[Outcome]]:
    """Return a tool that answers with these bytes and closes."""

    async def tool(call: Call) -> Outcome:
        return make(call)

    return tool


def expected(backend: Backend, make: Callable[[Call], bytes], id: bytes) -> bytes:
    """Return the message with the id that the client knows."""
    forwarded = backend.calls[-1]["id"]
    message = make(Call(backend, {"id": forwarded}, {}, None))  # type: ignore[arg-type]
    old = b'"id":%d' % forwarded if b'"id":%d' % forwarded in message else b'"id": %d' % forwarded
    assert message.count(old) == 1
    return message.replace(old, old[: -len(b"%d" % forwarded)] + id)


@asynccontextmanager
async def open_caller(port: int, era: str) -> AsyncIterator[Caller]:
    async with Caller(port) as caller:
        if era == HANDSHAKE:
            await caller.initialize()
        yield caller


def begin_call(caller: Caller, tool: str) -> None:
    """Send a call, and read nothing."""
    if caller.session is None:
        caller.write(*stateless("tools/call", name=tool, arguments={}))
    else:
        caller.write(request("tools/call", name=tool, arguments={}), {"mcp-session-id": caller.session})


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("make", [result, turned, spread])
@pytest.mark.parametrize("framed", [with_length, in_chunks, until_close, as_event, as_event_with_crlf])
async def test_a_large_result_arrives_as_it_was_sent(
    era: str, make: Callable[[Call], bytes], framed: Callable[[bytes], bytes]
) -> None:
    backend = Backend(era=era, tools={"big": answering(lambda call: framed(make(call)))})
    async with proxied(backend) as port, open_caller(port, era) as caller:
        reply = await caller.call("big")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.body == expected(backend, make, b"1")
        assert ("content-length" in reply.headers) == (framed is with_length)
        # The connection goes on.
        assert (await caller.call("big")).status == 200


@pytest.mark.parametrize("framed", ["length", "chunks", "event"])
async def test_its_beginning_arrives_before_its_end_was_sent(framed: str) -> None:
    end = asyncio.Event()

    async def big(call: Call) -> Outcome:
        body = result(call)
        whole = {"length": with_length, "chunks": in_chunks, "event": as_event}[framed](body)
        call.writer.write(whole[: SIZE // 2])
        await end.wait()
        return whole[SIZE // 2 :]

    async with proxied(Backend(tools={"big": big})) as port, Caller(port) as caller:
        begin_call(caller, "big")
        status, headers = await caller.head()
        length = headers.get("content-length")
        begin = await caller.reader.readexactly(SIZE // 4) if length else await caller.chunk()
        end.set()
        if length:
            whole = begin + await caller.reader.readexactly(int(length) - len(begin))
        else:
            whole = begin
            while data := await caller.chunk():
                whole += data
        assert status == 200
        assert len(json.loads(whole)["result"]["content"][0]["text"]) > SIZE * 0.9


@pytest.mark.parametrize("make", [result, turned, spread])
async def test_after_progress_it_is_an_event(make: Callable[[Call], bytes]) -> None:
    async def big(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        body = event(make(call))
        return b"".join(chunk(body[start : start + PIECE]) for start in range(0, len(body), PIECE)) + b"0\r\n\r\n"

    backend = Backend(tools={"big": big})
    async with proxied(backend) as port, Caller(port) as caller:
        reply = await caller.call("big", meta={"progressToken": "mine"})
        assert reply.streamed
        first, second = reply.body.removesuffix(b"\n\n").split(b"\n\n")
        assert b'"mine"' in first
        message = expected(backend, make, b"1")
        assert second == b"event: message\ndata: " + message.replace(b"\n", b"\ndata: ")


async def test_many_at_once_do_not_meet() -> None:
    async def big(call: Call) -> Outcome:
        return with_length(result(call, size=300_000 + 1000 * call.arguments["n"]))

    async with proxied(Backend(tools={"big": big})) as port:

        async def ask(number: int) -> int:
            async with Caller(port) as caller:
                reply = await caller.send(*stateless("tools/call", id=number, name="big", arguments={"n": number}))
                assert reply.response["id"] == number
                return len(reply.text)

        sizes = await asyncio.gather(*map(ask, range(40)))
        assert sizes == [len("some of it \n") * ((300_000 + 1000 * number) // 12) for number in range(40)]


@pytest.mark.parametrize("framed", [in_chunks, until_close, as_event])
async def test_a_client_of_http_1_0_gets_it_whole(framed: Callable[[bytes], bytes]) -> None:
    backend = Backend(tools={"big": answering(lambda call: framed(result(call)))})
    async with proxied(backend) as port, Caller(port) as caller:
        message, fields = stateless("tools/call", name="big", arguments={})
        raw = caller.http(json.dumps(message).encode(), fields).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
        caller.writer.write(raw)
        reply = await caller.reply()
        assert len(reply.body) == int(reply.headers["content-length"]) > SIZE * 0.9


async def test_what_must_be_changed_is_not_let_pass() -> None:
    uri = "test://shared"

    async def big(call: Call) -> Outcome:
        link = {"type": "resource_link", "uri": uri, "name": "x"}
        return {"content": [link, {"type": "text", "text": "x" * SIZE}]}

    backends = [Backend(tools={"big": big}, resources=[{"uri": uri, "name": "x"}]) for _ in range(2)]
    async with proxied(*backends) as port, Caller(port) as caller:
        reply = await caller.call("b1__big")
        assert reply.result["content"][0]["uri"] == f"only1mcp://b1/{uri}"
        assert len(reply.result["content"][1]["text"]) == SIZE


async def test_a_large_error_gets_the_status_of_its_code() -> None:
    def error(call: Call) -> bytes:
        text = b"x" * SIZE
        return b'{"jsonrpc":"2.0","id":' + id_of(call) + b',"error":{"code":-32602,"message":"' + text + b'"}}'

    backend = Backend(tools={"big": answering(lambda call: with_length(error(call)))})
    async with proxied(backend) as port, Caller(port) as caller:
        reply = await caller.call("big")
        assert (reply.status, reply.code) == (400, -32602)


# What is no answer.


@pytest.mark.parametrize(
    "make",
    [
        lambda call: b"<html>" + b"x" * SIZE,
        lambda call: result(call).replace(b'"2.0"', b'"1.0"'),
        lambda call: result(call).replace(b'"id":', b'"id":1'),
        lambda call: b'{"jsonrpc":"2.0","result":{},"result":"' + b"x" * SIZE + b'"}',
        lambda call: b"[" + result(call) + b"]",
    ],
)
@pytest.mark.parametrize("framed", [with_length, in_chunks, as_event])
async def test_a_fault_at_the_beginning_is_an_error(
    make: Callable[[Call], bytes], framed: Callable[[bytes], bytes]
) -> None:
    backend = Backend(tools={"big": answering(lambda call: framed(make(call)))})
    async with proxied(backend) as port, Caller(port) as caller:
        reply = await caller.call("big")
        assert (reply.status, reply.code) == (502, -31007)


async def cut_off(caller: Caller) -> bytes:
    """Return the body of a response that has no end; fail if it has one."""
    status, headers = await caller.head()
    assert status == 200
    async with asyncio.timeout(20):
        rest = await caller.reader.read()
    if "content-length" in headers:
        assert len(rest) < int(headers["content-length"])
    else:
        assert not rest.endswith(b"\r\n0\r\n\r\n")
    return rest


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "not JSON": lambda body: body[:-3] + b"x" + body[-2:],
    "not UTF-8": lambda body: body[:-8] + b"\xff" + body[-7:],
    "twice": lambda body: body[:-1] + b',"id":1}',
    "an error too": lambda body: body[:-1] + b',"error":{}}',
    "more than one": lambda body: body + b"{}",
    "half": lambda body: body[: SIZE // 2],
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("framed", [with_length, in_chunks, as_event])
async def test_a_fault_after_the_beginning_cuts_the_response(
    era: str, fault: str, framed: Callable[[bytes], bytes]
) -> None:
    backend = Backend(era=era, tools={"big": answering(lambda call: framed(FAULTS[fault](result(call))))})
    async with backend, running(configured(backend)) as worker:
        assert worker.listener is not None
        async with open_caller(worker.listener.port, era) as caller:
            begin_call(caller, "big")
            assert await cut_off(caller)
        counts = worker.metrics.render()[1].decode()
    assert 'only1mcp_errors_total{source="backend"} 1.0' in counts
    assert 'only1mcp_backend_errors_total{backend="b0"} 1.0' in counts


async def test_an_event_that_turns_out_to_be_another_is_cut() -> None:
    def other(call: Call) -> bytes:
        return in_chunks(event(result(call)).removesuffix(b"\n") + b"event: other\n\n", EVENTS_HEAD)

    async with proxied(Backend(tools={"big": answering(other)})) as port, Caller(port) as caller:
        begin_call(caller, "big")
        assert await cut_off(caller)
