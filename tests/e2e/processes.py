"""Starts and stops the processes of the end-to-end tests, and knows who their descendants are."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import yaml

# Of a machine that is busy with other tests.
PROXY_START_S = 60.0
STOP_S = 15.0
Found = TypeVar("Found")


def until(condition: Callable[[], Found], timeout_s: float, what: str, *, every_s: float = 0.02) -> Found:
    """Return the first true value of `condition`, asked again and again; fail after `timeout_s`, naming `what`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(every_s)


def free_port() -> int:
    """Return a port that nobody listens on, where possible one that no outgoing connection can take meanwhile."""
    try:
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first_ephemeral = 0
    candidates = random.sample(range(10_000, first_ephemeral), 20) if first_ephemeral > 11_000 else []
    for candidate in [*candidates, 0]:
        with suppress(OSError), socket.create_server(("127.0.0.1", candidate)) as listener:
            port: int = listener.getsockname()[1]
            return port
    raise AssertionError("no free port")


class Process:
    """A child process whose output goes to a file; killed at the end of the `with` block, whatever happens."""

    def __init__(self, command: list[str], log: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait(STOP_S)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Return the exit status; fail with the output when the process does not end in time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.output}") from None

    def wait_for_line(self, pattern: str, timeout_s: float = PROXY_START_S) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output, re.MULTILINE)
            assert match or self.is_running, f"ended with {self._process.returncode}:\n{self.output}"
            return match

        return until(found, timeout_s, f"{pattern!r} in the output")


class Server(Process):
    """One of the fixture servers, over HTTP; `url` is where it listens."""

    def __init__(
        self, program: Path, script: Path, log: Path, *arguments: str, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__([str(program), str(script), *arguments], log, env=env)

    def __enter__(self) -> Self:
        try:
            self.url = self.wait_for_line(r"^listening (\S+)$").group(1)
        except BaseException:
            self.__exit__()
            raise
        return self


class Proxy(Process):
    """The proxy under test with a configuration of its own; ready, as `/ready` says, once the `with` block begins.

    `program` is started instead of the installed command.
    """

    def __init__(
        self, directory: Path, servers: list[dict[str, Any]], *, program: list[str] | None = None, **sections: Any
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port, self.metrics_port = free_port(), free_port()
        config = {
            "version": "1.0",
            "proxy": {"host": "127.0.0.1", "port": self.port, **sections.pop("proxy", {})},
            "metrics": {"port": self.metrics_port},
            "logging": {"format": "text", "outputs": [{"type": "stdout"}]},
            **sections,
            "servers": servers,
        }
        self.config = directory / "only1mcp.yaml"
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))
        program = program or [str(Path(sys.executable).with_name("only1mcp"))]
        super().__init__([*program, "start", "--config", str(self.config)], directory / "proxy.log")
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/mcp"

    def __enter__(self) -> Self:
        try:
            until(self._is_ready, PROXY_START_S, "ready")
        except BaseException as error:
            self.__exit__()
            raise AssertionError(f"{error}\n{self.output}") from error
        return self

    def _is_ready(self) -> bool:
        assert self.is_running, "the proxy ended"
        return http_status(f"{self.origin}/ready") == 200

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of `name` that carry these labels."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if re.match(rf"{name}(\{{| )", line) and all(each in line for each in wanted)
        )


def http_status(url: str) -> int | None:
    """Return the status of a GET, or None while nobody listens."""
    try:
        with urlopen(url, timeout=5) as answer:
            status: int = answer.status
            return status
    except HTTPError as error:
        return error.code
    except (URLError, ConnectionError, TimeoutError):
        return None


def descendants(pid: int) -> dict[int, str]:
    """Return the command line of every process below `pid`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found: dict[int, str] = {}
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found |= {child: command_line(child) for child in generation}
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
