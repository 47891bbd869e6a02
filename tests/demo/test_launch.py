"""The HTTP demo server as a child: up when the block begins, gone when it ends or when we do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tests.e2e.processes import descendants, is_alive, until

from only1mcp.demo import launch
from only1mcp.errors import BackendUnavailable


def test_it_serves_inside_the_block_and_is_gone_after_it() -> None:
    before = set(descendants(os.getpid()))
    with launch.http_server() as url:
        (child,) = set(descendants(os.getpid())) - before
        with pytest.raises(HTTPError) as caught:
            urlopen(url, timeout=5)
        caught.value.close()
        assert caught.value.code == 405
        assert os.getsid(child) == child  # Ctrl-C on our terminal is not for it
    assert not is_alive(child)


def test_it_is_gone_when_the_block_fails() -> None:
    before = set(descendants(os.getpid()))
    with pytest.raises(KeyError), launch.http_server():
        raise KeyError
    assert set(descendants(os.getpid())) <= before


def test_it_does_not_outlive_a_killed_parent() -> None:
    code = (
        "import sys\nfrom only1mcp.demo.launch import http_server\n"
        "with http_server() as url:\n    print(url, flush=True)\n    sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline().startswith(b"http://127.0.0.1:")
        (child,) = descendants(parent.pid)
        parent.send_signal(signal.SIGKILL)
        until(lambda: not is_alive(child), 10, "the end of the demo server")
    finally:
        parent.kill()
        parent.communicate()


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Have something else start in the place of Python."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize("script", ["exit 1", "echo no JSON", "echo '[]'", "echo '{}'"])
def test_what_does_not_come_up_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    pretend(monkeypatch, tmp_path, script)
    with pytest.raises(BackendUnavailable, match="the demo server did not start"), launch.http_server():
        pass


def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, """echo '{"url": "http://x"}'; exec sleep 100""")
    monkeypatch.setattr(launch, "STOP_TIMEOUT_S", 0.1)
    before = set(descendants(os.getpid()))
    with launch.http_server() as url:
        assert url == "http://x"
    assert set(descendants(os.getpid())) <= before
