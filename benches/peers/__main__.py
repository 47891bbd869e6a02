"""What one `tools/call` costs through other gateways, and through Only1MCP in the same run.

Each is put before the backend that it takes, an HTTP server or a child process that give the same answer; the answer is
checked before anything is measured, and every answer after. Rounds are interleaved. A gateway that cannot be installed,
does not start or answers wrongly has a row that says so. Writes benches/results/peers.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benches.loopback.stage import OURS, STDIO_BACKEND, Stage, http_server, pin, stdio_server
from benches.peers.client import Subject, WrongAnswer, opened
from benches.peers.gateways import PEERS, START_S, Backend, Peer, Running, answering, backend_command
from benches.peers.install import NotInstalled
from benches.peers.table import render
from tests.e2e.processes import descendants, until
from tests.scale.stage import cpu_seconds

from only1mcp import __version__

RESULTS = Path(__file__).parents[1] / "results" / "peers.json"
LOAD_TIMEOUT_S = 120.0
WARM_UP_S = 1.0
FEWER = 4


@dataclass
class Row:
    """One gateway before one kind of backend, and what became of it."""

    name: str
    version: str
    registry: str
    backend: str
    ours: bool
    connections: int
    reason: str = ""
    rounds: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Contender:
    """A gateway that has started and answers right."""

    row: Row
    pid: int
    subject: Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load for each gateway in each round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--octets", type=int, default=256, help="of text in the result")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="only these packages (none: only Only1MCP)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file to write")
    options = parser.parse_args()
    # What has been started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = run(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(render(report))
    print(f"written: {os.path.relpath(options.output)}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    peers = [peer for peer in PEERS if options.only is None or peer.package in options.only]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="only1mcp-peers-") as name, Stage(Path(name), ()) as stage:
        (url,) = stage.backend("handshake", octets=options.octets)
        contenders = [
            ours(stage, "http", http_server(url), options, rows),
            ours(stage, "stdio", stdio_server("handshake", octets=options.octets), options, rows),
        ]
        backend = Backend(url, backend_command(options.octets))
        with ExitStack() as stack:
            for peer in peers:
                note(f"starting {peer.name}")
                contender = started(stack, peer, stage.directory, backend, options, rows)
                if contender is not None:
                    contenders.append(contender)
            for contender in contenders:
                pin(contender.pid, stage.for_proxies)
                survive(contender, stage.for_rest)
            for number in range(options.rounds):
                note(f"round {number + 1} of {options.rounds}")
                for contender in contenders if number % 2 else reversed(contenders):
                    measure(contender, options.seconds, stage.for_rest)
    return {"rows": [finished(row) for row in rows], **circumstances(options, len(os.sched_getaffinity(0)))}


def ours(stage: Stage, kind: str, server: dict[str, Any], options: argparse.Namespace, rows: list[Row]) -> Contender:
    pid, at = stage.ours([server])
    row = Row("Only1MCP", __version__, "", kind, True, options.connections)
    rows.append(row)
    subject = Subject(at, octets=options.octets)
    until(lambda: offers(subject), START_S, "the right answer")
    return Contender(row, pid, saved(subject, stage.directory / f"{OURS}-{kind}.json"))


def started(
    stack: ExitStack, peer: Peer, directory: Path, backend: Backend, options: argparse.Namespace, rows: list[Row]
) -> Contender | None:
    row = Row(peer.name, peer.version, peer.registry, peer.backend, False, options.connections)
    rows.append(row)
    home = directory / f"{peer.registry}-{peer.package}"
    home.mkdir()
    try:
        running = peer.start(peer.program(), home, backend)
    except NotInstalled as error:
        row.reason = f"cannot be installed: {error}"
        return None
    except (AssertionError, OSError) as error:
        row.reason = f"does not start: {error}"
        return None
    stack.enter_context(running.process)
    return met(row, running, home, options)


def met(row: Row, running: Running, home: Path, options: argparse.Namespace) -> Contender | None:
    """Wait until the gateway answers right; None, and a reason in its row, when it does not."""
    subject = Subject(running.url, running.headers, running.transport, options.octets)
    reasons = ["never listened"]

    def answers() -> bool:
        assert running.process.is_running, f"ended: {running.process.output.strip()[-300:]}"
        return offers(subject, reasons)

    try:
        if running.transport == "http":
            answering(running.process, running.url)
        until(answers, START_S, "the right answer")
    except WrongAnswer as error:
        row.reason = f"answers wrongly: {error}"
        return None
    except AssertionError as error:
        row.reason = f"does not start: {error}" if not running.process.is_running else f"no answer: {reasons[-1]}"
        return None
    return Contender(row, running.process.pid, saved(subject, home / "subject.json"))


def offers(subject: Subject, reasons: list[str] | None = None) -> bool:
    """Whether a session can be opened and calls are answered; why not is added to the reasons."""
    try:
        asyncio.run(opened_once(subject))
    except (AssertionError, OSError, TimeoutError, ValueError, KeyError, EOFError) as error:
        if reasons is not None:
            reasons.append(f"{type(error).__name__} {error}")
        return False
    return True


def saved(subject: Subject, file: Path) -> Path:
    file.write_text(json.dumps(asdict(subject)))
    return file


async def opened_once(subject: Subject) -> None:
    session = await opened(subject)
    if session.stream is not None:
        session.stream[1].close()


def survive(contender: Contender, cpus: set[int]) -> None:
    """Warm the gateway up, and find out how many connections it can serve without a mistake."""
    row = contender.row
    while True:
        try:
            counted, _ = load(contender, WARM_UP_S, cpus)
            reason = f"{counted['failed']} calls failed: {counted['reason']}" if counted["failed"] else ""
            reason = reason or ("" if counted["requests"] else "no calls were answered")
        except RuntimeError as error:
            reason = str(error)
        note(f"{row.name}, {row.connections} connections: {reason or 'fine'}")
        if not reason:
            return
        if row.connections == 1:
            row.reason = f"fails under load: {reason}"
            return
        row.connections = max(1, row.connections // FEWER)


def measure(contender: Contender, seconds: float, cpus: set[int]) -> None:
    row = contender.row
    if row.reason:
        return
    try:
        counted, cpu_s = load(contender, seconds, cpus)
    except RuntimeError as error:
        row.reason = f"fails under load: {error}"
        return
    if counted["failed"] or not counted["requests"]:
        row.reason = f"fails under load: {counted['failed']} calls: {counted['reason']}"
        return
    row.rounds.append(
        {
            "requests": counted["requests"],
            "requests_per_s": round(counted["requests"] / counted["seconds"], 1),
            "cpu_us": round(cpu_s * 1e6 / counted["requests"], 1),
            "p50_us": counted["p50_us"],
            "p99_us": counted["p99_us"],
        }
    )


def load(contender: Contender, seconds: float, cpus: set[int]) -> tuple[dict[str, Any], float]:
    """Put the load on a gateway; return what was counted, and the CPU seconds that the gateway has used meanwhile."""
    row = contender.row
    command = [sys.executable, "-m", "benches.peers.load", str(contender.subject), str(row.connections), str(seconds)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(process.pid, cpus)
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline().strip() != "ready":
            lines = process.stderr.read().strip().splitlines()
            raise RuntimeError(f"no session: {lines[-1] if lines else 'no output'}")
        pin_backends(contender.pid, cpus)
        before = used(contender.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        line = process.stdout.readline()
        cpu_s = sum(max(0.0, after - before.get(pid, 0.0)) for pid, after in used(contender.pid).items())
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if not line:
            raise RuntimeError("the load generator ended")
    counted: dict[str, Any] = json.loads(line)
    return counted, cpu_s


def gateway_processes(pid: int) -> Iterator[tuple[int, bool]]:
    """Yield the processes of a gateway, and whether each is a backend that it has started."""
    yield pid, False
    for child, command_line in descendants(pid).items():
        yield child, STDIO_BACKEND in command_line


def pin_backends(pid: int, cpus: set[int]) -> None:
    for child, is_backend in gateway_processes(pid):
        if is_backend:
            with contextlib.suppress(OSError):
                pin(child, cpus)


def used(pid: int) -> dict[int, float]:
    """Return the CPU seconds of every process of a gateway but its backends."""
    found = {}
    for child, is_backend in gateway_processes(pid):
        if not is_backend:
            with contextlib.suppress(OSError):
                found[child] = cpu_seconds(child)
    return found


def finished(row: Row) -> dict[str, Any]:
    median = None
    if row.rounds and not row.reason:
        keys = [key for key in row.rounds[0] if key != "requests"]
        median = {key: statistics.median(each[key] for each in row.rounds) for key in keys}
    return {**asdict(row), "median": median}


def circumstances(options: argparse.Namespace, cpus: int) -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    try:
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        node = "none"
    return {
        "command": " ".join(["python -m benches.peers", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "settings": {key: getattr(options, key) for key in ("rounds", "seconds", "connections", "octets")},
        "machine": {
            "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
            "cpus": cpus,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "node": node,
        },
    }


def note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
