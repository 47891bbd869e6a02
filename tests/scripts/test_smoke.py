"""The smoke test passes for the real proxy, and says what is wrong with one that is not as it should be."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from scripts import smoke
from tests.e2e.processes import Proxy

from only1mcp import __version__

DEMO = {"id": "demo", "transport": "stdio", "command": sys.executable, "args": ["-m", "only1mcp.demo.stdio"]}
KEY = "a-key-of-forty-characters-0123456789-abc"


def run(monkeypatch: pytest.MonkeyPatch, url: str, *options: str, token: str | None = None) -> Any:
    monkeypatch.setattr("sys.argv", ["smoke", url, "--wait", "0.1", *options])
    monkeypatch.delenv("ONLY1MCP_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("ONLY1MCP_TOKEN", token)
    try:
        smoke.main()
    except SystemExit as leaving:
        return leaving.code
    return None


def test_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SMOKE_KEY", KEY)
    auth = {"api_keys": [{"name": "smoke", "key_env": "SMOKE_KEY"}]}
    with Proxy(tmp_path, [DEMO], auth=auth) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        assert run(monkeypatch, f"{url}/", "--version", f"v{__version__}", "--wait", "30", token=KEY) is None
        assert len(capsys.readouterr().out.splitlines()) == 5
        assert "not 9.9.9" in run(monkeypatch, url, "--version", "9.9.9", token=KEY)
        assert "initialize is answered 401" in run(monkeypatch, url, token="another")
    assert "/health: no answer" in run(monkeypatch, url)


class Handler(BaseHTTPRequestHandler):
    """Answers like a proxy, but for what `wrong` says."""

    wrong: ClassVar[str] = ""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(503 if self.path == self.wrong else 200, {})

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if message["method"] == "initialize":
            result: Any = {"protocolVersion": "2025-11-25", "serverInfo": {"version": "1.2.0"}}
        else:
            result = {"tools": [{}, {}]}
        if self.wrong == message["method"]:
            self._answer(500, {"error": {}})
        else:
            self._answer(200, {"jsonrpc": "2.0", "id": message.get("id"), "result": result})

    def _answer(self, status: int, message: Any) -> None:
        body = b"nonsense" if self.wrong == "nonsense" else json.dumps(message).encode()
        self.send_response(status)
        if self.wrong != "session":
            self.send_header("Mcp-Session-Id", "s")
        if self.wrong == "stream":
            self.send_header("Content-Type", "text/event-stream")
            body = b": hello\n\nevent: message\ndata: " + body + b"\n\n"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def pretender() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("wrong", "token", "said"),
    [
        ("", None, None),
        ("stream", None, None),
        ("/health", None, "/health answers 503"),
        ("/ready", None, "/ready answers 503"),
        ("initialize", None, "initialize is answered 500"),
        ("session", None, "initialize is answered 200"),
        ("tools/list", None, "tools/list is answered 500"),
        ("nonsense", None, "no message"),
        ("", "right", "a wrong token is answered 200"),
    ],
)
def test_what_is_wrong_is_said(
    monkeypatch: pytest.MonkeyPatch, pretender: str, wrong: str, token: str | None, said: str | None
) -> None:
    monkeypatch.setattr(Handler, "wrong", wrong)
    left = run(monkeypatch, pretender, token=token)
    assert (left is None) == (said is None), left
    assert said is None or said in left


def test_it_waits_for_a_proxy_that_starts(monkeypatch: pytest.MonkeyPatch, pretender: str) -> None:
    monkeypatch.setattr(smoke, "EVERY_S", 0.0)
    statuses = iter([503, 404, 200])
    client = smoke.Client(pretender, None)
    monkeypatch.setattr(client, "get", lambda path: next(statuses))
    smoke.patiently(lambda: smoke.probe(client, "/health"), 60)
    assert list(statuses) == []
