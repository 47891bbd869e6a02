"""One connection against a plain socket: ends, flow control in both directions, and failing to connect."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from only1mcp.backend.connecting import connect
from only1mcp.backend.connection import READ_HIGH_WATER_BYTES, HttpConnection
from only1mcp.errors import BackendAnswerError
from only1mcp.wire.http1_events import END, Headers, ResponseHead

HOST: Headers = [(b"host", b"h")]
# Of uvloop, in one call of `data_received`; asyncio's is 256 KiB.
LARGEST_READ = 256 * 1024
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


class Peer:
    """The backend's end of a connection; what it does has happened when the call returns."""

    def __init__(self, listener: socket.socket) -> None:
        self.socket, _ = listener.accept()
        self.socket.settimeout(5)

    def read_request(self, body_bytes: int = 0) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < body_bytes:
            data += self.socket.recv(65536)
        return data

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()


async def open_to(listener: socket.socket) -> tuple[HttpConnection, Peer]:
    connection = await connect("127.0.0.1", listener.getsockname()[1], None)
    return connection, Peer(listener)


async def rest(connection: HttpConnection) -> bytes:
    body = b""
    while (piece := await connection.next_event()) is not END:
        assert isinstance(piece, bytes)
        body += piece
    return body


async def end(connection: HttpConnection, peer: Peer) -> None:
    connection.abort()
    await connection.closed
    peer.close()


async def turns(count: int = 5) -> None:
    """Let the event loop read what the peer has sent."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ask(connection: HttpConnection, body: bytes = b"{}") -> ResponseHead:
    return await connection.request(b"POST", b"/mcp?a=b", HOST, body)


async def test_one_exchange_after_another(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    for number in (1, 2, 3):
        asking = asyncio.ensure_future(ask(connection))
        await turns()
        assert peer.read_request(2) == b"POST /mcp?a=b HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"
        assert (connection.sent, connection.answered) == (True, False)
        peer.send(OK)
        assert (await asking).status == 200
        assert await rest(connection) == b"ok"
        assert connection.finish()
        assert repr(connection) == f"<HttpConnection idle exchanges={number}>"
        assert connection.usable()
    await end(connection, peer)


@pytest.mark.parametrize("has_poll", [True, False])
async def test_an_end_is_known_before_the_event_loop_reports_it(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, has_poll: bool
) -> None:
    if not has_poll:  # Windows
        monkeypatch.delattr(select, "poll", raising=False)
    connection, peer = await open_to(listener)
    assert connection.usable()
    peer.close()
    assert not connection.usable()
    await connection.closed


async def test_unasked_bytes_are_known_before_the_event_loop_reports_them(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    peer.send(b"H")
    assert not connection.usable()
    await end(connection, peer)


async def test_a_connection_lost_while_idle_reports_it_once(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    lost: list[HttpConnection] = []
    connection.on_lost = lost.append
    peer.close()
    await connection.closed
    assert lost == [connection]
    with pytest.raises(BackendAnswerError, match="before the request was sent"):
        await ask(connection)
    assert not connection.sent


async def test_an_answer_that_ends_with_the_connection(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection))
    await turns()
    peer.read_request(2)
    peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    peer.close()
    await asking
    assert await rest(connection) == b"all of it"
    assert not connection.finish()
    await connection.closed


async def test_what_came_before_a_broken_end_can_be_read(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection))
    await turns()
    peer.read_request(2)
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    peer.close()
    await asking
    await connection.closed
    assert connection.answered
    assert await connection.next_event() == b"half"
    with pytest.raises(BackendAnswerError, match="closed the connection before"):
        await connection.next_event()
    with pytest.raises(BackendAnswerError):
        await connection.next_event()


async def test_aborting_wakes_the_reader(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection))
    await turns()
    connection.abort()
    with pytest.raises(BackendAnswerError, match="was closed"):
        await asking
    await end(connection, peer)


async def test_a_reader_that_lags_stops_the_backend(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection))
    await turns()
    peer.read_request(2)
    size = 64 * 1024 * 1024
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    await asking
    peer.socket.setblocking(False)
    sent = 0
    stalled = 0
    while stalled < 100:
        try:
            sent += peer.socket.send(bytes(min(65536, size - sent)))
            stalled = 0
        except BlockingIOError:
            stalled += 1
        await asyncio.sleep(0)
    assert sent < 32 * 1024 * 1024  # the socket buffers of the system, and what we hold
    held = 0
    while isinstance(piece := connection.maybe_event(), bytes):
        held += len(piece)
    assert READ_HIGH_WATER_BYTES <= held <= READ_HIGH_WATER_BYTES + LARGEST_READ
    # The reader has caught up: the backend may go on.
    before = sent
    while sent < before + 1024 * 1024:
        try:
            sent += peer.socket.send(bytes(65536))
        except BlockingIOError:
            await connection.next_event()
    await end(connection, peer)


async def fill(peer: Peer, most: int) -> int:
    """Send octets until none are taken any more, or there are no more; return how many."""
    peer.socket.setblocking(False)
    sent = stalled = 0
    while stalled < 100 and sent < most:
        try:
            sent += peer.socket.send(bytes(min(65536, most - sent)))
            stalled = 0
        except BlockingIOError:
            stalled += 1
        await asyncio.sleep(0)
    return sent


async def answer_begins(listener: socket.socket, head: bytes) -> tuple[HttpConnection, Peer]:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection))
    await turns()
    peer.read_request(2)
    peer.send(head)
    await asking
    return connection, peer


async def test_a_body_is_poured_as_it_comes_until_no_more_is_wanted(listener: socket.socket) -> None:
    size = 64 * 1024 * 1024
    connection, peer = await answer_begins(listener, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    taken = 0
    wanted = 8 * 1024 * 1024

    def take(piece: bytes) -> bool:
        nonlocal taken
        taken += len(piece)
        return taken < wanted

    pouring = asyncio.ensure_future(connection.pour(take))
    await turns()
    sent = await fill(peer, size)
    assert wanted <= taken <= wanted + LARGEST_READ
    assert not await pouring
    # Nobody wants any more: it stays with the backend.
    assert sent < size
    assert connection._unread <= LARGEST_READ
    # And goes on where it stopped.
    wanted = size + 1
    pouring = asyncio.ensure_future(connection.pour(take))
    await turns()
    while sent < size:
        sent += await fill(peer, size - sent)
    assert await pouring
    assert (taken, connection.finish()) == (size, True)
    await end(connection, peer)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "expected", "failure"),
    [
        ([b"3\r\nabc\r\n2\r\nde\r\n", b"1\r\n", b"f\r\n0\r\n\r\n"], b"abcdef", None),
        ([b"3\r\nabc\r\n", b"x\r\n"], b"abc", "not valid HTTP"),
        ([b"3\r\nabc\r\n", b""], b"abc", "closed the connection"),
    ],
)
async def test_a_body_in_chunks_is_poured_to_its_end(
    listener: socket.socket, pieces: list[bytes], expected: bytes, failure: str | None
) -> None:
    connection, peer = await answer_begins(listener, CHUNKED)
    taken: list[bytes] = []
    pouring = asyncio.ensure_future(connection.pour(lambda piece: taken.append(piece) is None))
    for piece in pieces:
        await turns()
        if piece:
            peer.send(piece)
        else:
            peer.close()
    if failure is None:
        assert await pouring
        assert connection.ended
        assert connection.finish()
    else:
        with pytest.raises(BackendAnswerError, match=failure):
            await pouring
    assert b"".join(taken) == expected
    await end(connection, peer)


class Hearer:
    """Who began a request without waiting for it, and takes nothing yet when the answer begins."""

    def __init__(self) -> None:
        self.heard = 0

    def begun(self) -> None:
        self.heard += 1

    def answered(self, head: ResponseHead, body: bytes) -> None:
        raise AssertionError("expected an answer that is not taken as a whole")

    def lost(self, reason: str) -> None:
        raise AssertionError(reason)


class Written:
    """A transport on which nothing happens but what a test calls, and that knows whether it is read from."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.reading = True
        self.aborted = False

    def get_extra_info(self, name: str) -> socket.socket:
        return self.socket

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


BODY = bytes(range(256)) * 800
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


async def test_behind_a_large_beginning_nothing_is_read_until_its_receiver_goes_on() -> None:
    connection, hearer = HttpConnection(), Hearer()
    with socket.socket() as sock:
        transport = Written(sock)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.begin(b"POST / HTTP/1.1\r\nhost: h\r\n", b"{}", hearer)
        connection.data_received(ANSWER[:-5])
        assert (hearer.heard, transport.reading) == (1, False)
        await connection.next_event()
        assert connection.maybe_event() == BODY[:-5]
        assert connection.maybe_event() is None
        assert transport.reading
        connection.data_received(ANSWER[-5:])
        assert await rest(connection) == BODY[-5:]
        assert (hearer.heard, connection.finish()) == (1, True)


async def test_a_large_request_arrives_whole(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    body = bytes(range(256)) * 16384
    asking = asyncio.ensure_future(ask(connection, body))
    received = await asyncio.to_thread(peer.read_request, len(body))
    assert received.partition(b"\r\n\r\n")[2] == body
    peer.send(OK)
    await asking
    assert await rest(connection) == b"ok"
    assert connection.finish()
    await end(connection, peer)


async def test_a_backend_that_does_not_read_holds_one_slice(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection, bytes(64 * 1024 * 1024)))
    await turns(100)
    assert connection._transport is not None
    assert 0 < connection._transport.get_write_buffer_size() <= 3 * 64 * 1024
    asking.cancel()
    await asyncio.wait([asking])
    await end(connection, peer)


async def test_an_answer_before_the_request_is_read_is_the_answer(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection, bytes(64 * 1024 * 1024)))
    await turns(20)
    peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
    assert (await asking).status == 413
    assert await rest(connection) == b"no"
    # Even when all that we did write has left us, the backend still waits for the rest of that request.
    assert connection._transport is not None
    peer.socket.setblocking(False)
    while connection._transport.get_write_buffer_size():
        with contextlib.suppress(BlockingIOError):
            peer.socket.recv(65536)
        await asyncio.sleep(0)
    assert not connection.finish()
    await end(connection, peer)


async def test_a_backend_that_dies_while_we_write(listener: socket.socket) -> None:
    connection, peer = await open_to(listener)
    asking = asyncio.ensure_future(ask(connection, bytes(64 * 1024 * 1024)))
    await turns(20)
    peer.close()
    with pytest.raises(BackendAnswerError):
        await asking
    assert connection.sent
    assert not connection.answered
    await connection.closed


async def test_aborting_before_the_connection_is_made(listener: socket.socket) -> None:
    connection = HttpConnection()
    connection.abort()
    await asyncio.get_running_loop().create_connection(lambda: connection, *listener.getsockname())
    Peer(listener).close()
    await connection.closed
