"""Measure what each artifact costs to install and start: its size, `--version`, and the first answered call.

usage: measure_install.py ARTIFACT... [--rounds N] [--verified TEXT] [--output FILE]

An artifact is a wheel or a source distribution (installed into a fresh environment), or an executable file. Rows are
printed as JSON; with --output they take the place of those of the same artifacts in the file, and others stay.
Times are medians over the rounds, with the files in memory; the first call is a `tools/call` to a demo server over HTTP
that is up already, asked for again and again from the moment at which `only1mcp start` was launched.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.processes import Process, free_port, until  # noqa: E402

from only1mcp.demo.launch import http_server  # noqa: E402
from only1mcp.wire import mcp  # noqa: E402

FIRST_CALL_S = 60.0
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "uuid",
        "arguments": {},
        "_meta": {mcp.META_VERSION: mcp.LATEST_STATELESS, mcp.META_CAPABILITIES: {}},
    },
}
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": mcp.LATEST_STATELESS,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "uuid",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure size and start of wheels, source distributions and binaries.")
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verified", help="where it was used, and how; default: today, on this system")
    parser.add_argument("--output", type=Path, help="a file of rows, such as docs/install.json")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    rows = [measure(artifact, given.rounds, given.verified) for artifact in given.artifacts]
    if given.output is not None:
        known = json.loads(given.output.read_text(encoding="utf-8")) if given.output.is_file() else []
        merged = {row["artifact"]: row for row in [*known, *rows]}
        given.output.write_text(json.dumps(list(merged.values()), indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=2))


def measure(artifact: Path, rounds: int, verified: str | None) -> dict[str, Any]:
    """Return the row of one artifact."""
    with tempfile.TemporaryDirectory(prefix="only1mcp-install-") as name:
        program = installed(artifact, Path(name))
        return {
            "artifact": artifact.name,
            "size_bytes": artifact.stat().st_size,
            "start_ms": median(rounds, lambda: version_ms(program)),
            "first_call_ms": median(rounds, lambda: first_call_ms(program, Path(name))),
            "verified": verified or f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {system()} {platform.machine()}",
        }


def installed(artifact: Path, folder: Path) -> Path:
    """Return the command that the artifact is, or that its installation makes."""
    if not artifact.name.endswith((".whl", ".tar.gz")):
        if not os.access(artifact, os.X_OK) or not artifact.is_file():
            sys.exit(f"{artifact}: expected a wheel, a source distribution or an executable file")
        return artifact.resolve()
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    command = [scripts / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", artifact.resolve()]
    subprocess.run(command, check=True)
    return scripts / "only1mcp"


def median(rounds: int, once: Callable[[], float]) -> float:
    once()  # brings the files into memory
    return round(statistics.median(once() for _ in range(rounds)), 1)


def version_ms(program: Path) -> float:
    began = time.perf_counter()
    subprocess.run([program, "--version"], check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def first_call_ms(program: Path, folder: Path) -> float:
    """Return how long it takes from the launch of the proxy to the answer of a call through it."""
    with http_server() as url:
        port = free_port()
        config = {
            "version": "1.0",
            "proxy": {"port": port},
            "metrics": {"enabled": False},
            "servers": [{"id": "demo", "transport": "http", "url": url}],
        }
        file = folder / "only1mcp.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        began = time.perf_counter()
        with Process([str(program), "start", "--config", str(file)], folder / "log"):
            until(lambda: is_answered(f"http://127.0.0.1:{port}/mcp"), FIRST_CALL_S, "the first call", every_s=0.001)
            return (time.perf_counter() - began) * 1000


def is_answered(url: str) -> bool:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    with suppress(OSError, HTTPException):
        try:
            connection.request("POST", parts.path, json.dumps(CALL), HEADERS)
            reply = connection.getresponse()
            text = reply.read()
            return reply.status == 200 and bool(UUID(json.loads(text)["result"]["content"][0]["text"]))
        finally:
            connection.close()
    return False


def system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"


if __name__ == "__main__":
    main()
