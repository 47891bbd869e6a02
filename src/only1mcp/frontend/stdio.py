"""The front door of a client that launched us: messages on standard input and output, a line each (MCP "stdio").

The client is who started the process, so nobody asks it for credentials; both eras may come, even mixed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from only1mcp.errors import INVALID_REQUEST, RequestRefused, error_message
from only1mcp.frontend.http_exchange import Application
from only1mcp.frontend.messages import MessageClient
from only1mcp.frontend.pipes import PipeReader, PipeWriter
from only1mcp.wire.lines import LineSplitter, Overlong, asked_id

# A client that writes requests and does not read the answers is not read from any more while this much waits for it.
MAX_UNREAD_BYTES: Final = 4 << 20
# Clients wait two seconds after they closed our input, then send signals (official SDKs): calls that still run get a
# part of that, and child processes the rest.
DRAIN_S: Final = 1.0
# How long the last answers may take to leave.
FLUSH_S: Final = 0.5


class StdioDoor:
    """Serves the one client on two file descriptors, from `serve` to `drain`.

    `vouched` is who the client is for the application; `max_bytes` bounds a line, `max_depth` the nesting of messages.
    """

    def __init__(self, fd_in: int, fd_out: int, vouched: Any, *, path: str, max_bytes: int, max_depth: int) -> None:
        self._fd_in = fd_in
        self._fd_out = fd_out
        self._vouched = vouched
        self._path = path.encode()
        self._lines = LineSplitter(max_bytes)
        self._max_depth = max_depth
        self._writer: PipeWriter | None = None
        self._client: MessageClient | None = None
        self._left = asyncio.Event()

    async def serve(self, app: Application) -> None:
        """Serve until the client closes our input, or reads our output no more."""
        self._writer = PipeWriter(self._fd_out, self._left.set)
        self._client = MessageClient(
            app, self._writer, self._vouched, path=self._path, peer="stdio", max_depth=self._max_depth
        )
        reading = asyncio.ensure_future(self._read(PipeReader(self._fd_in), self._client, self._writer))
        leaving = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            for task in (reading, leaving):
                task.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    async def drain(self, timeout_s: float) -> None:
        """Let what is being answered finish for a short time, then end it; the last answers still leave."""
        if self._client is None or self._writer is None:
            return
        if not self._left.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(timeout_s, DRAIN_S)):
                    await self._client.idle()
            self._client.stop()
        self._client.close()
        await self._writer.aclose(0 if self._left.is_set() else FLUSH_S)

    async def _read(self, reader: PipeReader, client: MessageClient, writer: PipeWriter) -> None:
        while data := await reader.read():
            await self._take(self._lines.receive_data(data), client, writer)
        await self._take(self._lines.receive_eof(), client, writer)

    async def _take(self, lines: list[bytes | Overlong], client: MessageClient, writer: PipeWriter) -> None:
        for line in lines:
            if isinstance(line, Overlong):
                writer.send(_too_long(line, self._lines.limit))  # a refusal, whatever it was: nobody has read it
            elif line.strip():
                client.take(line)
            if writer.unsent_bytes > MAX_UNREAD_BYTES:
                await writer.drain()


def _too_long(line: Overlong, limit: int) -> bytes:
    error = RequestRefused(f"expected a message of at most {limit} bytes, got {line.size}", code=INVALID_REQUEST)
    return error_message(error, asked_id(line.head, line.tail))
