"""Who waits for whom while something large is on its way, over real sockets: nobody else, and never in our memory."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import HANDSHAKE, STATELESS, Backend, Call, Outcome, echo
from tests.mcp_caller import Caller, request, stateless

from only1mcp.backend.connection import READ_HIGH_WATER_BYTES, HttpConnection
from only1mcp.config.schema import Timeouts
from only1mcp.frontend.connection import Connection
from only1mcp.frontend.limits import WRITE_BUFFER_BYTES

ERAS = [STATELESS, HANDSHAKE]
# More than the kernel takes from a connection on either side of the proxy; today's let a receive buffer grow to 32 MiB.
SIZE = 120_000_000
PIECE = b"x" * 65_536
# No more comes in one read, whatever the event loop.
LARGEST_READ = 256 * 1024
# A socket that takes nothing for so long is that of a peer that does not read.
STALL_S = 0.4


class Fountain:
    """A tool that sends a lot, as one JSON body, one event or many; it notices when nobody takes it."""

    def __init__(self, framing: str = "json", size: int = SIZE, stall_s: float = STALL_S) -> None:
        self.framing = framing
        self.size = size
        self.stall_s = stall_s
        self.stalled = asyncio.Event()
        self.written = 0

    async def __call__(self, call: Call) -> Outcome:
        start = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"filler":"' % call.message["id"]
        end = b'"}}'
        count = self.size // len(PIECE)
        if self.framing == "json":
            length = len(start) + count * len(PIECE) + len(end)
            head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % length
        elif self.framing == "progress":
            return await self._progress(call)
        else:
            head, start, end = b"content-type: text/event-stream\r\n\r\n", b"data: " + start, end + b"\n\n"
        call.writer.write(b"HTTP/1.1 200 OK\r\n" + head + start)
        for _ in range(count):
            if self.may_end:
                break
            await self._write(call, PIECE)
        return end

    async def _progress(self, call: Call) -> Outcome:
        message = "x" * 4000
        while self.written < self.size and not self.may_end:
            params = {"progressToken": call.token, "progress": self.written, "message": message}
            event = (
                b"data: "
                + json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()
            )
            if not call.streaming:
                await call.say(method="notifications/progress", params=params)
            await self._write(call, b"%x\r\n%b\r\n" % (len(event) + 2, event + b"\n\n"))
        return {"content": []}

    @property
    def may_end(self) -> bool:
        """Whether it has been seen that nobody took it, and it has announced no length."""
        return self.stalled.is_set() and self.framing != "json"

    async def _write(self, call: Call, data: bytes) -> None:
        call.writer.write(data)
        self.written += len(data)
        drained = asyncio.ensure_future(call.writer.drain())
        try:
            if not (await asyncio.wait({drained}, timeout=self.stall_s))[0]:
                self.stalled.set()
            await drained
        except ConnectionError:
            call.backend.gone.set()
            raise
        finally:
            drained.cancel()


@asynccontextmanager
async def open_caller(port: int, era: str) -> AsyncIterator[Caller]:
    async with Caller(port) as caller:
        if era == HANDSHAKE:
            await caller.initialize()
        yield caller


def begin_call(caller: Caller, tool: str, **meta: Any) -> None:
    """Send a call, and read nothing."""
    if caller.session is None:
        caller.write(*stateless("tools/call", meta=meta, name=tool, arguments={}))
    else:
        message = request("tools/call", id=7, name=tool, arguments={}, _meta=meta)
        caller.write(message, {"mcp-session-id": caller.session})


def held_bytes() -> int:
    """Return what all connections of the proxies in this process hold: read and not taken, written and not sent."""
    held = 0
    for each in gc.get_objects():
        if isinstance(each, HttpConnection):
            held += len(each._http._first) + len(each._http._buffer) + sum(map(len, each._http._pieces))
        elif isinstance(each, Connection):
            held += each.unsent_bytes
    return held


@pytest.mark.parametrize("framing", ["json", "event", "progress"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_stalled_client_makes_its_backend_wait_and_nobody_else(era: str, framing: str) -> None:
    big = Fountain(framing)
    async with proxied(Backend(era=era, tools={"big": big, "echo": echo})) as port, open_caller(port, era) as slow:
        begin_call(slow, "big", progressToken="t")
        status, headers = await slow.head()
        await big.stalled.wait()
        # The kernel's buffers hold some megabytes; the rest is still at the backend.
        assert big.written < SIZE / 2
        assert held_bytes() <= READ_HIGH_WATER_BYTES + LARGEST_READ + WRITE_BUFFER_BYTES + LARGEST_READ
        async with open_caller(port, era) as other:
            assert (await other.call("echo", text="hello")).text == "hello"
        # It reads again, and nothing is lost.
        assert status == 200
        size = 0
        if "content-length" in headers:
            size = len(await slow.reader.readexactly(int(headers["content-length"])))
        else:
            while data := await slow.chunk():
                size += len(data)
        assert size > big.written * 0.99
        assert (await slow.call("echo", text="again")).text == "again"


@pytest.mark.parametrize(
    ("tool", "framing"), [("first", "json"), ("second", "json"), ("second", "event"), ("second", "progress")]
)
async def test_the_time_of_a_backend_does_not_run_while_its_client_is_behind(tool: str, framing: str) -> None:
    big = Fountain(framing, size=SIZE // 2, stall_s=2.7)
    backend = Backend(tools={"first": big, "second": big, "echo": echo})
    async with proxied(backend, each={"timeout_ms": 2500}) as port, Caller(port) as slow:
        if tool == "second":
            # It finds a connection, and goes without a task at first.
            await slow.call("echo", text="x")
        begin_call(slow, tool, progressToken="t")
        _, headers = await slow.head()
        await big.stalled.wait()
        if "content-length" in headers:
            await slow.reader.readexactly(int(headers["content-length"]))
        else:
            last = b""
            while data := await slow.chunk():
                last = last[-100:] + data
            assert b'"error"' not in last


async def test_a_client_that_never_reads_is_left(caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(tools={"big": Fountain()})
    async with proxied(backend, timeouts=Timeouts(request_s=STALL_S)) as port, Caller(port) as slow:
        begin_call(slow, "big")
        await backend.gone.wait()
        assert len(await slow.reader.read()) < SIZE


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_leaves_takes_its_call_along(era: str) -> None:
    big = Fountain()
    backend = Backend(era=era, tools={"big": big, "echo": echo})
    async with proxied(backend) as port:
        async with open_caller(port, era) as slow:
            begin_call(slow, "big")
            await slow.head()
            await big.stalled.wait()
            slow.vanish()
        await backend.gone.wait()
        if era == HANDSHAKE:
            await backend.notified.wait()
            assert backend.received[-1]["method"] == "notifications/cancelled"
        async with open_caller(port, era) as other:
            assert (await other.call("echo", text="hello")).text == "hello"
        assert held_bytes() == 0


async def test_a_client_may_cancel_what_is_on_its_way() -> None:
    big = Fountain()
    backend = Backend(era=HANDSHAKE, tools={"big": big})
    async with proxied(backend) as port, open_caller(port, HANDSHAKE) as slow, Caller(port) as other:
        begin_call(slow, "big")
        _, headers = await slow.head()
        await big.stalled.wait()
        other.session = slow.session
        params = {"requestId": 7}
        reply = await other.in_session({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        assert reply.status == 202
        await backend.gone.wait()
        await backend.notified.wait()
        # What was on its way still comes, its end does not.
        assert len(await slow.reader.read()) < int(headers["content-length"])


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("framing", ["json", "event"])
async def test_a_backend_that_stalls_in_the_middle_is_cut_at_its_deadline(era: str, framing: str) -> None:
    async def stalling(call: Call) -> Outcome:
        media = b"application/json\r\ncontent-length: 9999999" if framing == "json" else b"text/event-stream"
        start = b"data: " if framing == "event" else b""
        start += b'{"jsonrpc":"2.0","id":%d,"result":"' % call.message["id"]
        call.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: " + media + b"\r\n\r\n" + start + PIECE * 3)
        return await call.backend.hold(call)

    backend = Backend(era=era, tools={"stalling": stalling, "echo": echo})
    async with backend, running(configured(backend, each={"timeout_ms": 700})) as worker:
        assert worker.listener is not None
        port = worker.listener.port
        async with open_caller(port, era) as caller, open_caller(port, era) as other:
            begin_call(caller, "stalling")
            status, headers = await caller.head()
            assert (await other.call("echo", text="meanwhile")).text == "meanwhile"
            rest = await caller.reader.read()
            assert status == 200
            assert len(rest) > len(PIECE)
            assert len(rest) < int(headers.get("content-length", len(rest) + 1))
            assert not rest.endswith(b"0\r\n\r\n")
            await backend.gone.wait()
        assert 'only1mcp_backend_errors_total{backend="b0"} 1.0' in worker.metrics.render()[1].decode()
