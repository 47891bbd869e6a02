"""`benchmark` as it is typed: against a real proxy, against what is none, and with odd input."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import Result
from tests.cli.conftest import PROGRAM, Script, Speaker, answer
from tests.e2e.processes import until

Cli = Callable[..., Result]
Start = Callable[[Script | bytes], Speaker]

DOCUMENTED = Path(__file__).parents[2] / "docs" / "benchmark.md"


def test_the_demo_is_measured(cli: Cli, demo: str) -> None:
    result = cli("benchmark", demo, "-n", "200", "-c", "4")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["target", "at", "load", "mix"]
    assert result.stderr.startswith(f"target    {demo}\nat        127.0.0.1:")
    assert re.match(r"measured \d+\.\d\d s: 200 good answers, 0 failed\n", result.stdout)
    for text in ("good answers a second", "p50", "p99.9", "% of a core", "up to"):
        assert text in result.stdout


def test_the_demo_is_measured_at_a_rate_for_a_time(cli: Cli, demo: str) -> None:
    result = cli("benchmark", demo, "-d", "300ms", "--warmup", "100ms", "-r", "100", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert document["plan"]["loop"] == "open"
    assert document["requests"]["good"] + document["requests"]["unsent"] == 30
    assert document["backlog"]["max"] >= 0
    assert document["client"]["late_ms"]["p50"] < 100


@pytest.mark.parametrize(("era", "revision"), [("stateless", "2026-07-28"), ("handshake", "2025-11-25")])
def test_both_eras_and_a_mix(cli: Cli, demo: str, tmp_path: Path, era: str, revision: str) -> None:
    mix = tmp_path / "mix.yaml"
    mix.write_text("- {tool: add, arguments: {a: 1, b: 2}, weight: 2}\n- method: prompts/list\n")
    document = json.loads(
        cli(
            *("benchmark", demo, "-n", "50", "-c", "3", "--era", era, "--json", "--mix", str(mix)),
            *("--tool", 'echo={"text":"x"}', "--tool", 'roman_numeral={"number":0}'),
            *("--max-errors", "20%"),
        ).stdout
    )
    assert document["ok"]
    assert (document["target"]["era"], document["target"]["revision"]) == (era, revision)
    found = {each["name"] or each["method"]: (each["good"], each["failed"]) for each in document["by_operation"]}
    assert found == {"echo": (10, 0), "roman_numeral": (0, 10), "add": (20, 0), "prompts/list": (10, 0)}
    assert document["failures"]["by_kind"]["tool_error"] == 10
    assert document["failures"]["details"][0]["example"] == "the Romans wrote 1 to 3999"
    assert document["latency_ms"]["min"] <= document["latency_ms"]["p50"] <= document["latency_ms"]["max"]
    assert sum(each["count"] for each in document["histogram"]) == document["requests"]["good"] == 40


def test_every_key_is_documented(cli: Cli, demo: str) -> None:
    document = json.loads(cli("benchmark", demo, "-n", "20", "-r", "1000", "--json", "--expect-rate", "0.1").stdout)
    text = DOCUMENTED.read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        return {*value, *(key for inner in value.values() for key in keys(inner))} if isinstance(value, dict) else set()

    assert [key for key in sorted(keys(document)) if f"`{key}`" not in text] == []


def test_the_url_may_come_from_an_option_or_the_environment(cli: Cli, demo: str) -> None:
    assert cli("benchmark", "--url", demo, "-n", "1").exit_code == 0
    assert cli("benchmark", "-n", "1", env={"ONLY1MCP_URL": demo}).exit_code == 0
    assert cli("benchmark", demo, "-n", "1", env={"ONLY1MCP_URL": "http://127.0.0.1:1/"}).exit_code == 0
    result = cli("benchmark", demo, "--url", "http://127.0.0.1:1/", "-n", "1")
    assert (result.exit_code, "expected one URL" in result.stderr) == (2, True)


def test_failures_decide_on_the_exit_code(cli: Cli, demo: str) -> None:
    bad = ("benchmark", demo, "-n", "10", "--tool", 'roman_numeral={"number":0}')
    result = cli(*bad)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "missed: --max-errors 0: got 10")
    assert "tool_error: the Romans wrote 1 to 3999" in result.stdout
    assert "latency of good answers" not in result.stdout
    assert cli(*bad, "--max-errors", "9").exit_code == 1
    assert cli(*bad, "--max-errors", "10").exit_code == 0
    assert cli(*bad, "--max-errors", "99%").exit_code == 1
    assert cli(*bad, "--max-errors", "100%").exit_code == 0


def test_expectations_decide_on_the_exit_code(cli: Cli, demo: str) -> None:
    result = cli("benchmark", demo, "-n", "10", "--expect-p99-ms", "0.0001", "--expect-rate", "999999")
    assert result.exit_code == 1
    missed = [line for line in result.stdout.splitlines() if line.startswith("missed: ")]
    assert [line.split()[1] for line in missed] == ["--expect-p99-ms", "--expect-rate"]
    assert cli("benchmark", demo, "-n", "10", "--expect-p99-ms", "60000", "--expect-rate", "0.01").exit_code == 0


def test_nothing_measured_is_no_expectation_met(cli: Cli, demo: str) -> None:
    bad = ("benchmark", demo, "-n", "3", "--tool", 'roman_numeral={"number":0}', "--max-errors", "100%")
    assert cli(*bad, "--expect-p99-ms", "60000").exit_code == 1


def test_unknown_tools_are_not_called_uninvited(cli: Cli, demo: str) -> None:
    result = cli("benchmark", demo, "-n", "5", "--tool", "ecko")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[1] == "error: the target lists no tool 'ecko'; did you mean 'echo'?"
    result = cli("benchmark", demo, "-n", "5", "--tool", "ecko", "--unlisted")
    assert result.exit_code == 1
    assert "rpc_error -32602" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("-r", "0"),
        ("-r", "-1"),
        ("-r", "nan"),
        ("-r", "inf"),
        ("-r", "x"),
        ("-r", "1000001"),
        ("-c", "0"),
        ("-c", "-1"),
        ("-c", "1.5"),
        ("-c", "99999999999999999999"),
        ("-d", "0"),
        ("-d", "-1s"),
        ("-d", "nan"),
        ("-d", "1y"),
        ("-n", "0"),
        ("-n", "-1"),
        ("--warmup", "nan"),
        ("--timeout", "0"),
        ("--max-errors", "nan"),
        ("--max-errors", "101%"),
        ("--expect-p99-ms", "0"),
        ("--expect-p99-ms", "nan"),
        ("--expect-rate", "-1"),
        ("--era", "middle"),
        ("--tool", "x={"),
        ("--tool", "x={}:0"),
        ("--tool", "\x1b[31m"),
        ("--method", "initialize"),
        ("--method", "tools/call"),
        ("--mix", "absent.yaml"),
        ("--token", "two words"),
        ("--token", "é"),
        ("ftp://x",),
        ("http://",),
        ("http://user:secret@127.0.0.1/",),
        ("http://127.0.0.1:99999/",),
        ("http://\udcff/",),
    ],
)
def test_input_that_is_refused_before_anything_is_sent(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("benchmark", "-n", "1", *arguments)
    # A tool's name may hold anything; nobody listens at the default URL.
    assert result.exit_code == (4 if "\x1b[31m" in arguments else 2), result.output
    assert result.stdout == ""
    assert "\x1b" not in result.stderr
    assert "secret" not in result.stderr or "user:secret" in arguments[0]


def test_more_connections_than_the_system_allows(demo: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 200 && exec '{PROGRAM}' benchmark '{demo}' -n 1 -c 500"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 500 connections need 564 open files, this process may have 200\n")


def test_nobody_there(cli: Cli) -> None:
    result = cli("benchmark", "http://127.0.0.1:1/mcp", "--html", "report.html")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.splitlines() == [
        "target    http://127.0.0.1:1/mcp",
        "error: cannot connect to 127.0.0.1:1: connection refused",
        "is the proxy running? start it with: only1mcp start",
    ]
    assert not Path("report.html").exists()


def test_a_target_that_is_no_mcp_server(cli: Cli, speaker: Start) -> None:
    for script, words in (
        (answer(b"<html>", content_type="text/html"), "does not answer as an MCP server"),
        (answer(b"", status="401 Unauthorized"), "--token or ONLY1MCP_TOKEN"),
        (answer(b"", status="404 Not Found"), "is /mcp the path of its MCP endpoint?"),
        (b"SSH-2.0-OpenSSH\r\n", "is not valid HTTP"),
    ):
        result = cli("benchmark", speaker(script).url, "-n", "1")
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert words in result.stderr


def test_the_token_is_sent_to_the_target_alone(cli: Cli, speaker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = speaker(answer(b""))
    server = speaker(
        answer(b"", status="307 Temporary Redirect", more=f"Location: {elsewhere.url}\r\nConnection: close\r\n")
    )
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.url)
    result = cli("benchmark", server.url, "-n", "3", "-c", "1", "--token", "s3cret", "--era", "stateless")
    assert result.exit_code == 1
    assert "a redirect to" in result.stdout
    assert elsewhere.requests == []
    assert all(b"Bearer s3cret" in request for request in server.requests)
    assert len(server.requests) == 4
    assert "s3cret" not in result.output


@pytest.mark.parametrize("path", ["absent/report.html", ".", "/dev/null/report.html"])
def test_a_report_that_cannot_be_written_costs_no_run(cli: Cli, speaker: Start, path: str) -> None:
    server = speaker(answer(b""))
    result = cli("benchmark", server.url, "-n", "1", "--html", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: --html {path}: ")
    assert server.requests == []


def test_the_report_is_one_file_with_two_pictures(cli: Cli, demo: str) -> None:
    Path("report.html").write_text("what was there before, longer than nothing" * 9999)
    result = cli("benchmark", demo, "-d", "500ms", "--warmup", "0", "--html", "report.html")
    assert result.exit_code == 0
    text = Path("report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    pictures = [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(pictures) == 2
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="', text) == []


def test_the_bar_is_for_terminals_alone(demo: str) -> None:
    command = [PROGRAM, "benchmark", demo, "-d", "500ms", "--warmup", "100ms", "--json"]
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=30, check=False)
        os.close(follower)
        shown = b""
        try:
            while more := os.read(leader, 65536):
                shown += more
        except OSError:  # the other side is closed
            pass
    finally:
        os.close(leader)
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"]
    assert b"%" in shown
    assert b" good  " in shown
    quiet = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert len(quiet.stderr.splitlines()) == 4


def test_ctrl_c_ends_early_with_results(demo: str, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    command = [PROGRAM, "benchmark", demo, "-d", "10m", "--warmup", "0", "--json"]
    with errors.open("wb") as out, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out) as child:
        try:
            until(lambda: b"mix " in errors.read_bytes(), 20, "the load has begun")
            # The announcement comes just before the load.
            before = _cpu_ticks(child.pid)
            until(lambda: _cpu_ticks(child.pid) > before + 20, 30, "the load is running")
            child.send_signal(signal.SIGINT)
            output, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    document = json.loads(output)
    assert document["interrupted"]
    assert document["requests"]["good"] > 0
    assert document["measured_s"] < 60
    assert child.returncode == 0


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_the_version_does_not_import_it() -> None:
    code = (
        "import sys\nfrom only1mcp.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if 'loadgen' in name or 'asyncio' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
