"""Streams whose messages are relayed many at a time: the reader gets what it would get of them one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bytes_feed import cut_at, places, segmentations

from only1mcp._fast import Envelope
from only1mcp.backend.answer import MAX_TAIL_BYTES, CallReader
from only1mcp.backend.base import BackendCall
from only1mcp.errors import BackendAnswerError
from only1mcp.wire import sse
from only1mcp.wire.http1_events import END, ResponseHead

HEAD = ResponseHead(200, [(b"content-type", b"text/event-stream")])
RESPONSE = b'{"jsonrpc":"2.0","id":12,"result":{}}'
LOG = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'


def progress(number: int, token: bytes = b"12", more: bytes = b"") -> bytes:
    return b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":%d%b}}' % (
        token,
        number,
        more,
    )


class Connection:
    """Gives the pieces of a body."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [*pieces]
        self.aborted = False

    async def next_event(self) -> Any:
        return self.pieces.pop(0) if self.pieces else END

    def abort(self) -> None:
        self.aborted = True


class Relay:
    """The reader's side, as a proxied call has it; `sent` is what it was given, one event after the other."""

    progress_token = b'"mine"'
    wants_logs = True
    must_drain = False

    def __init__(self) -> None:
        self.sent = b""
        self.batches = 0

    def take_events(self, events: bytes) -> None:
        self.batches += 1
        self.sent += events

    def take(self, message: Envelope) -> None:
        if message.method == "notifications/progress":
            assert message.params is not None
            text = message.data.replace(b'"progressToken":12', b'"progressToken":"mine"')
            text = text.replace(b'"progressToken" : 12', b'"progressToken" : "mine"')
            self.sent += sse.encode(text)
        else:
            self.sent += sse.encode(message.data)

    async def drain(self) -> None:
        raise AssertionError("nothing waits")


async def read(pieces: list[bytes], *, batches: bool) -> tuple[Any, Relay, Connection]:
    relay = Relay()
    call = BackendCall(
        method="tools/call", message=b"", id=b"12", timeout_s=None, on_message=relay.take,
        reader=relay if batches else None,
    )  # fmt: skip
    reader = CallReader(call, name="b", on_message=relay.take, in_session=False, revision="2025-11-25")
    connection = Connection(pieces)
    try:
        answer: Any = await reader.read(connection, HEAD)  # type: ignore[arg-type]
    except BackendAnswerError as error:
        answer = error.message
    return answer.data if isinstance(answer, Envelope) else answer, relay, connection


def events(*texts: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(b"event: message" + end + b"data: " + text + end + end for text in texts)


STREAMS = [
    events(*(progress(n) for n in range(5)), LOG, RESPONSE),
    events(*(progress(n) for n in range(5)), LOG, RESPONSE, end=b"\r\n"),
    events(progress(1), RESPONSE, end=b"\r"),
    b": hello\n\nid: 1\ndata:\n\n" + events(progress(1)) + b"retry: 9\n\n" + events(RESPONSE),
    b"\xef\xbb\xbf" + events(progress(1), RESPONSE),
    events(progress(1)) + b"event: other\ndata: x\n\n" + events(progress(2), RESPONSE),
    events(progress(1)) + b"data: " + progress(2).replace(b",", b",\ndata: ", 1) + b"\n\n" + events(RESPONSE),
    events(progress(1), progress(2).replace(b":", b" : "), progress(3, more=b',"other":[1]'), RESPONSE),
    events(progress(1), b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', progress(2), RESPONSE),
    events(progress(1, more=b',"message":"' + b"x" * MAX_TAIL_BYTES + b'"'), progress(2), RESPONSE),
    events(progress(1), RESPONSE, progress(2)),
    events(progress(1), RESPONSE) + b": bye\n\n",
    events(progress(1), progress(2)),
    events(progress(1)) + b"data: " + RESPONSE,
    events(progress(1), b"{", RESPONSE),
]


@pytest.mark.parametrize("stream", STREAMS)
async def test_the_reader_gets_the_same(stream: bytes) -> None:
    answer, one_by_one, _ = await read([stream], batches=False)
    for pieces in segmentations(stream):
        relayed_answer, relay, _ = await read(pieces, batches=True)
        assert relayed_answer == answer
        assert relay.sent == one_by_one.sent


@given(st.lists(st.sampled_from(STREAMS[:9]), min_size=1, max_size=4), places)
@settings(deadline=None)
def test_the_reader_gets_the_same_however_it_is_cut(streams: list[bytes], places: list[int]) -> None:
    before = b"".join(stream.replace(RESPONSE, LOG) for stream in streams[:-1])
    stream = before + streams[-1]
    answer, one_by_one, _ = asyncio.run(read([stream], batches=False))
    relayed_answer, relay, _ = asyncio.run(read(cut_at(stream, places), batches=True))
    assert (relayed_answer, relay.sent) == (answer, one_by_one.sent)


async def test_many_events_are_one_batch() -> None:
    _, relay, connection = await read([events(*(progress(n) for n in range(500)), RESPONSE)], batches=True)
    assert relay.batches == 1
    assert relay.sent.count(b'"mine"') == 500
    assert not connection.aborted


async def test_what_follows_the_response_costs_the_connection() -> None:
    for stream, aborted in ((events(RESPONSE, progress(1)), True), (events(RESPONSE) + b": bye\n\n", False)):
        _, _, connection = await read([stream], batches=True)
        assert connection.aborted == aborted
