"""`test` against backends that work, that are not there, and that are something else: what failed, and what to do."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from tests.backend.hostile import HostileServer
from tests.backend.test_sse import OldServer
from tests.cli.conftest import PROGRAM, Script, Speaker, answer

from only1mcp.cli.test import _Examination
from only1mcp.config.schema import BackendConfig
from only1mcp.demo.launch import http_server

Cli = Callable[..., Result]
Start = Callable[[Script | bytes], Speaker]
WORKS = {"id": "works", "transport": "stdio", "command": sys.executable, "args": ["-m", "only1mcp.demo.stdio"]}


def child(code: str, id: str = "child") -> dict[str, Any]:
    return {"id": id, "transport": "stdio", "command": sys.executable, "args": ["-c", code]}


def at(url: str) -> dict[str, Any]:
    return {"id": "server", "transport": "http", "url": url}


def configure(folder: Path, *servers: dict[str, Any]) -> None:
    (folder / "only1mcp.yaml").write_text(yaml.safe_dump({"version": "1.0", "servers": list(servers)}))


@pytest.fixture
def report(cli: Cli, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Test one backend; return the exit code and the report for machines."""

    def report(server: dict[str, Any], timeout_s: float = 10) -> tuple[int, dict[str, Any]]:
        configure(tmp_path, server)
        result = cli("test", "--json", "--timeout", str(timeout_s))
        assert result.stderr == ""
        (only,) = json.loads(result.stdout)
        return result.exit_code, only

    return report


Report = Callable[..., tuple[int, dict[str, Any]]]


def test_backends_that_work(cli: Cli, tmp_path: Path) -> None:
    with http_server() as url:
        configure(tmp_path, WORKS, at(url), {**WORKS, "id": "off", "enabled": False})
        result = cli("test")
        documents = json.loads(cli("test", "--json").stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    first, items, second, _ = result.stdout.splitlines()
    assert first.startswith("ok    works (stdio, 2026-07-28)  spawn ")
    assert items == "      3 tools, 1 resource, 0 templates, 1 prompt"
    assert second.startswith("ok    server (http, 2026-07-28)  connect ")
    assert [each["backend"] for each in documents] == ["works", "server"]
    for each, opening in zip(documents, ("spawn", "connect"), strict=True):
        assert list(each["ms"]) == [opening, "handshake", "list"]
        assert all(value > 0 for value in each["ms"].values())
        assert each["items"]["tools/list"] == 3
        assert "error" not in each


def test_one_by_name(cli: Cli, tmp_path: Path) -> None:
    configure(tmp_path, {**WORKS, "enabled": False}, child("exit()"))
    assert cli("test", "works").exit_code == 0
    result = cli("test", "wrks")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: there is no backend 'wrks'; configured: works, child\n"


def test_nothing_to_test(cli: Cli, tmp_path: Path) -> None:
    configure(tmp_path)
    result = cli("test")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: no backend is configured\n")
    configure(tmp_path, {**WORKS, "enabled": False})
    result = cli("test", "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "[]\n", "error: no backend is enabled\n")


def test_a_bad_configuration(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "only1mcp.yaml").write_text("nonsense")
    assert cli("test").exit_code == 3


def test_one_failure_does_not_keep_the_others_from_being_tested(cli: Cli, tmp_path: Path) -> None:
    configure(tmp_path, at("http://127.0.0.1:1/mcp"), WORKS)
    result = cli("test")
    lines = result.stdout.splitlines()
    assert result.exit_code == 4
    assert lines[0].startswith("FAIL  server (http)  connect ")
    assert lines[1] == "      connect: cannot connect: connection refused"
    assert lines[2] == "      is the server running, and is http://127.0.0.1:1/mcp its address?"
    assert lines[3].startswith("ok    works")


def test_a_command_that_is_missing(report: Report) -> None:
    code, found = report({"id": "a", "transport": "stdio", "command": "no-such-program", "args": ["a b"]})
    assert (code, found["failed_at"]) == (4, "spawn")
    assert "was not found" in found["error"]
    assert found["hint"] == "run it by hand and see what it says: no-such-program 'a b'"


def test_a_child_that_dies_is_quoted(cli: Cli, tmp_path: Path, report: Report) -> None:
    dies = child("import sys; print('\\x1b[31mno API key', file=sys.stderr); sys.exit(3)")
    code, found = report(dies)
    assert (code, found["failed_at"]) == (1, "handshake")
    assert found["stderr"][-1] == "\x1b[31mno API key"
    assert found["hint"].endswith(shlex.join([sys.executable, *dies["args"]]))
    result = cli("test")
    assert "      stderr: \ufffd[31mno API key" in result.stdout.splitlines()


def test_a_child_that_dies_of_the_first_question_gets_another(report: Report) -> None:
    picky = child(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    info = {'protocolVersion': '2025-11-25', 'capabilities': {}, 'serverInfo': {'name': 'picky'}}\n"
        "    if message['method'] == 'server/discover': sys.exit(1)\n"
        "    if 'id' in message: print(json.dumps({'jsonrpc': '2.0', 'id': message['id'], 'result': info}), flush=True)"
    )
    code, found = report(picky)
    assert (code, found["revision"], found["server"], found["items"]) == (0, "2025-11-25", "picky", {})


def test_a_child_that_logs_to_its_output(report: Report) -> None:
    code, found = report(child("import sys\nfor line in sys.stdin: print('starting ...', flush=True)"), timeout_s=0.5)
    assert (code, found["failed_at"], found["garbage"][-1]) == (1, "handshake", "starting ...")
    assert found["hint"] == "standard output must carry MCP messages only: its log belongs on standard error"


def test_a_child_that_is_silent(report: Report) -> None:
    code, found = report(child("import sys; sys.stdin.read()"), timeout_s=0.3)
    assert (code, found["failed_at"]) == (1, "handshake")
    assert "did not answer initialize within 0.3 s" in found["error"]
    assert found["hint"].startswith("it runs, but does not answer")


def test_a_server_that_is_silent(report: Report, speaker: Start) -> None:
    server = speaker(b"")
    server.script = server.silence
    code, found = report(at(server.url), timeout_s=0.3)
    assert (code, found["failed_at"]) == (1, "handshake")
    assert found["hint"] == "it takes connections, but does not answer: its own log should say why"


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        (answer(b"", status="401 Unauthorized"), "credentials"),
        (answer(b"<html>", status="404 Not Found", content_type="text/html"), "/mcp the path of its MCP endpoint?"),
        (answer(b"", status="500 Oops"), "not as an MCP server"),
        (answer(b"<html>", content_type="text/html"), "not as an MCP server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not as an MCP server"),
    ],
)
def test_servers_that_answer_something_else(report: Report, speaker: Start, raw: bytes, hint: str) -> None:
    code, found = report(at(speaker(raw).url))
    assert (code, found["failed_at"]) == (1, "handshake")
    assert hint in found["hint"]


def talk(tools: Callable[[], bytes]) -> Script:
    """A server of the stateless era with a list of tools that `tools` answers."""

    def script(request: bytes) -> bytes:
        message = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
        if message.get("method") == "tools/list":
            return tools()
        result = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        return answer(json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}).encode())

    return script


def test_lists_that_cannot_be_read(report: Report, speaker: Start) -> None:
    code, found = report(at(speaker(talk(lambda: answer(b"garbage"))).url))
    assert (code, found["failed_at"], found["revision"]) == (1, "list", "2026-07-28")
    assert found["error"].startswith("tools/list: ")
    assert found["hint"].startswith("it speaks MCP, but its lists cannot be read")
    assert list(found["ms"]) == ["connect", "handshake", "list"]


def test_lists_that_never_come(report: Report, speaker: Start) -> None:
    server = speaker(b"")
    server.script = talk(lambda: server.silence(b""))
    code, found = report(at(server.url), timeout_s=0.5)
    assert (code, found["failed_at"], found["error"]) == (1, "list", "its lists were not complete within 0.5 s")


def test_tls_where_there_is_none(report: Report, speaker: Start) -> None:
    code, found = report(at(f"https://127.0.0.1:{speaker(answer(b'')).port}/mcp"))
    assert (code, found["failed_at"]) == (4, "connect")


def test_on_a_terminal_it_says_what_it_waits_for_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    configure(tmp_path, WORKS)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([PROGRAM, "test"], stdout=subprocess.PIPE, stderr=theirs, timeout=30, check=True)
        shown = os.read(ours, 4096)
    finally:
        os.close(theirs)
        os.close(ours)
    text = b"testing works ..."
    assert shown == text + b"\r" + b" " * len(text) + b"\r"
    assert done.stdout.startswith(b"ok    works")


async def test_a_server_of_the_old_transport() -> None:
    async with HostileServer() as server:
        OldServer(server)
        entry = BackendConfig(id="old", transport="sse", url=f"http://127.0.0.1:{server.port}/base/sse")
        found = await _Examination(entry, 10.0).report()
    steps = ["connect", "handshake", "list"]
    assert (found["revision"], found["items"], list(found["ms"])) == ("2024-11-05", {"tools/list": 0}, steps)
    found = await _Examination(entry, 10.0).report()
    assert (found["failed_at"], found["hint"]) == ("connect", f"is the server running, and is {entry.url} its address?")
