"""A stream that breaks before the response is gone on with where its server lets us, and only so long."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.in_process import proxied
from tests.mcp_backend import HANDSHAKE, Backend, Call, Outcome, text
from tests.mcp_caller import Caller, Reply
from tests.validity import check
from tests.virtual import virtual

from only1mcp.backend.base import PASSED, BackendCall
from only1mcp.backend.resume import MAX_TRIES, StreamBroken, broken, go_on, last_id
from only1mcp.errors import BackendAnswerError, BackendRefused, BackendUnavailable
from only1mcp.wire.sse import SSEDecoder

CALL = BackendCall("tools/call", b"{}", b"1", 30.0)
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


class Server:
    """Answers each attempt with what comes next; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.abandoned: list[BackendCall] = []

    async def get(self, last_event_id: str) -> Any:
        self.asked.append(last_event_id)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def go_on(self, end: StreamBroken) -> Any:
        return await go_on(CALL, end, self.get, self.abandoned.append)


@virtual
async def test_it_comes_back_when_the_server_says_with_the_last_id() -> None:
    loop = asyncio.get_running_loop()
    server = Server(StreamBroken("x", "2", 700), StreamBroken("x", "3", None), PASSED)
    began = loop.time()
    assert await server.go_on(StreamBroken("x", "1", 300)) is PASSED
    assert server.asked == ["1", "2", "3"]
    assert loop.time() - began == pytest.approx(0.3 + 0.7 + 1.0)


@pytest.mark.parametrize("failure", [StreamBroken("the stream ended", "1", 0), BackendUnavailable("refused")])
def test_it_does_not_come_back_for_ever(failure: Exception) -> None:
    server = Server(failure)

    @virtual
    async def run() -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(BackendAnswerError, match="the stream ended"):
            await server.go_on(StreamBroken("the stream ended", "1", 0))
        assert asyncio.get_running_loop().time() > began

    run()
    assert len(server.asked) == MAX_TRIES


@virtual
async def test_a_server_that_refuses_is_not_asked_again() -> None:
    server = Server(BackendRefused("no", status=405))
    with pytest.raises(BackendAnswerError, match="cannot be resumed: no") as caught:
        await server.go_on(StreamBroken("the stream ended", "1", 0))
    assert not isinstance(caught.value, BackendRefused)
    gone = Server(BackendRefused("no session", status=404))
    with pytest.raises(BackendRefused):
        await gone.go_on(StreamBroken("the stream ended", "1", 0))
    assert len(server.asked) == len(gone.asked) == 1


@virtual
async def test_one_who_does_not_wait_any_more_is_told_of() -> None:
    server = Server(PASSED)
    task = asyncio.ensure_future(server.go_on(StreamBroken("x", "1", 60_000)))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (server.abandoned, server.asked) == ([CALL], [])


@pytest.mark.parametrize(
    ("event", "revision", "id"),
    [
        (b"id: 7\nretry: 20\ndata: \n\n", "2025-11-25", "7"),
        (b"id: 7\ndata: \n\n", "2025-03-26", "7"),
        (b"id: 7\ndata: \n\n", "2026-07-28", None),
        (b"id: 7\ndata: \n\n", None, None),
        (b"data: x\n\n", "2025-11-25", None),
        (b"id: \ndata: x\n\n", "2025-11-25", None),
        (b"id: a b\ndata: x\n\n", "2025-11-25", None),
        ("id: ä\ndata: x\n\n".encode(), "2025-11-25", None),
        (b"id: " + b"x" * 1025 + b"\ndata: x\n\n", "2025-11-25", None),
    ],
)
def test_what_can_be_resumed(event: bytes, revision: str | None, id: str | None) -> None:
    decoder = SSEDecoder(1 << 20)
    decoder.receive_data(event)
    error = broken("x", decoder, revision)
    assert (error.last_event_id if isinstance(error, StreamBroken) else None) == id


def test_the_id_of_the_last_event_in_a_part() -> None:
    data = b"id: 1\ndata: {}\n\nid:2\ndata: {}\n\ndata: id: 3\n\nid: 4\n"
    end = data.index(b"id: 4")
    assert last_id(data, 0, end) == b"id:2\n"
    assert last_id(data, 0, 10) == b"id: 1\n"
    assert last_id(data, 16, end) == b"id:2\n"
    assert last_id(data, data.index(b"data: id"), end) == b""


# Through the whole proxy.


@dataclass
class Polling(Backend):
    """Serves GET with `rest`, made from the id of the call, and closes; `polls` are the ids it is asked with."""

    rest: list[bytes] = field(default_factory=list)
    polls: list[str] = field(default_factory=list)
    call_id: Any = None

    async def _answer(self, method: str, headers: Any, body: bytes, reader: Any, writer: Any) -> bool:
        if method != "GET" or "last-event-id" not in headers:
            return await super()._answer(method, headers, body, reader, writer)
        assert headers["accept"] == "text/event-stream"
        assert "mcp-session-id" in headers
        self.polls.append(headers["last-event-id"])
        writer.write(self.rest.pop(0).replace(b"ID", json.dumps(self.call_id).encode()))
        return False


def closing(*events: bytes) -> Any:
    """Return a tool that says these events and closes its stream."""

    async def tool(call: Call) -> Outcome:
        assert isinstance(call.backend, Polling)
        call.backend.call_id = call.message["id"]
        token = json.dumps(call.token).encode()
        return SSE + b"\r\n" + b"".join(events).replace(b"TOKEN", token)

    return tool


def whole(*events: bytes) -> Any:
    """Return one whose stream ends in order, all of it at once."""

    async def tool(call: Call) -> Outcome:
        assert isinstance(call.backend, Polling)
        call.backend.call_id = call.message["id"]
        body = b"".join(events)
        return SSE + b"content-length: %d\r\n\r\n" % len(body) + body

    return tool


PRIMING = b"id: e0\nretry: 60\ndata: \n\n"
PROGRESS = (
    b'id: e1\ndata: {"jsonrpc":"2.0","method":"notifications/progress",'
    b'"params":{"progressToken":TOKEN,"progress":1}}\n\n'
)
ANSWER = SSE + b'\r\nid: e2\ndata: {"jsonrpc":"2.0","id":ID,"result":' + json.dumps(text("rest")).encode() + b"}\n\n"


async def ask(backend: Backend, revision: str = "2025-11-25", **meta: Any) -> Reply:
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.initialize()
        await caller.call("tool")  # so that a connection is kept, and the next call needs no task
        assert isinstance(backend, Polling)
        backend.polls.clear()
        reply = await caller.call("tool", meta=meta or None)
        for message in reply.messages:
            check(message, revision, "tools/call")
        return reply


@pytest.mark.parametrize("tool", [closing(PRIMING), whole(PRIMING), whole(PRIMING, b": bye\n\n")])
async def test_the_rest_of_a_stream_is_got(tool: Any) -> None:
    backend = Polling(era=HANDSHAKE, tools={"tool": tool}, rest=[ANSWER, ANSWER])
    reply = await ask(backend)
    assert (reply.text, backend.polls) == ("rest", ["e0"])
    # The client could have left meanwhile, and come back.
    assert reply.body.startswith(b"id: p.0.")


async def test_what_was_relayed_is_not_asked_for_again() -> None:
    again = SSE + b"\r\nid: e1b\ndata: \n\n"
    backend = Polling(era=HANDSHAKE, tools={"tool": closing(PRIMING, PROGRESS)}, rest=[ANSWER, again, ANSWER])
    reply = await ask(backend, progressToken="t")
    assert backend.polls == ["e1", "e1b"]
    assert [message.get("method") for message in reply.messages] == ["notifications/progress", None]
    assert reply.text == "rest"


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 405 x\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_a_server_that_has_no_rest_has_failed(refusal: bytes) -> None:
    backend = Polling(era=HANDSHAKE, tools={"tool": closing(PRIMING)}, rest=[ANSWER, refusal])
    reply = await ask(backend)
    assert "the stream ended without the response" in reply.error["message"]


async def test_a_stream_without_ids_has_failed() -> None:
    backend = Polling(era=HANDSHAKE, tools={"tool": closing(b": nothing\n\n")}, rest=[])
    reply = await ask(backend)
    assert (reply.error["message"], backend.polls) == ("the stream ended without the response", [])


async def test_a_call_that_is_resumed_still_has_its_time() -> None:
    slow = closing(b"id: e0\nretry: 60000\ndata: \n\n")
    backend = Polling(era=HANDSHAKE, tools={"tool": slow}, rest=[])
    async with proxied(backend, each={"timeout_ms": 300}) as port, Caller(port) as caller:
        await caller.initialize()
        for _ in range(2):
            reply = await caller.call("tool")
            assert "no complete answer within" in reply.error["message"]
        await backend.notified.wait()  # that it is cancelled
