"""Ten thousand idle keep-alive connections: what each costs, and that everybody else is served as before."""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.e2e.gateway import wait_for_tools
from tests.mcp_caller import stateless
from tests.scale.server import COMMON
from tests.scale.stage import (
    SPARE_DESCRIPTORS,
    Numbers,
    raise_descriptor_limit,
    resident_bytes,
    staged,
    usual_descriptor_limit,
)

# What the design allows.
BYTES_EACH = 8 * 1024
# Fewer than this say nothing about ten thousand.
FEWEST = 500
# One source address has some 28,000 ports, and other tests use them too.
CONNECTIONS_PER_ADDRESS = 5000
CALLS = 200
TIMEOUT_S = 20.0


def test_idle_connections(tmp_path: Path, numbers: Numbers, measured: Callable[[str], None]) -> None:
    limit = raise_descriptor_limit()
    wanted = min(numbers.connections, limit - SPARE_DESCRIPTORS)
    if wanted < min(FEWEST, numbers.connections):
        pytest.skip(f"a process may open {limit} files here (RLIMIT_NOFILE)")
    if wanted < numbers.connections:
        measured(f"{wanted} instead of {numbers.connections} connections: RLIMIT_NOFILE is {limit}")
    settings = {"limits": {"max_connections": wanted + 100}, "timeouts": {"idle_s": 600}}
    with ExitStack() as stack:
        with usual_descriptor_limit():  # the proxy has to see to it itself that it can hold so many
            _, proxy = stack.enter_context(staged(tmp_path, 1, 2, proxy=settings))
        wait_for_tools(proxy, COMMON)
        client = stack.enter_context(connected(proxy.port, 0))
        alone_s = [call(client, proxy.port) for _ in range(CALLS)]
        before = resident_bytes(proxy.pid)
        idle = []
        for number in range(wanted):
            idle.append(stack.enter_context(connected(proxy.port, number)))
            call(idle[-1], proxy.port)  # not just an open socket: a connection that has been used and is kept
        each = (resident_bytes(proxy.pid) - before) / wanted
        crowded_s = [call(client, proxy.port) for _ in range(CALLS)]
        measured(
            f"{wanted} idle connections take {each:.0f} bytes each of the proxy's memory; a call takes "
            f"{statistics.median(crowded_s) * 1e6:.0f} us beside them, {statistics.median(alone_s) * 1e6:.0f} us alone"
        )
        readable = with_something_to_read(idle)
        assert not readable, f"{len(readable)} idle connections were closed"
        for connection in idle[:: max(1, wanted // CALLS)]:
            call(connection, proxy.port)
        assert len(os.listdir(f"/proc/{proxy.pid}/fd")) >= wanted
        assert each <= BYTES_EACH
        assert statistics.median(crowded_s) <= 5 * statistics.median(alone_s) + 0.002


@contextmanager
def connected(port: int, number: int) -> Iterator[socket.socket]:
    """Connect from one of several loopback addresses."""
    source = f"127.0.0.{1 + number // CONNECTIONS_PER_ADDRESS}"
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S, source_address=(source, 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def call(connection: socket.socket, port: int) -> float:
    """Call the tool, check the answer and return how long it took."""
    message, fields = stateless("tools/call", name=COMMON, arguments={"text": "hello"})
    body = json.dumps(message).encode()
    headers = {
        "host": f"127.0.0.1:{port}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "content-length": str(len(body)),
        **fields,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    began = time.perf_counter()
    connection.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    took_s = time.perf_counter() - began
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b'"text":"0/search/hello"' in answer, answer
    return took_s


def with_something_to_read(connections: list[socket.socket]) -> list[int]:
    """Return the descriptors that have anything to read; an end of file is something."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN)
    return [descriptor for descriptor, _ in poller.poll(0)]
