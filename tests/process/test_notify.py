"""A service manager is told when the proxy listens and when it stops; one that cannot be told changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.processes import free_port

from only1mcp.process.notify import READY, STOPPING, notify

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")
TIMEOUT_S = 30.0
LAUNCHER = Path(sys.executable).with_name("only1mcp")


def manager(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.settimeout(TIMEOUT_S)
    made.bind(address)
    return made


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(str(tmp_path / "s")) as told:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
        assert notify(READY)
        assert told.recv(100) == b"READY=1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(f"\0only1mcp-test-{os.getpid()}") as told:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@only1mcp-test-{os.getpid()}")
        assert notify(STOPPING)
        assert told.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "@", "/" + "x" * 200, "vsock:2:1"])
def test_a_manager_that_cannot_be_told(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(READY)


def test_a_manager_that_does_not_listen_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(str(tmp_path / "s")):
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
        told = [notify(READY) for _ in range(5_000)]  # more than any queue holds
    assert told[0]
    assert not told[-1]


def test_the_proxy_is_ready_when_it_answers(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "c.yaml"
    config.write_text(f'version: "1.0"\nproxy: {{port: {port}}}\nmetrics: {{enabled: false}}\nservers: []\n')
    with manager(str(tmp_path / "s")) as told:
        process = subprocess.Popen(
            [LAUNCHER, "start", "--config", str(config)],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "s")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert told.recv(100) == READY
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=TIMEOUT_S) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert told.recv(100) == STOPPING
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()
