"""Measure what each artifact costs to install and start, once it has been used as clients do.

usage: python -m scripts.measure_install ARTIFACT... [--rounds N] [--output FILE]

An artifact is a wheel or a source distribution (installed into a fresh environment), an executable file (alone in an
empty root, where it is a program and this is root), or the archive of an image, `.tar` (in a root that nobody can write
to, as its own user). Each is started with its demo backends, called in both eras, and stopped (wheels/first_call.py);
then measured. Rows are printed as JSON; with --output they go into the file, in the places of those of the same
artifacts of whatever version. Times are medians over the rounds, with the files in memory; the first call is a
`tools/call` to a demo server over HTTP that is up already, asked for again and again from the moment at which
`only1mcp start` was launched.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import shutil
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
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from scripts.image import Image
from tests.e2e.processes import Process, free_port, until
from wheels.first_call import Failed, first_call

from only1mcp.demo.launch import http_server
from only1mcp.wire import mcp

FIRST_CALL_S = 60.0
NOBODY = 65532
VERSION = re.compile(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+|[^-:]*)")
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


class Installed(NamedTuple):
    """An artifact that is ready to be run."""

    artifact: str
    size_bytes: int
    # Where it is, as the table says it.
    where: str
    # How to run the command, arguments follow; and, given a configuration, the proxy.
    command: list[str]
    serving: Callable[[Path], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.measure_install", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a file of rows, such as docs/install.json")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    rows = [measure(artifact, given.rounds) for artifact in given.artifacts]
    if given.output is not None:
        known = json.loads(given.output.read_text(encoding="utf-8")) if given.output.is_file() else []
        given.output.write_text(json.dumps(merged(known, rows), indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=2))


def merged(known: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the known rows, each in its place, with the fresh ones instead of those of the same kind of artifact."""
    return list({VERSION.sub("*", row["artifact"]): row for row in [*known, *fresh]}.values())


def measure(artifact: Path, rounds: int) -> dict[str, Any]:
    """Return the row of one artifact; leave where it does not do what it should."""
    with tempfile.TemporaryDirectory(prefix="only1mcp-install-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the users that roots are entered as
        try:
            installed = install(artifact, folder)
            first_call(installed.command)
            return {
                "artifact": installed.artifact,
                "size_bytes": installed.size_bytes,
                "start_ms": median(rounds, lambda: version_ms(installed.command)),
                "first_call_ms": median(rounds, lambda: first_call_ms(installed.serving, folder)),
                "verified": f"{installed.where}; {dt.datetime.now(dt.UTC):%Y-%m-%d}, {system()} {platform.machine()}",
            }
        except (Failed, AssertionError, subprocess.CalledProcessError, ValueError) as failed:
            sys.exit(f"{artifact}: {failed}")


def install(artifact: Path, folder: Path) -> Installed:
    """Make the artifact ready in the folder."""
    if artifact.name.endswith((".whl", ".tar.gz")):
        return from_distribution(artifact, folder)
    if artifact.suffix == ".tar":
        return from_image(artifact, folder)
    if not artifact.is_file() or not os.access(artifact, os.X_OK):
        raise ValueError("expected a wheel, a source distribution, an executable file or the .tar of an image")
    return from_executable(artifact, folder)


def from_distribution(artifact: Path, folder: Path) -> Installed:
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [scripts / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", artifact.resolve()]
    subprocess.run(pip, check=True)
    where = f"installed into an environment of its own, CPython {platform.python_version()}"
    return _command(artifact, where, [str(scripts / "only1mcp")])


def from_executable(artifact: Path, folder: Path) -> Installed:
    program = artifact.resolve()
    with program.open("rb") as file:
        is_elf = file.read(4) == b"\x7fELF"
    if not is_elf or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return _command(artifact, "where it lies", [str(program)])
    root = folder / "root"
    root.mkdir()
    shutil.copy(program, root / "only1mcp")
    inside = ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(root), "/only1mcp"]
    return Installed(
        artifact.name,
        artifact.stat().st_size,
        f"alone in an empty root, as user {NOBODY}",
        inside,
        lambda config: [*inside, "start", "--config", f"/{shutil.copy(config, root / config.name).name}"],
    )


def from_image(artifact: Path, folder: Path) -> Installed:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise ValueError("an image can be entered by root only")
    image = Image(artifact, folder / "root")
    # Nothing but the interface of this machine is there to listen on.
    env = {"ONLY1MCP_HOST": "127.0.0.1"}
    return Installed(
        f"{image.name}:{image.label('version')}",
        image.size_bytes,
        f"the image's files in a root that nobody can write to, as its user {image.config['User']}",
        image.command(*image.config["Entrypoint"], env=env),
        lambda config: image.command(mounts={"/etc/only1mcp/config.yaml": config}, env=env),
    )


def _command(artifact: Path, where: str, command: list[str]) -> Installed:
    def serving(config: Path) -> list[str]:
        return [*command, "start", "--config", str(config)]

    return Installed(artifact.name, artifact.stat().st_size, where, command, serving)


def median(rounds: int, once: Callable[[], float]) -> float:
    once()  # brings the files into memory
    return round(statistics.median(once() for _ in range(rounds)), 1)


def version_ms(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([*command, "--version"], check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def first_call_ms(serving: Callable[[Path], list[str]], folder: Path) -> float:
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
        command = serving(file)
        began = time.perf_counter()
        with Process(command, folder / "log"):
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
