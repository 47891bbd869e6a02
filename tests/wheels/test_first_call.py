"""An installed command that starts, answers and stops passes; whatever does not is ended, and shows what it said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from wheels import first_call

ONLY1MCP = Path(sys.executable).with_name("only1mcp")
# A server that listens, and answers every POST with what its argument says.
ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"a server listens on http://127.0.0.1:{server.server_port}/mcp", flush=True)
server.serve_forever()
"""


@pytest.mark.slow
def test_the_command_of_this_environment() -> None:
    done = subprocess.run([sys.executable, first_call.__file__, ONLY1MCP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_command_that_ends_at_once_shows_what_it_said() -> None:
    done = subprocess.run(
        [sys.executable, first_call.__file__, sys.executable, "-c", "import sys; sys.exit('no licence to start')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "before it listened" in done.stderr
    assert "no licence to start" in done.stderr


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_call, "TIMEOUT_S", 1.0)
    with pytest.raises(first_call.Failed, match="before it listened"):
        first_call.first_call([sys.executable, "-c", "import threading; threading.Event().wait()"])


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"jsonrpc":"2.0","id":1,"result":{"content":[]}}', "roman_numeral did not answer with"),
        (
            '{"jsonrpc":"2.0","id":1,"result":{"content":["MMXXVI"],"protocolVersion":"2024-11-05"}}',
            "another revision",
        ),
        (
            '{"jsonrpc":"2.0","id":1,"result":{"content":["MMXXVI"],"protocolVersion":"2025-11-25"}}',
            "a notification was answered with 200",
        ),
        ('{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}', "KeyError"),
        ("not JSON", "JSONDecodeError"),
    ],
)
def test_wrong_answers(body: str, problem: str) -> None:
    with pytest.raises(first_call.Failed, match=problem):
        first_call.first_call([sys.executable, "-c", ANSWERS, body])


def test_the_last_event_of_a_stream_is_the_answer() -> None:
    class Response:
        status = 200

        def getheader(self, name: str) -> str:
            return "text/event-stream; charset=utf-8"

    body = b'data: {"method":"notifications/progress"}\n\nevent: message\ndata: {"result":{"a":1}}\n\n'
    assert first_call._result(Response(), body) == {"a": 1}  # type: ignore[arg-type]


def test_without_a_command() -> None:
    done = subprocess.run([sys.executable, first_call.__file__], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage: first_call.py COMMAND" in done.stderr
