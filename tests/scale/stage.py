"""The processes of the scale tests, what they use of the machine, and how much of everything a run takes."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.e2e.processes import Process, Proxy

PREFIX = "ONLY1MCP_SCALE"
# Both ends of every connection, and what an interpreter with its logs and event loop has open anyway.
SPARE_DESCRIPTORS = 500
USUAL_DESCRIPTORS = 1024


@dataclass(frozen=True)
class Numbers:
    """How much a run takes. `flood` is requests of each kind in each round, `big_mb` the size of the larger answers."""

    backends: int = 100
    tools: int = 100
    connections: int = 10_000
    streams: int = 1000
    big_mb: int = 10
    big_answers: int = 12
    flood: int = 400
    soak_s: int = 6


FULL = Numbers(big_answers=64, flood=5000, soak_s=60)


def numbers() -> Numbers:
    """Return the numbers of this run: ONLY1MCP_SCALE=full, and ONLY1MCP_SCALE_CONNECTIONS=2000 and the like."""
    chosen = FULL if os.environ.get(PREFIX) == "full" else Numbers()
    named = {field.name: os.environ.get(f"{PREFIX}_{field.name.upper()}") for field in fields(Numbers)}
    return Numbers(**{name: int(value) if value else getattr(chosen, name) for name, value in named.items()})


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many files as the system allows it; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


@contextlib.contextmanager
def usual_descriptor_limit() -> Iterator[None]:
    """What is started in this block begins with the soft limit that most systems give."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, USUAL_DESCRIPTORS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Site(Process):
    """The process of `tests.scale.server`."""

    def __init__(self, directory: Path, backends: int, tools: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.backends, self.tools = backends, tools
        command = [sys.executable, "-m", "tests.scale.server", str(backends), str(tools)]
        super().__init__(command, directory / "site.log")

    @contextlib.contextmanager
    def serving(self) -> Iterator[Site]:
        with self:
            self.origin = self.wait_for_line(r"^listening (\S+)$").group(1)
            yield self

    def entries(self, **more: Any) -> list[dict[str, Any]]:
        """Return the `servers` of a configuration in front of every backend."""
        return [
            {"id": f"s{number}", "transport": "http", "url": f"{self.origin}/{number}/mcp", **more}
            for number in range(self.backends)
        ]

    def control(self, what: str, timeout_s: float = 60.0) -> None:
        """Do what `tests.scale.server.Site.control` says, and wait until it is done."""
        with urlopen(f"{self.origin}/control/{what}", timeout=timeout_s) as done:
            assert done.status == 200


@contextlib.contextmanager
def staged(directory: Path, backends: int, tools: int, **sections: Any) -> Iterator[tuple[Site, Proxy]]:
    """Run a site and the proxy in front of it."""
    with Site(directory, backends, tools).serving() as site, Proxy(directory, site.entries(), **sections) as proxy:
        yield site, proxy


def resident_bytes(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """Return the most that the process has had in memory since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, to the nanosecond (the clock of clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) * 1024
