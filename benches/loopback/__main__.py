"""What one proxied `tools/call` costs: Only1MCP against nginx proxying the same bytes to the same backend.

Rounds are interleaved, so that both proxies meet the same weather; the numbers are medians over the rounds. CPU is what
the kernel counts for the proxy's processes. Prints a table and writes benches/results/loopback.json; a slow machine
makes for other numbers, never for a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benches.loopback import stage
from benches.loopback.backend import TOOL
from benches.loopback.table import render
from tests.e2e.gateway import wait_for_tools
from tests.e2e.processes import Proxy, http_status, until
from tests.e2e.wire_client import HANDSHAKE, META, STATELESS, WireClient

RESULTS = Path(__file__).parents[1] / "results" / "loopback.json"
DISTINCT_CALLS = 1024
CASES = {"stateless": STATELESS, "handshake": HANDSHAKE}
ARGUMENT = "what a model might ask for, in about a hundred characters, so that the call has a body worth the name"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.loopback", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of load for each proxy in each round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--octets", type=int, default=256, help="of text in the result")
    parser.add_argument("--own-load", action="store_true", help="do not use wrk, even where it is installed")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file to write")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    if stage.NGINX is None:
        print("skipped: nginx is not installed (Debian: apt-get install nginx-light wrk)")
        return
    report = run(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(render(report))
    print(f"written: {os.path.relpath(options.output)}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    cpus = sorted(os.sched_getaffinity(0))
    for_proxy, for_rest = ({cpus[0]}, set(cpus[1:])) if len(cpus) > 1 else (set(cpus), set(cpus))
    cases = {}
    for case in options.cases:
        with tempfile.TemporaryDirectory(prefix="only1mcp-bench-") as name:
            cases[case] = compare(case, options, Path(name), for_proxy, for_rest)
    return {"cases": cases, **circumstances(options, len(cpus))}


def compare(
    case: str, options: argparse.Namespace, directory: Path, for_proxy: set[int], for_rest: set[int]
) -> dict[str, Any]:
    """Put the same load on both proxies in turn, both in front of one backend that speaks the era of the case."""
    with ExitStack() as stack:
        backend = stack.enter_context(stage.backend(directory, options.octets, case))
        backend_url = backend.wait_for_line(r"^listening (\S+)$").group(1)
        server = {"id": "bench", "name": "bench", "transport": "http", "url": backend_url}
        limits = {"limits": {"max_connections": 10000, "max_in_flight": 2000}}
        proxy = stack.enter_context(Proxy(directory / "only1mcp", [server], proxy=limits))
        nginx, nginx_url = stage.nginx(directory, backend_url)
        stack.enter_context(nginx)
        until(lambda: http_status(nginx_url) == 405, 10, "nginx")
        wait_for_tools(proxy, TOOL)
        stage.pin(backend.pid, for_rest)
        subjects = {"nginx": (nginx.pid, nginx_url), "only1mcp": (proxy.pid, proxy.url)}
        calls = {}
        for who, (pid, url) in subjects.items():
            stage.pin(pid, for_proxy)
            calls[who] = directory / f"{who}.calls"
            calls[who].write_text(asyncio.run(prepare(url, CASES[case], options.octets)))
        load = stage.load_with_wrk if uses_wrk(options) else stage.load_with_asyncio
        samples: dict[str, list[dict[str, float]]] = {who: [] for who in subjects}
        for number in range(-1, options.rounds):  # the first one warms up
            for who in subjects if number % 2 else reversed(subjects):
                pid, url = subjects[who]
                before = stage.cpu_seconds(pid)
                seconds = options.seconds if number >= 0 else 1
                counted = load(url, calls[who], options.connections, seconds, for_rest)
                used = stage.cpu_seconds(pid) - before
                if counted["failed"]:
                    raise SystemExit(f"{who}: {counted['failed']} of {counted['requests']} calls failed")
                if number >= 0:
                    samples[who].append(sample(counted, used))
            print(f"{case}: round {number + 1} of {options.rounds}", file=sys.stderr)
    medians = {who: median(taken) for who, taken in samples.items()}
    found: dict[str, Any] = {who: {"median": medians[who], "rounds": taken} for who, taken in samples.items()}
    found["cpu_ratio"] = round(medians["only1mcp"]["cpu_us"] / medians["nginx"]["cpu_us"], 3)
    return found


async def prepare(url: str, revision: str, octets: int) -> str:
    """Check that the calls are answered right at `url`, and return them in the form that the load generator reads."""
    params: dict[str, Any] = {"name": TOOL, "arguments": {"text": ARGUMENT}}
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    headers["mcp-protocol-version"] = revision
    client = WireClient(url, revision)
    # Opened and left open: ending a session would end it for the load too.
    await client.__aenter__()
    if revision == STATELESS:
        params["_meta"] = {f"{META}protocolVersion": revision, f"{META}clientCapabilities": {}}
        headers |= {"mcp-method": "tools/call", "mcp-name": TOOL}
    elif client.session is not None:
        headers["mcp-session-id"] = client.session
    calls = [{"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params} for id in range(1, DISTINCT_CALLS)]
    for call in calls[:200]:
        answer = await client.send(call, headers)
        assert answer.status == 200, answer
        assert answer.response["id"] == call["id"], answer
        assert answer.response["result"]["content"] == [{"type": "text", "text": "x" * octets}], answer
    await client.aclose()
    lines = [f"{name}: {value}" for name, value in headers.items()]
    bodies = [json.dumps(call, separators=(",", ":")) for call in calls]
    return "\n".join([*lines, "", *bodies]) + "\n"


def uses_wrk(options: argparse.Namespace) -> bool:
    return stage.WRK is not None and not options.own_load


def sample(counted: dict[str, Any], cpu_s: float) -> dict[str, float]:
    return {
        "requests": counted["requests"],
        "requests_per_s": round(counted["requests"] / counted["seconds"], 1),
        "cpu_us": round(cpu_s * 1e6 / counted["requests"], 3),
        "p50_us": counted["p50_us"],
        "p99_us": counted["p99_us"],
    }


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(taken[key] for taken in rounds) for key in rounds[0] if key != "requests"}


def circumstances(options: argparse.Namespace, cpus: int) -> dict[str, Any]:
    def version(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        first = (done.stdout + done.stderr).strip().splitlines()[0]
        found = re.search(r"\d+(\.\d+)+", first)
        return f"{Path(command[0]).name} {found.group() if found else first}"

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "command": " ".join(["python -m benches.loopback", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "settings": {key: getattr(options, key) for key in ("rounds", "seconds", "connections", "octets")},
        "versions": {
            "only1mcp": version(str(Path(sys.executable).with_name("only1mcp")), "--version"),
            "python": platform.python_version(),
            "nginx": version(str(stage.NGINX), "-v"),
            "load": version(str(stage.WRK), "-v") if uses_wrk(options) else "benches/loopback/load.py",
        },
        "machine": {
            "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
            "cpus": cpus,
            "kernel": platform.release(),
        },
    }


if __name__ == "__main__":
    main()
