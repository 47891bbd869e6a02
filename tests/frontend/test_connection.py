from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import tracemalloc

import pytest
from tests.frontend.serving import PIECE, App, Client, request, serving

from only1mcp.frontend import connection as connection_module
from only1mcp.frontend.connection import Connection
from only1mcp.frontend.listener import Limits, Listener, Timeouts


def error_of(body: bytes) -> dict[str, object]:
    message = json.loads(body)
    assert message["jsonrpc"] == "2.0"
    assert "id" not in message
    error = message["error"]
    assert isinstance(error, dict)
    return error


async def test_keep_alive() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        for path in ("/echo", "/task-echo", "/echo"):
            assert await client.ask(path, b"hello") == (200, b"hello")
            exchange = await app.finished.get()
            assert (exchange.status, exchange.bytes_out, exchange.client_gone) == (200, 5, False)
            assert (exchange.peer, exchange.tls) == ("127.0.0.1", False)
        assert listener.connections == 1


async def test_answers_carry_a_date_and_no_server() -> None:
    async with serving(App()) as listener, await Client.connect(listener.port) as client:
        client.send(request("/echo"))
        _, headers, _ = await client.answer()
        assert headers[b"date"].endswith(b" GMT")
        assert set(headers) == {b"content-type", b"content-length", b"date"}


async def test_pipelined_requests_are_answered_in_order() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        paths = ["/hang", "/echo", "/task-echo", "/stream", "/echo"]
        client.send(b"".join(request(path, path.encode()) for path in paths))
        await app.begun.wait()
        assert app.finished.empty()
        app.release.set()
        bodies = [(await client.answer())[2] for _ in paths]
        assert bodies == [b"released", b"/echo", b"/task-echo", b"onetwo", b"/echo"]


async def test_hundreds_of_pipelined_requests() -> None:
    async with serving(App()) as listener, await Client.connect(listener.port) as client:
        client.send(b"".join(request("/echo", b"%d" % number) for number in range(500)))
        for number in range(500):
            assert (await client.answer())[2] == b"%d" % number


async def test_bodies_in_chunks_and_in_pieces() -> None:
    async with serving(App()) as listener, await Client.connect(listener.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"5\r\nhe", b"llo\r\n1\r\n \r\n3", b"\r\nyou\r\n0\r\n", b"\r\n"):
            client.send(piece)
            await client.writer.drain()
        assert (await client.answer())[2] == b"hello you"
        large = bytes(range(256)) * 4096
        assert await client.ask("/task-echo", large) == (200, large)


async def test_head_requests_get_the_head_alone() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/echo", b"hello", method="HEAD"))
        status, headers, _ = await client.answer(method="HEAD")
        assert (status, headers[b"content-length"]) == (200, b"5")
        assert (await app.finished.get()).bytes_out == 0
        assert await client.ask("/echo", b"next") == (200, b"next")


async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving(App()) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(b"POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
            _, headers, body = await client.answer()
            assert (headers[b"connection"], body) == (b"close", b"hi")
            assert await client.rest() == b""
        async with await Client.connect(listener.port) as client:
            client.send(b"GET /stream HTTP/1.0\r\n\r\n")
            await client.head()
            assert await client.rest() == b"onetwo"


async def test_the_body_is_asked_for_only_when_it_is_wanted() -> None:
    async with serving(App()) as listener:
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        async with await Client.connect(listener.port) as client:
            client.send(head % b"/echo")
            assert await client.head() == (100, {})
            client.send(b"hello")
            assert (await client.answer())[2] == b"hello"
            client.send(head % b"/early")
            status, headers, _ = await client.answer()
            assert (status, headers[b"connection"]) == (401, b"close")
            assert await client.rest() == b""


async def test_an_early_answer_keeps_the_connection_when_the_body_is_small() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        raw = request("/early", b"x" * 1000)
        client.send(raw[:-500])
        status, headers, _ = await client.answer()
        assert (status, b"connection" in headers) == (401, False)
        assert (await app.finished.get()).body == b""
        client.send(raw[-500:])
        assert await client.ask("/echo", b"next") == (200, b"next")


async def test_an_early_answer_survives_a_large_body() -> None:
    async with serving(App()) as listener, await Client.connect(listener.port) as client:
        # All of it is on its way before the answer is read; a reset would take the answer away.
        client.send(request("/early", b"x" * 500_000))
        status, headers, body = await client.answer()
        assert (status, headers[b"connection"], body) == (401, b"close", b"who?")
        assert await client.rest() == b""


async def test_a_chunked_body_that_nobody_wants_is_read_up_to_a_limit() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await client.answer())[0] == 401
        client.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n1\r\nx\r\n")
        assert await client.rest() == b""


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n" + b"x" * 200_000, 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
async def test_what_is_no_request_is_answered_and_closed(raw: bytes, status: int) -> None:
    app = App()
    refused: list[tuple[str, int]] = []
    async with (
        serving(app, on_refused=lambda peer, error: refused.append((peer, error.http_status))) as listener,
        await Client.connect(listener.port) as client,
    ):
        client.send(raw + request("/echo"))
        got, headers, body = await client.answer()
        assert got == status
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"connection"] == b"close"
        assert error_of(body)["code"] == -32600
        assert await client.rest() == b""
        assert app.finished.empty()
        assert refused == [("127.0.0.1", status)]


async def test_a_bad_body_ends_its_exchange() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX")
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""
        assert (await app.finished.get()).status == 400
        assert app.finished.empty()


async def test_a_silent_client_is_closed_silently() -> None:
    async with (
        serving(App(), timeouts=Timeouts(header_s=0.05, request_s=30, idle_s=30)) as listener,
        await Client.connect(listener.port) as client,
    ):
        assert await client.rest() == b""


async def test_a_slow_head_is_answered_408() -> None:
    async with serving(App(), timeouts=Timeouts(header_s=0.1, request_s=30, idle_s=30)) as listener:
        for before in (b"", request("/echo")):
            async with await Client.connect(listener.port) as client:
                client.send(before)
                if before:
                    await client.answer()
                # Every byte keeps nothing alive: the head as a whole is late.
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
                dripping = asyncio.create_task(drip(client))
                status, headers, body = await client.answer()
                dripping.cancel()
                assert (status, headers[b"connection"]) == (408, b"close")
                assert "head" in str(error_of(body)["message"])


async def gone(listener: Listener) -> None:
    while listener.connections:  # noqa: ASYNC110 (nothing tells when a connection goes)
        await asyncio.sleep(0.01)


async def drip(client: Client) -> None:
    while True:
        client.send(b"x")
        await asyncio.sleep(0.01)


async def test_a_slow_body_is_answered_408() -> None:
    app = App()
    async with (
        serving(app, timeouts=Timeouts(header_s=30, request_s=0.1, idle_s=30)) as listener,
        await Client.connect(listener.port) as client,
    ):
        client.send(request("/echo", b"hello")[:-1])
        status, headers, _ = await client.answer()
        assert (status, headers[b"connection"]) == (408, b"close")
        assert await client.rest() == b""
        assert (await app.finished.get()).status == 408


async def test_an_idle_connection_is_closed_silently() -> None:
    async with (
        serving(App(), timeouts=Timeouts(header_s=30, request_s=30, idle_s=0.05)) as listener,
        await Client.connect(listener.port) as client,
    ):
        assert await client.ask("/echo", b"hello") == (200, b"hello")
        assert await client.ask("/echo", b"hello") == (200, b"hello")
        assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/hang", "/hanging-stream"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_vanishes_cancels_its_task(path: str, how: str) -> None:
    app = App()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request(path))
            await app.begun.wait()
            if how == "reset":
                client.reset()
        async with asyncio.timeout(5):
            exchange = await app.finished.get()
        assert exchange.client_gone
        assert exchange.status == (0 if path == "/hang" else 200)
        assert app.cancelled == 1
        assert app.finished.empty()
        exchange_after = exchange.bytes_out
        if path == "/hanging-stream":
            exchange.write(b"into the void")
            assert exchange.bytes_out > exchange_after
        assert listener.connections == 0


async def test_a_client_that_vanishes_inside_its_body_ends_the_exchange() -> None:
    app = App()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request("/early-stream", b"hello")[:-1])
            await client.head()
            client.reset()
        exchange = await app.finished.get()
        assert exchange.client_gone
        assert app.finished.empty()


async def test_a_half_closed_client_gets_its_answer() -> None:
    app = App()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request("/echo", b"a") + request("/task-echo", b"b") + request("/stream"))
            client.writer.write_eof()
            assert [(await client.answer())[2] for _ in range(3)] == [b"a", b"b", b"onetwo"]
            assert await client.rest() == b""
        async with await Client.connect(listener.port) as client:
            client.send(request("/hang"))
            client.writer.write_eof()
            # One who waits is asked whether he does, and then again.
            assert await client.head() == (100, {})
            assert await client.head() == (100, {})
            app.release.set()
            while (answer := await client.head())[0] == 100:
                pass
            assert answer[0] == 200
            assert await client.rest() == b"released"
        assert app.cancelled == 0


async def test_an_unfinished_request_of_a_half_closed_client_is_refused() -> None:
    async with serving(App()) as listener:
        for raw in (b"GET / HT", request("/echo", b"hello")[:-1]):
            async with await Client.connect(listener.port) as client:
                client.send(raw)
                client.writer.write_eof()
                assert (await client.answer())[0] == 400
                assert await client.rest() == b""


async def test_a_stream_waits_for_its_reader() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.writer.transport.pause_reading()
        tracemalloc.start()
        try:
            client.send(request("/flood"))
            await app.blocked.wait()
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert held < 1024 * 1024
        assert app.finished.empty()
        client.writer.transport.resume_reading()
        _, _, body = await client.answer()
        assert len(body) == 1024 * len(PIECE)
        exchange = await app.finished.get()
        assert exchange.bytes_out == len(body)


async def test_a_reader_that_stops_is_cut_off() -> None:
    app = App()
    async with (
        serving(app, timeouts=Timeouts(header_s=30, request_s=0.2, idle_s=30)) as listener,
        await Client.connect(listener.port) as client,
    ):
        client.writer.transport.pause_reading()
        client.send(request("/flood"))
        exchange = await app.finished.get()
        assert exchange.client_gone
        assert not exchange.finished
        assert listener.connections == 0


async def test_a_whole_answer_that_nobody_reads_is_dropped() -> None:
    app = App()
    limits = Limits(8192, 64 * 1024 * 1024, 10)
    async with (
        serving(app, limits=limits, timeouts=Timeouts(header_s=30, request_s=0.2, idle_s=0.2)) as listener,
        await Client.connect(listener.port) as client,
    ):
        client.writer.transport.pause_reading()
        client.send(request("/echo", b"x" * 32 * 1024 * 1024))
        assert (await app.finished.get()).status == 200
        # Nobody reads, yet the connection goes away: before this listener is told to.
        async with asyncio.timeout(10):
            await gone(listener)


@pytest.mark.parametrize("path", ["/boom", "/early-boom", "/task-boom", "/silent", "/task-silent", "/bad-field"])
async def test_a_failing_application_is_answered_500(path: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        with caplog.at_level(logging.ERROR, "only1mcp.frontend"):
            client.send(request(path, b"hello"))
            status, headers, body = await client.answer()
        assert (status, headers[b"connection"]) == (500, b"close")
        assert error_of(body) == {"code": -32603, "message": "internal error"}
        assert await client.rest() == b""
        assert (await app.finished.get()).status == 500
        assert app.finished.empty()
        (record,) = caplog.records
        assert record.exc_info is not None
        assert record.__dict__["path"] == path
        async with await Client.connect(listener.port) as other:
            assert await other.ask("/echo", b"fine") == (200, b"fine")


async def test_a_stream_that_fails_ends_without_its_end(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/stream-boom"))
        assert (await client.head())[0] == 200
        assert await client.rest() == b"5\r\nbegun\r\n"
        exchange = await app.finished.get()
        assert (exchange.status, exchange.finished) == (200, False)
        assert "secret of the stream" in caplog.text


async def test_a_second_response_is_a_bug_but_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/twice"))
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""
        assert "expected no response" in caplog.text
        assert app.finished.qsize() == 1


async def test_errors_of_ours_that_escape_are_answered_as_they_say() -> None:
    async with serving(App()) as listener, await Client.connect(listener.port) as client:
        client.send(request("/limited"))
        status, headers, body = await client.answer()
        assert (status, headers[b"retry-after"]) == (429, b"2")
        assert error_of(body) == {"code": -31003, "message": "slow down"}
        assert await client.ask("/echo", b"next") == (200, b"next")


async def test_bookkeeping_that_fails_costs_nobody_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.finished = asyncio.Queue(maxsize=1)
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        for _ in range(3):
            assert await client.ask("/echo", b"x") == (200, b"x")
    assert "on_finish failed" in caplog.text


class Wire(asyncio.Transport):
    """A transport that leads nowhere: it remembers what the connection did with it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = b""
        self.reading = True
        self.closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write_eof(self) -> None:
        pass

    def abort(self) -> None:
        self.closing = True

    close = abort


async def test_reading_pauses_while_pipelined_requests_pile_up() -> None:
    app = App()
    async with serving(app) as listener:
        wire = Wire()
        connection = Connection(listener, asyncio.get_running_loop())
        connection.connection_made(wire)
        pile = request("/hang") + request("/echo", b"x" * 1000) * 100
        connection.data_received(pile[:60_000])
        assert wire.reading
        connection.data_received(pile[60_000:])
        assert not wire.reading
        await app.begun.wait()
        app.release.set()
        for _ in range(101):
            await app.finished.get()
        assert wire.reading
        assert wire.written.count(b"HTTP/1.1 200 OK") == 101
        connection.connection_lost(None)
    assert not wire.closing


async def test_pipelined_requests_wait_while_their_answers_do() -> None:
    app = App()
    async with serving(app) as listener:
        wire = Wire()
        connection = Connection(listener, asyncio.get_running_loop())
        connection.connection_made(wire)
        connection.pause_writing()
        connection.data_received(request("/echo", b"x") * 2)
        assert wire.written == b""
        connection.resume_writing()
        assert app.finished.qsize() == 2
        connection.connection_lost(None)


async def test_an_idle_connection_is_small() -> None:
    async with serving(App()) as listener:
        loop = asyncio.get_running_loop()
        gc.collect()
        tracemalloc.start()
        try:
            wires = [Wire() for _ in range(100)]
            before = tracemalloc.get_traced_memory()[0]
            connections = [Connection(listener, loop) for _ in wires]
            for connection, wire in zip(connections, wires, strict=True):
                connection.connection_made(wire)
                connection.data_received(request("/echo", b"x" * 1000))
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before - sum(sys.getsizeof(wire.written) for wire in wires)
        finally:
            tracemalloc.stop()
        for connection in connections:
            connection.connection_lost(None)
        # 8 KB a connection, of which the transport and its socket need some.
        assert held / len(connections) < 6 * 1024


async def test_after_the_last_byte_only_so_much_is_read() -> None:
    async with serving(App()) as listener:
        wire = Wire()
        connection = Connection(listener, asyncio.get_running_loop())
        connection.connection_made(wire)
        connection.data_received(b"nonsense\r\n")
        assert wire.written.startswith(b"HTTP/1.1 400 ")
        for _ in range(16):
            connection.data_received(b"x" * 64 * 1024)
        assert not wire.closing
        connection.data_received(b"x")
        assert wire.closing
        connection.connection_lost(None)


async def test_after_the_last_byte_we_wait_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER_S", 0.05)
    async with serving(App()) as listener, await Client.connect(listener.port) as client:
        client.send(b"nonsense\r\n")
        assert (await client.answer())[0] == 400
        # This client has the end of our side and keeps its own open.
        async with asyncio.timeout(10):
            await gone(listener)


async def test_a_wanted_body_that_stops_inside_a_stream_cuts_it_off() -> None:
    app = App()
    async with (
        serving(app, timeouts=Timeouts(header_s=30, request_s=0.1, idle_s=30)) as listener,
        await Client.connect(listener.port) as client,
    ):
        client.send(request("/early-stream", b"hello")[:-1])
        assert (await client.head())[0] == 200
        assert await client.rest() == b"5\r\nbegun\r\n"
        assert not (await app.finished.get()).finished


async def test_a_half_closed_http_1_0_client_is_never_asked() -> None:
    app = App()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(b"GET /hang HTTP/1.0\r\n\r\n")
        client.writer.write_eof()
        await app.begun.wait()
        app.release.set()
        assert (await client.answer())[2] == b"released"
        assert await client.rest() == b""
