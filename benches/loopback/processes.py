"""What is measured of a process and not of a call: its memory, with and without connections, and its start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benches.loopback.backend import tool_names
from benches.loopback.calls import Connection, plan_calls, prepare
from benches.loopback.cases import OURS
from benches.loopback.rounds import Sample, summarize
from benches.loopback.scenarios import OCTETS
from benches.loopback.stage import SPARE_FILES, Stage, http_server, most_connections, resident_mb
from tests.e2e.processes import Process, Proxy, until

# Of open connections.
STEPS = (1_000, 10_000)
OPEN_S = 60.0
FIRST_CALL_S = 20.0


def measure_memory(wanted: tuple[str, ...], rounds: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the memory of each proxy that is wanted, fresh each round, and which are absent."""
    samples: dict[str, list[Sample]] = {}
    absent: dict[str, str] = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="only1mcp-bench-") as name, Stage(Path(name), wanted) as stage:
            (url,) = stage.backend("stateless", octets=OCTETS)
            plan = plan_calls("stateless", tool_names(0, 1), OCTETS)
            subjects = {**stage.others(url, connections=STEPS[-1] + SPARE_FILES), OURS: stage.ours([http_server(url)])}
            for who, (pid, at) in subjects.items():
                file = stage.directory / f"{who}.requests"
                prepare(plan, at, file)
                samples.setdefault(who, []).append(_fill(stage, who, pid, at, file))
            absent = stage.absent
        print(f"memory: round {number + 1} of {rounds}", file=sys.stderr)
    return {who: summarize(taken) for who, taken in samples.items()}, absent


def measure_start(rounds: int) -> dict[str, Any]:
    """Return how long `--version` takes, and how long it is from the start to the first answered call."""
    samples = []
    with tempfile.TemporaryDirectory(prefix="only1mcp-bench-") as name, Stage(Path(name), (OURS,)) as stage:
        (url,) = stage.backend("stateless", octets=OCTETS)
        for number in range(-1, rounds):  # the first one warms the file cache up
            sample = {"version_ms": _version_ms(), "call_ms": _first_call_ms(stage, url)}
            if number >= 0:
                samples.append(sample)
    return {OURS: summarize(samples)}


def _fill(stage: Stage, who: str, pid: int, url: str, file: Path) -> Sample:
    """Open more and more connections; `most_mb` is with as many `connections` as the limit on open files allows."""
    most = min(STEPS[-1], most_connections(files_each=2 if who == "haproxy" else 1))
    idle = resident_mb(pid)
    sample: Sample = {"idle_mb": round(idle, 2), "connections": most}
    opened: list[Process] = []
    held = 0
    parts = urlsplit(url)
    for step in (*(step for step in STEPS[:-1] if step < most), most):
        command = [sys.executable, "-m", "benches.loopback.idle", str(parts.hostname), str(parts.port)]
        opened.append(stage.run([*command, str(step - held), str(file)], "idle"))
        opened[-1].wait_for_line(rf"^open {step - held}$", OPEN_S)
        held = step
        sample["most_mb" if step == most else f"with_{step}_mb"] = round(resident_mb(pid), 2)
    sample["connection_kb"] = round((sample["most_mb"] - idle) * 1000 / most, 3)
    for process in opened:
        process.__exit__()
    return sample


def _version_ms() -> float:
    began = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name(OURS)), "--version"], capture_output=True, check=True)
    return round((time.perf_counter() - began) * 1000, 1)


def _first_call_ms(stage: Stage, url: str) -> float:
    plan = plan_calls("stateless", tool_names(0, 1), OCTETS)
    proxy = _Started(stage.directory / "start", [http_server(url)])
    request = plan.calls[0].encode(proxy.url)

    def is_answered() -> bool:
        with suppress(OSError, HTTPException), Connection(proxy.url) as connection:
            reply = connection.ask(request)
            plan.check(plan.calls[0], reply)
            return reply.status == 200
        return False

    with proxy:
        until(is_answered, FIRST_CALL_S, "the first answer", every_s=0.001)
        return round((time.perf_counter() - proxy.began) * 1000, 1)


class _Started(Proxy):
    """A proxy that is not waited for."""

    def __init__(self, directory: Path, servers: list[dict[str, Any]]) -> None:
        self.began = time.perf_counter()
        super().__init__(directory, servers)

    def __enter__(self) -> Self:
        return self
