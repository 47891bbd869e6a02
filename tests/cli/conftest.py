"""What the tests of commands share: a running demo, commands as they are typed, and a server that says anything."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner, Result
from tests.e2e.processes import Process

from only1mcp.cli import main

PROGRAM = str(Path(sys.executable).with_name("only1mcp"))

Script = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def plain_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the developer has set or left lying about counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [one for one in os.environ if one.startswith("ONLY1MCP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run a command line in this process."""
    return lambda *arguments, **options: CliRunner().invoke(main, list(arguments), **options)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running `only1mcp start --demo`."""
    env = {name: "" for name in os.environ if name.startswith("ONLY1MCP_")}
    with Process(
        [PROGRAM, "start", "--demo", "--port", "0"], tmp_path_factory.mktemp("demo") / "log", env=env
    ) as proxy:
        url = proxy.wait_for_line(r"listens on (\S+)$")[1]
        proxy.wait_for_line(r"^try it")
        yield url


class Speaker:
    """Accepts connections, reads one request from each and sends what `script` makes of it; then closes."""

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self.script = script
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        # `accept` in another thread is not woken by closing the socket, but by a connection.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()

    def silence(self, _request: bytes) -> bytes:
        """Be a script that keeps the client waiting until the end of the test."""
        self._stopped.wait(10)
        return b""

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._stopped.is_set():
                    return
                connection.settimeout(10)
                try:
                    request = _request(connection)
                    if request:
                        self.requests.append(request)
                        connection.sendall(self.script(request))
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass
                except OSError:
                    continue


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more or more[0] == 0x16:  # a TLS handshake
            return data + more
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body: bytes, *, status: str = "200 OK", content_type: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@pytest.fixture
def speaker() -> Iterator[Callable[[Script | bytes], Speaker]]:
    """Start servers that answer as told."""
    started: list[Speaker] = []

    def start(script: Script | bytes) -> Speaker:
        server = Speaker((lambda _: script) if isinstance(script, bytes) else script)
        started.append(server.__enter__())
        return server

    yield start
    for server in started:
        server.__exit__()
