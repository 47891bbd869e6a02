"""The least that a proxy in Python can do: a TCP proxy on uvloop that copies bytes and looks at none of them.

Each client connection has one connection to the backend, both kept alive. It parses nothing, checks nothing, counts
nothing, and knows neither limits nor timeouts: what it costs is what two sockets on this event loop cost, and no proxy
of this construction goes below it. Run as `python -m benches.loopback.floor HOST PORT` it prints `listening HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of the two connections; what it receives goes out on the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.early:
            self.transport.write(self.early)

    def data_received(self, data: bytes) -> None:
        other = self.other
        assert other is not None
        if other.transport is None:
            other.early += data
        else:
            other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Front(Side):
    """A client's connection: opens the backend's as soon as it is there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self.backend = (host, port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = Side()
        self.other.other = self
        other = self.other
        self.connecting = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(lambda: other, *self.backend)
        )


async def serve(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Front(host, port), "127.0.0.1", 0)
    print(f"listening 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
