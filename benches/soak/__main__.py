"""A long run at half the maximum rate, whose lines of memory, latency and CPU must stay flat.

The maximum is what the load generator, the proxy and the backend reach together on this machine. After a warm-up that
does not count, memory and CPU of the proxy and the latencies are sampled; `benches.soak.trend` says how their slopes
are found. Not flat is (each by the lower end of the 95 % interval of its slope)

- resident memory that grows by more than 6 MiB an hour and more than 1 MiB in the run,
- a median latency or CPU time of a request that grows by more than 30 % an hour and more than 5 % in the run,

or any request without its right answer, requests that were due and never sent, or descriptors that pile up. Exits
1 when it is not flat.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benches.loopback.stage import pin
from benches.soak.trend import Rule, trend
from tests.e2e.gateway import wait_for_tools
from tests.e2e.processes import Proxy
from tests.scale.stage import Site, cpu_seconds, resident_bytes

RESULTS = Path(__file__).parents[1] / "results" / "soak.json"
BACKENDS, TOOLS = 3, 10
WARM_UP_SHARE, WARM_UP_MOST_S = 0.2, 60.0
MEASURE_S = 5.0
# More than connections that come and go at that moment.
DESCRIPTORS = 100
RULES = {
    "resident_bytes": Rule(6 << 20, 1 << 20, relative=False),
    "p50_us": Rule(0.30, 0.05, relative=True),
    "cpu_us": Rule(0.30, 0.05, relative=True),
}
SHOWN = {
    "resident_bytes": ("memory", "MiB", 1 << 20),
    "p50_us": ("median latency", "us", 1),
    "p99_us": ("99th percentile", "us", 1),
    "cpu_us": ("CPU a request", "us", 1),
}

Sample = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benches.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--rate", type=float, help="requests a second, instead of half the maximum")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--interval", type=float, help="seconds between samples (1, in short runs less)")
    parser.add_argument("--program", type=shlex.split, help="what to start instead of the installed command")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file to write")
    options = parser.parse_args()
    # What has been started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options.interval = options.interval or min(1.0, options.seconds / 40)
    report = run(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(render(report))
    print(f"written: {os.path.relpath(options.output)}")
    sys.exit(0 if report["flat"] else 1)


def run(options: argparse.Namespace) -> dict[str, Any]:
    cpus = sorted(os.sched_getaffinity(0))
    for_proxy, for_rest = ({cpus[0]}, set(cpus[1:])) if len(cpus) > 1 else (set(cpus), set(cpus))
    with tempfile.TemporaryDirectory(prefix="only1mcp-soak-") as name:
        directory = Path(name)
        with (
            Site(directory, BACKENDS, TOOLS).serving() as site,
            Proxy(directory, site.entries(), program=options.program) as proxy,
        ):
            wait_for_tools(proxy, f"b{BACKENDS - 1}_tool_{TOOLS - 1}")
            pin(site.pid, for_rest)
            pin(proxy.pid, for_proxy)
            rate, maximum = options.rate, None
            if rate is None:
                measure_s = min(MEASURE_S, options.seconds / 4)
                found = list(load(proxy, 0.0, options.connections, measure_s, measure_s, for_rest))
                maximum = sum(each["requests"] for each in found) / sum(each["seconds"] for each in found)
                rate = maximum / 2
            samples = list(sampled(proxy, rate, options, for_rest))
    return judged(samples, rate, maximum, options, len(cpus))


def sampled(proxy: Proxy, rate: float, options: argparse.Namespace, cpus: set[int]) -> Iterator[Sample]:
    """Put the load on the proxy and yield what the generator reports, together with what the proxy has used."""
    used_s = cpu_seconds(proxy.pid)
    is_terminal = sys.stderr.isatty()
    for sample in load(proxy, rate, options.connections, options.seconds, options.interval, cpus):
        now_s = cpu_seconds(proxy.pid)
        sample["cpu_us"] = (now_s - used_s) * 1e6 / max(1, sample["requests"])
        sample["resident_bytes"] = resident_bytes(proxy.pid)
        sample["descriptors"] = len(os.listdir(f"/proc/{proxy.pid}/fd"))
        used_s = now_s
        if is_terminal:
            done = f"{sample['at_s']:.0f} of {options.seconds:.0f} s, {sample['resident_bytes'] / 2**20:.1f} MiB"
            print(f"\r{done}, median {sample['p50_us']:.0f} us  ", end="", file=sys.stderr)
        yield sample
    if is_terminal:
        print(file=sys.stderr)


@contextmanager
def generator(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def load(
    proxy: Proxy, rate: float, connections: int, seconds: float, interval_s: float, cpus: set[int]
) -> Iterator[Sample]:
    numbers = [str(number) for number in (rate, connections, seconds, interval_s)]
    with generator([sys.executable, "-m", "benches.soak.paced", proxy.url, *numbers]) as process:
        os.sched_setaffinity(process.pid, cpus)
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}\n{proxy.output[-2000:]}")


def judged(
    samples: list[Sample], rate: float, maximum: float | None, options: argparse.Namespace, cpus: int
) -> dict[str, Any]:
    warm_up_s = min(WARM_UP_SHARE * options.seconds, WARM_UP_MOST_S)
    # The last sample is the rest of an interval.
    counted = [sample for sample in samples[:-1] if sample["at_s"] >= warm_up_s]
    times_s = [sample["at_s"] for sample in counted]
    trends = {name: trend(times_s, [sample[name] for sample in counted]) for name in SHOWN}
    reasons = [SHOWN[name][0] for name, rule in RULES.items() if not rule.is_flat(trends[name])]
    failed = sum(int(sample["failed"]) for sample in samples)
    if failed:
        reasons.append(f"{failed} requests failed")
    unsent = int(samples[-1]["unsent"])
    if unsent > options.connections:
        reasons.append(f"{unsent} requests were due and never sent: proxy or machine could not keep up with the rate")
    if counted[-1]["descriptors"] > counted[0]["descriptors"] + DESCRIPTORS:
        reasons.append("descriptors")
    return {
        "command": " ".join(["python -m benches.soak", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "settings": {"seconds": options.seconds, "connections": options.connections, "interval_s": options.interval},
        "machine": {"cpus": cpus, "kernel": platform.release(), "python": platform.python_version()},
        "maximum_per_s": maximum,
        "rate_per_s": rate,
        "requests": sum(int(sample["requests"]) for sample in samples),
        "failed": failed,
        "unsent": unsent,
        "trends": {name: {**asdict(found), "judged": name in RULES} for name, found in trends.items()},
        "flat": not reasons,
        "reasons": reasons,
        "samples": [{name: round(value, 3) for name, value in sample.items()} for sample in samples],
    }


def render(report: dict[str, Any]) -> str:
    maximum = report["maximum_per_s"]
    of = "" if maximum is None else f", of {maximum:,.0f} at most"
    first = f"{report['settings']['seconds']:g} s at {report['rate_per_s']:,.0f} requests/s{of}; "
    lines = [first + f"{report['requests']:,} answered, {report['failed']} failed"]
    for name, (title, unit, size) in SHOWN.items():
        found = report["trends"][name]
        typical, slope, low, high = (found[key] / size for key in ("typical", "slope", "low", "high"))
        lines.append(f"{title:>16} {typical:9.1f} {unit:3}  {slope:+10.2f} an hour  (95 %: {low:+.2f} to {high:+.2f})")
    lines.append("flat" if report["flat"] else f"not flat: {', '.join(report['reasons'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
