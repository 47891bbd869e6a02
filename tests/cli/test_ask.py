"""`list`, `call` and `status` as they are typed, against a real proxy and against what is none."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cli.conftest import PROGRAM, Script, Speaker, answer
from tests.e2e.processes import Process

Cli = Callable[..., Result]
Start = Callable[[Script | bytes], Speaker]


def test_list(cli: Cli, demo: str) -> None:
    result = cli("list", "--url", demo)
    assert result.exit_code == 0
    assert "echo           Return the text that was given." in result.stdout.splitlines()
    assert [line.split()[0] for line in cli("list", "prompts", "--url", demo).stdout.splitlines()[1:]] == [
        "greet",
        "summarize",
    ]
    assert cli("list", "templates", "--url", demo).stdout.startswith("no templates (")
    tools = json.loads(cli("list", "--url", demo, "--json").stdout)
    assert tools[0]["name"] == "echo"
    assert tools[0]["inputSchema"]["required"] == ["text"]


def test_the_url_may_come_from_the_environment(cli: Cli, demo: str) -> None:
    assert cli("list", env={"ONLY1MCP_URL": demo}).exit_code == 0


def test_call(cli: Cli, demo: str) -> None:
    result = cli("call", "--url", demo, "echo", '{"text": "two\\nlines é"}')
    assert (result.exit_code, result.stdout) == (0, "two\nlines é\n")
    result = cli("call", "--url", demo, "echo", "-", input='{"text": "from input"}')
    assert (result.exit_code, result.stdout) == (0, "from input\n")
    document = json.loads(cli("call", "--url", demo, "--json", "add", '{"a": 1, "b": 2}').stdout)
    assert document["structuredContent"] == {"sum": 3}


def test_a_tool_that_fails(cli: Cli, demo: str) -> None:
    result = cli("call", "--url", demo, "roman_numeral", '{"number": 0}')
    assert (result.exit_code, result.stdout) == (1, "the Romans wrote 1 to 3999\n")
    result = cli("call", "--url", demo, "--json", "roman_numeral", '{"number": 0}')
    assert (result.exit_code, json.loads(result.stdout)["isError"]) == (1, True)


def test_an_unknown_tool(cli: Cli, demo: str) -> None:
    for name in ("nope", "\x1b[31m\n"):
        result = cli("call", "--url", demo, name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: unknown tool")
        assert "\x1b" not in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "nan", '{"a": "\\ud800"}', '{"a": "\udcff"}', "{" * 5000])
def test_arguments_that_are_no_json_object(cli: Cli, text: str) -> None:
    result = cli("call", "echo", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ARGUMENTS: expected a JSON object: ")


def test_a_name_that_is_no_text(demo: str) -> None:
    done = subprocess.run([PROGRAM, "call", "--url", demo, b"\xff"], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (2, b"error: the tool's name: expected UTF-8\n")


def test_status(cli: Cli, demo: str) -> None:
    result = cli("status", "--url", demo)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith(": ready")
    assert [line.split() for line in lines[1:]] == [
        ["backend", "transport", "state", "revision", "tools", "last", "error"],
        ["demo-stdio", "stdio", "up", "2026-07-28", "3"],
        ["demo-http", "http", "up", "2026-07-28", "3"],
    ]
    assert len(json.loads(cli("status", "--url", demo, "--json").stdout)["backends"]) == 2


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"backends": 1}', b'{"backends": ["x"]}', b"\xff"])
def test_status_of_something_else(cli: Cli, speaker: Start, body: bytes) -> None:
    for json_flag in ((), ("--json",)):
        result = cli("status", "--url", speaker(answer(body)).url, *json_flag)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "is not an only1mcp (HTTP 200)" in result.stderr


def test_status_of_a_proxy_that_is_not_ready(cli: Cli, speaker: Start) -> None:
    body = {"status": "not ready", "version": "9", "backends": [{"id": "a\x1b[2J", "error": "no\nway"}]}
    server = speaker(answer(json.dumps(body).encode(), status="503 Service Unavailable"))
    result = cli("status", "--url", server.url)
    assert result.exit_code == 1
    assert result.stdout.startswith("only1mcp 9: not ready\n")
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 3


def test_nobody_there(cli: Cli) -> None:
    for command in (("list",), ("call", "x"), ("status",), ("list", "--json")):
        result = cli(*command, "--url", "http://127.0.0.1:1/mcp")
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr.splitlines()[1] == "is the proxy running? start it with: only1mcp start"


def test_a_url_that_is_none(cli: Cli) -> None:
    result = cli("list", "--url", "http://[::1")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 2)


def test_what_backends_say_does_not_steer_the_terminal(cli: Cli, speaker: Start) -> None:
    tools: list[dict[str, Any]] = [
        {"name": "a\x1b]0;owned\x07", "description": "\x1b[2Jx\r\n\u202ey"},
        {"name": None, "description": None},
        {"description": 5},
    ]
    server = speaker(answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()))
    result = cli("list", "--url", server.url)
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert len(result.stdout.splitlines()) == 4
    assert json.loads(cli("list", "--json", "--url", server.url).stdout) == tools


@pytest.mark.parametrize(
    "content", [None, "text", [1, None, {"type": "text"}, {"type": "text", "text": 5}, {"a": "b"}]]
)
def test_content_of_any_kind_is_printed(cli: Cli, speaker: Start, content: Any) -> None:
    server = speaker(answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": content}}).encode()))
    result = cli("call", "x", "--url", server.url)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == (len(content) if isinstance(content, list) else 0)


def run(command: str, url: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    text = command.replace("only1mcp", PROGRAM)
    return subprocess.run(
        ["bash", "-c", text],
        env={**os.environ, "ONLY1MCP_URL": url, **env},
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_a_reader_that_leaves_early(speaker: Start) -> None:
    tools = [{"name": f"tool{number}", "description": "x" * 100} for number in range(5000)]
    server = speaker(answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()))
    for flag in ("", "--json"):
        done = run(f"only1mcp list {flag} | head -1", server.url)
        assert (done.stdout.strip() in (b"name      description", b"["), done.stderr) == (True, b"")


def test_output_that_cannot_be_written(demo: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = run("only1mcp list >/dev/full", demo)
    assert (done.returncode, done.stderr) == (1, b"error: cannot write the output: no space left on device\n")
    assert run("only1mcp list >&-", demo).stderr == b""


def test_a_locale_without_utf_8(demo: str) -> None:
    done = run("""only1mcp call echo '{"text": "é日"}'""", demo, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, b"\xe9\\u65e5\n")
    done = run("""only1mcp call --json echo '{"text": "é日"}'""", demo, PYTHONIOENCODING="latin-1")
    assert json.loads(done.stdout)["content"][0]["text"] == "é日"


KEY = "an-api-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A proxy with TLS and an API key."""
    folder = tmp_path_factory.mktemp("guarded")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    config = {
        "version": "1.0",
        "proxy": {"port": 0, "tls": {"enabled": True, "cert": "cert.pem", "key": "key.pem"}},
        "metrics": {"enabled": False},
        "logging": {"format": "text"},
        "auth": {"api_keys": [{"name": "tests", "key_env": "TESTS_KEY"}]},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    command = [PROGRAM, "start", "--config", str(folder / "c.yaml")]
    with Process(command, folder / "log", env={"TESTS_KEY": KEY}) as proxy:
        yield proxy.wait_for_line(r"listens on (\S+)$")[1]


def test_tls_and_tokens(cli: Cli, guarded: str) -> None:
    result = cli("list", "--url", guarded)
    assert result.exit_code == 4
    assert result.stderr.splitlines()[1] == "the certificate cannot be trusted; --insecure does not look at it"
    result = cli("list", "--url", guarded, "--insecure")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1] == "pass a JWT or an API key with --token or ONLY1MCP_TOKEN"
    for options, env in ((("--token", KEY), {}), ((), {"ONLY1MCP_TOKEN": KEY})):
        result = cli("list", "--url", guarded, "--insecure", *options, env=env)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("no tools (")
    assert cli("status", "--url", guarded, "--insecure").exit_code == 0


def test_plain_http_to_a_tls_port(cli: Cli, guarded: str) -> None:
    result = cli("list", "--url", guarded.replace("https", "http"))
    assert result.exit_code == 1
    assert "is it an https address" in result.stderr
