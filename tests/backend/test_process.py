"""What a child gets of us, which file it is, and how its end is told; its life is in the tests of the transport."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from only1mcp.backend.guard import Guard
from only1mcp.backend.process import Child, child_environment, find_command
from only1mcp.errors import BackendUnavailable


def test_the_environment_is_a_short_list_and_what_the_entry_declares() -> None:
    ours = {
        "PATH": "/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "LANG": "() { :; }; echo vulnerable",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HTTP_PROXY": "http://user:password@proxy",
        "PYTHONPATH": "/ours",
        "NODE_OPTIONS": "--require evil",
        "LD_PRELOAD": "x.so",
    }
    assert child_environment(ours, {}) == {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C"}
    assert child_environment(ours, {"HOME": "/data", "TOKEN": "t"}) == {
        "PATH": "/bin",
        "HOME": "/data",
        "LC_ALL": "C",
        "TOKEN": "t",
    }


def test_a_bare_name_is_looked_for_in_the_path_of_the_child(tmp_path: Path) -> None:
    program = tmp_path / "some-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_command("some-server", str(tmp_path), None) == str(program)
    for path in ("/bin", "", None):
        with pytest.raises(BackendUnavailable, match="'some-server' was not found: install it"):
            find_command("some-server", path, str(tmp_path))


def test_a_path_is_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "some-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_command("bin/some-server", None, str(tmp_path)) == str(program)
    monkeypatch.chdir(tmp_path)
    assert find_command("./bin/some-server", None, None) == str(program)
    assert find_command(str(program), None, "/") == str(program)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_command("~/bin/some-server", None, None) == str(program)
    with pytest.raises(BackendUnavailable, match="does not exist"):
        find_command("bin/other", None, str(tmp_path))


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("pass", "exited with status 0"),
        ("raise SystemExit(250)", "exited with status 250"),
        ("import os; os.kill(os.getpid(), 15)", "was killed by signal 15 (SIGTERM)"),
        ("import os; os.kill(os.getpid(), 40)", "was killed by signal 40"),
    ],
)
async def test_how_it_ended_comes_after_the_last_bytes(program: str, expected: str) -> None:
    guard = Guard()
    events: list[bytes | str] = []
    before = set(os.listdir("/proc/self/fd"))
    ended = asyncio.Event()
    child = Child(
        (sys.executable, "-I", "-S", "-c", "print('x' * 150_000, flush=True)\n" + program),
        env={},
        cwd=None,
        guard=guard,
        on_stdout=events.append,
        on_stderr=lambda data: None,
        on_exit=lambda how: (events.append(how), ended.set()),
    )
    assert "running" in repr(child)
    async with asyncio.timeout(20):
        await ended.wait()
    assert events[-1] == expected
    assert events[-2] == b""
    assert b"".join(piece for piece in events if isinstance(piece, bytes)) == b"x" * 150_000 + b"\n"
    assert child.exited
    assert "exited" in repr(child)
    with pytest.raises(BrokenPipeError):
        child.write((b"x",))
    child.call_when_writable(None)
    await child.stop()
    assert guard.groups == frozenset()
    await guard.aclose()
    assert set(os.listdir("/proc/self/fd")) <= before
