"""Puts load on the subjects of a row in turn, round after round, so that all of them meet the same weather."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benches.loopback import stage
from benches.loopback.calls import SAMPLED_BODIES, Plan

HERE = Path(__file__).parent
WRK = shutil.which("wrk")
LOAD_TIMEOUT_S = 120.0
WARM_UP_S = 1
# Answers differ by the digits of their ids; heads and chunk lengths come on top of the bodies.
LEAST_SHARE, MOST_SHARE, HEAD_OCTETS = 0.97, 1.3, 2000
Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Subject:
    """One of what a row compares: where it listens, whose CPU time counts, what it is asked.

    `requests` is the file for the load generator, `octets` the length of an answer's body.
    """

    name: str
    pid: int
    url: str
    plan: Plan
    requests: Path
    octets: int


@dataclass(frozen=True, slots=True)
class Effort:
    """How much load: `rounds` of `seconds` for each subject, from so many `connections`."""

    rounds: int
    seconds: int
    connections: int
    own_load: bool = False

    @property
    def uses_wrk(self) -> bool:
        return WRK is not None and not self.own_load


def interleave(subjects: list[Subject], effort: Effort, cpus: set[int], label: str) -> dict[str, list[Sample]]:
    """Return the samples of each subject; a wrong answer under load ends the run. The first round only warms up."""
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    for number in range(effort.rounds + 1):
        first = number % len(subjects)
        for subject in [*subjects[first:], *subjects[:first]]:
            before = stage.cpu_seconds(subject.pid)
            counted = put_load(subject, effort, effort.seconds if number else WARM_UP_S, cpus)
            used = stage.cpu_seconds(subject.pid) - before
            check(subject, counted, effort.connections)
            if number:
                samples[subject.name].append(_sample(subject, counted, used))
        print(f"{label}: round {number} of {effort.rounds}", file=sys.stderr)
    return samples


def put_load(subject: Subject, effort: Effort, seconds: int, cpus: set[int]) -> dict[str, Any]:
    """Put load on a subject and return what the generator counted."""
    plan = subject.plan
    every = 0 if plan.is_large else SAMPLED_BODIES
    expected = [str(subject.requests), str(plan.status), str(every), plan.fragment]
    if effort.uses_wrk:
        command = [str(WRK), "-t1", f"-c{effort.connections}", f"-d{seconds}s", "--timeout", "20s"]
        return _counted([*command, "-s", str(HERE / "load.lua"), subject.url, "--", *expected], cpus)
    parts = urlsplit(subject.url)
    command = [sys.executable, "-m", "benches.loopback.load", str(parts.hostname), str(parts.port)]
    return _counted([*command, str(effort.connections), str(seconds), *expected], cpus)


def check(subject: Subject, counted: dict[str, Any], connections: int) -> None:
    """Fail when answers were wrong, or when their lengths together are not those of right ones."""
    requests = counted["requests"]
    if counted["failed"] or not requests:
        raise SystemExit(f"{subject.name}: {counted['failed']} of {requests} answers were wrong")
    least = requests * subject.octets * LEAST_SHARE
    most = (requests + connections) * (subject.octets * MOST_SHARE + HEAD_OCTETS)
    if not least <= counted["octets"] <= most:
        raise SystemExit(f"{subject.name}: {counted['octets']} octets in {requests} answers of {subject.octets}")


def summarize(samples: list[Sample]) -> dict[str, Any]:
    """Return the medians and quartiles of some samples, and the samples themselves."""
    keys = [key for key in samples[0] if key != "requests"]
    columns = {key: [sample[key] for sample in samples] for key in keys}
    return {
        "median": {key: round(statistics.median(values), 3) for key, values in columns.items()},
        "iqr": {key: quartiles(values) for key, values in columns.items()},
        "rounds": samples,
    }


def quartiles(values: list[float]) -> list[float]:
    """Return the first and the third quartile."""
    if len(values) < 2:
        return [round(values[0], 3)] * 2
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [round(first, 3), round(third, 3)]


def _sample(subject: Subject, counted: dict[str, Any], cpu_s: float) -> Sample:
    """Return the numbers of one round; `answers_per_s` counts the parts of answers that had arrived at its end."""
    requests = counted["requests"]
    return {
        "requests": requests,
        "requests_per_s": round(requests / counted["seconds"], 1),
        "answers_per_s": round(counted["octets"] / counted["seconds"] / subject.octets, 3),
        "cpu_us": round(cpu_s * 1e6 / requests, 3),
        "p50_us": counted["p50_us"],
        "p99_us": counted["p99_us"],
        "p999_us": counted["p999_us"],
    }


def _counted(command: list[str], cpus: set[int]) -> dict[str, Any]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        os.sched_setaffinity(process.pid, cpus)
        try:
            output, _ = process.communicate(timeout=LOAD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    found = re.search(r"^\{.*\}$", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the load generator failed: {output[-2000:]}")
    report: dict[str, Any] = json.loads(found.group())
    return report
