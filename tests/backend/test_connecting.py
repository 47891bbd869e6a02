"""Connections that cannot be opened: why is said, where to is not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from only1mcp.backend import connecting as module
from only1mcp.backend.connecting import connect
from only1mcp.errors import BackendUnavailable


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = asyncio.get_running_loop().time()
    with pytest.raises(BackendUnavailable, match=r"^cannot connect: connection refused$"):
        await connect("127.0.0.1", port, None)
    assert asyncio.get_running_loop().time() - started < 0.5


async def test_no_such_host() -> None:
    with pytest.raises(BackendUnavailable, match=r"^cannot connect: host name not found$"):
        await connect("nowhere.invalid", 80, None)


async def test_a_host_that_drops_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # With the accept queue full, Linux drops further handshakes.
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            with pytest.raises(BackendUnavailable, match=r"^cannot connect: no connection within 0\.1 s$"):
                await connect("127.0.0.1", address[1], None)
