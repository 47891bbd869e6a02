"""People are told of deployments where they want to be, and an address that is a secret stays one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripts import announce


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """The address of a webhook and what it gets; it does not take what comes to /refused."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(403 if self.path == "/refused" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def run(monkeypatch: pytest.MonkeyPatch, how: str, *options: str) -> Any:
    monkeypatch.setattr("sys.argv", ["announce", how, "v1.2.0", "production", "https://mcp.example", *options])
    try:
        announce.main()
    except SystemExit as leaving:
        return leaving.code
    return None


def test_a_message(monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[Any]]) -> None:
    url, got = webhook
    monkeypatch.setenv("ANNOUNCE_WEBHOOK", f"{url}/hook")
    assert run(monkeypatch, "message", "--run", 'https://run/"1"') is None
    text = 'Only1MCP 1.2.0 is in service on production: https://mcp.example (https://run/"1")'
    assert got == [{"text": text}]


def test_what_goes_wrong_does_not_tell_the_address(
    monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[Any]]
) -> None:
    url, _ = webhook
    for address, said in (
        (f"{url}/refused", "did not take the message: 403"),
        ("http://127.0.0.1:1/secret", "did not take the message: URLError"),
        ("http://hooks.example/secret", "must be an https:// address"),
        ("file:///etc/passwd", "must be an https:// address"),
    ):
        monkeypatch.setenv("ANNOUNCE_WEBHOOK", address)
        left = run(monkeypatch, "message")
        assert said in left
        assert address not in left


def test_nobody_to_tell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("ANNOUNCE_WEBHOOK", raising=False)
    assert run(monkeypatch, "message") is None
    assert "nobody is told" in capsys.readouterr().out


def test_an_issue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "gh cannot be run" in run(monkeypatch, "issue")
    gh = tmp_path / "gh"
    gh.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/asked\nexit 4\n")
    gh.chmod(0o755)
    assert run(monkeypatch, "issue", "--run", "https://run/1") == 4
    assert (tmp_path / "asked").read_text().splitlines() == [
        *("issue", "create", "--title", "Deployment of 1.2.0 to production", "--body"),
        "Version 1.2.0 is being deployed to production (https://mcp.example).",
        *("", "https://run/1", "--label", "deployment"),
    ]
