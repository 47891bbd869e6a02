"""Runs the HTTP demo server as a child that ends with us, however we end: it stops when its standard input closes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from only1mcp.errors import BackendUnavailable

STOP_TIMEOUT_S = 5.0


@contextmanager
def http_server() -> Iterator[str]:
    """Start the server on a free port and yield its URL; raise `BackendUnavailable` when it does not come up."""
    # Its own session: Ctrl-C is for the proxy, which still needs the server while it drains.
    child = subprocess.Popen(
        [sys.executable, "-m", "only1mcp.demo.http", "--port", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        try:
            url = orjson.loads(line)["url"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise BackendUnavailable(f"the demo server did not start, it said {line!r:.200}") from None
        yield url
    finally:
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
