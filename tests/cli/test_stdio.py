"""`stdio` as a program that launches it meets it: what it says where, how it ends, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from tests.cli.conftest import PROGRAM
from tests.e2e.processes import descendants, is_alive, until
from tests.mcp_caller import stateless

GONE_S = 10.0
DEMO = {"id": "demo", "transport": "stdio", "command": sys.executable, "args": ["-m", "only1mcp.demo.stdio"]}
# Greets people on its standard output before it serves.
NOISY = """
import os
from only1mcp.demo import stdio
os.system("echo to the terminal")
print("hello", flush=True)
stdio.main()
"""
STUBBORN = """
import signal
from only1mcp.demo import stdio
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stdio.main()
signal.pause()
"""
# Launches the command, asks once, then waits to be killed.
LAUNCHER = """
import subprocess, sys
*command, line = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
server.stdin.write(line.encode())
server.stdin.flush()
server.stdout.readline()
print(server.pid, flush=True)
sys.stdin.read()
"""


def written(folder: Path, *servers: dict[str, Any], **sections: Any) -> list[str]:
    """Write a configuration and return the command that starts it."""
    values = {"version": "1.0", "servers": list(servers or (DEMO,)), **sections}
    (folder / "c.yaml").write_text(yaml.safe_dump(values))
    return [PROGRAM, "stdio", "--config", str(folder / "c.yaml")]


def call(id: int, text: str) -> bytes:
    return json.dumps(stateless("tools/call", id=id, name="echo", arguments={"text": text})[0]).encode() + b"\n"


@contextmanager
def started(command: list[str], err: Path) -> Iterator[subprocess.Popen[bytes]]:
    with err.open("wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def exchanged(process: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def test_standard_output_carries_messages_alone(tmp_path: Path) -> None:
    noisy = {"id": "noisy", "transport": "stdio", "command": sys.executable, "args": ["-c", NOISY]}
    outputs = [{"type": "stdout"}]
    command = written(tmp_path, noisy, logging={"level": "debug", "outputs": outputs})
    done = subprocess.run(command, input=call(1, "a") + b"nonsense\n", capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(str(answer.get("id")) for answer in answers) == ["1", "None"]
    assert b'"event":"child.started"' in done.stderr
    assert b"1 of 1 backends are up" in done.stderr
    assert b"Traceback" not in done.stderr


def test_files_and_nothing_at_all_will_do_for_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(call(1, "from a file"))
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        assert subprocess.run(written(tmp_path), stdin=stdin, stdout=stdout, timeout=30, check=False).returncode == 0
    assert json.loads((tmp_path / "out").read_bytes())["result"]["content"][0]["text"] == "from a file"
    done = subprocess.run(written(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("ends", ["eof", "sigterm", "sigint", "nobody reads"])
def test_it_ends_with_its_client_and_leaves_no_child(tmp_path: Path, ends: str) -> None:
    with started(written(tmp_path), tmp_path / "err") as process:
        assert exchanged(process, call(1, "x"))["id"] == 1
        children = descendants(process.pid)
        assert any("demo.stdio" in command for command in children.values()), children
        assert process.stdin is not None
        assert process.stdout is not None
        if ends == "eof":
            process.stdin.close()
        elif ends == "nobody reads":
            process.stdout.close()
            process.stdin.write(call(2, "into the void"))
            process.stdin.flush()
        else:
            process.send_signal(signal.SIGTERM if ends == "sigterm" else signal.SIGINT)
        assert process.wait(GONE_S) == 0
        until(lambda: not any(map(is_alive, children)), GONE_S, "the end of the children")
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_it_ends_while_nobody_reads_what_waits(tmp_path: Path) -> None:
    with started(written(tmp_path), tmp_path / "err") as process:
        assert process.stdin is not None
        exchanged(process, call(1, "x"))
        for id in range(2, 8):  # more than a pipe holds
            process.stdin.write(call(id, "x" * 50_000))
        process.stdin.close()
        assert process.wait(GONE_S) == 0


def test_it_outlives_neither_its_client_nor_its_patience(tmp_path: Path) -> None:
    """A client that is killed closes our input; the backends end although one of them does not want to."""
    server = {"id": "stubborn", "transport": "stdio", "command": sys.executable, "args": ["-c", STUBBORN]}
    command = [sys.executable, "-c", LAUNCHER, *written(tmp_path, server), call(1, "x").decode()]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert client.stdout is not None
        proxy = int(client.stdout.readline())
        children = descendants(proxy)
        assert any("stdio.main" in command for command in children.values()), children
        client.kill()
        until(lambda: not any(map(is_alive, [proxy, *children])), 3 * GONE_S, "the end of the proxy and its children")
    finally:
        client.kill()
        client.communicate()


def test_nothing_listens(tmp_path: Path) -> None:
    with started(written(tmp_path, metrics={"enabled": True}), tmp_path / "err") as process:
        exchanged(process, call(1, "x"))
        found = [os.readlink(entry) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
        sockets = {one[8:-1] for one in found if one.startswith("socket:[")}
        listening = {
            fields[9]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
            if (fields := line.split())[3] == "0A"
        }
        assert sockets & listening == set()


def test_a_bad_configuration_is_told_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text('version: "1.0"\nprox: {}')
    done = subprocess.run(
        [PROGRAM, "stdio", "--config", "c.yaml"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("c.yaml:2:1: ")


def test_usage(cli: Callable[..., Result]) -> None:
    assert cli("stdio", "extra").exit_code == 2
