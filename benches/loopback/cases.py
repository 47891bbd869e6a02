"""The rows of the benchmark: what each one does, what is compared with what, and the goal it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OURS = "only1mcp"
SMALL, LARGE = "1 backend, 10 tools", "100 backends, 10,000 tools"
NGINX_SMALL, NGINX_LARGE = "nginx, 1 upstream", "nginx, 100 upstreams"
GOOD = "served"
# What the product is compared with where it is installed; `floor` is benches/loopback/floor.py, `direct` no proxy.
PROXIES = ("nginx", "haproxy", "floor", OURS)


@dataclass(frozen=True, slots=True)
class Case:
    """One row: `scenario` is what is run, `measured` the number that is held to `goal`.

    `kind` says what that number is. For `ratio` it is `metric` of `subject` divided by that of `against`; for `added`
    the same after taking off what `direct` needs without any proxy; for `value` it is `metric` of `subject` itself, in
    `unit`.
    """

    key: str
    title: str
    scenario: str
    goal: float | None
    metric: str = "cpu_us"
    kind: Literal["ratio", "added", "value"] = "ratio"
    sense: Literal["at most", "at least"] = "at most"
    unit: str = ""
    subject: str = OURS
    against: str = "nginx"
    subjects: tuple[str, ...] = PROXIES
    connections: int | None = None
    quick: bool = False


WITHOUT_FLOOR = ("nginx", "haproxy", OURS)
LATENCY = ("direct", *PROXIES)

_ROWS = (
    Case("call-stateless", "`tools/call`, stateless era (2026-07-28)", "call-stateless", 1.25, quick=True),
    Case("call-handshake", "`tools/call`, handshake era (2025-11-25)", "call-handshake", 1.25, quick=True),
    Case(
        "full",
        "the same with JWT, rate limit, renaming, access log",
        "full",
        1.5,
        subjects=WITHOUT_FLOOR,
        quick=True,
    ),
    Case("cached", "`tools/list` of 10 tools, from memory", "cached", 0.6, subjects=WITHOUT_FLOOR, quick=True),
    Case("stdio", "`tools/call` to a stdio backend", "stdio", 2.0, subjects=WITHOUT_FLOOR, quick=True),
    Case("large", "result of 1 MB", "large", 0.8, metric="answers_per_s", sense="at least"),
    Case("events", "SSE stream of 1,000 events", "events", 0.8, metric="answers_per_s", sense="at least"),
    Case(
        "scale",
        "100 backends with 10,000 tools instead of 1 with 10",
        "scale",
        1.05,
        subject=LARGE,
        against=SMALL,
        subjects=(SMALL, LARGE),
        quick=True,
    ),
    Case(
        "scale-nginx",
        "nginx, with the same calls: 100 upstreams instead of 1",
        "scale",
        None,
        subject=NGINX_LARGE,
        against=NGINX_SMALL,
        subjects=(NGINX_SMALL, NGINX_LARGE),
    ),
    *(
        Case(
            f"refused-{word}",
            f"refused: {title}, against a served call",
            "refused",
            1.0,
            subject=title,
            against=GOOD,
            subjects=(GOOD, title),
        )
        for word, title in {
            "json": "bad JSON",
            "origin": "bad origin",
            "token": "no credentials",
            "rate": "over the rate limit",
        }.items()
    ),
    Case(
        "latency-1",
        "added p99 at 1 connection",
        "latency-1",
        1.5,
        metric="p99_us",
        kind="added",
        subjects=LATENCY,
        connections=1,
    ),
    *(
        Case(
            f"latency-{connections}",
            f"added p99 at {connections} connections",
            f"latency-{connections}",
            None,
            metric="p99_us",
            kind="added",
            subjects=LATENCY,
            connections=connections,
        )
        for connections in (32, 256)
    ),
    Case("memory-idle", "memory when idle", "memory", 45, "idle_mb", "value", unit="MB", subjects=WITHOUT_FLOOR),
    Case(
        "memory-1000",
        "memory with 1,000 idle connections",
        "memory",
        None,
        "with_1000_mb",
        "value",
        unit="MB",
        subjects=WITHOUT_FLOOR,
    ),
    Case(
        "memory-10000",
        "memory with 10,000 idle connections",
        "memory",
        None,
        "most_mb",
        "value",
        unit="MB",
        subjects=WITHOUT_FLOOR,
    ),
    Case(
        "memory-connection",
        "memory of an idle keep-alive connection",
        "memory",
        8,
        "connection_kb",
        "value",
        unit="KB",
        subjects=WITHOUT_FLOOR,
    ),
    Case("start-version", "`only1mcp --version`", "start", 100, "version_ms", "value", unit="ms", subjects=(OURS,)),
    Case("start-call", "start to first answered call", "start", 500, "call_ms", "value", unit="ms", subjects=(OURS,)),
)
CASES = {case.key: case for case in _ROWS}
REFUSED = {case.key: case.subject for case in _ROWS if case.scenario == "refused"}


def is_met(case_goal: float, sense: str, measured: float) -> bool:
    return measured <= case_goal if sense == "at most" else measured >= case_goal


def percent_off(case_goal: float, measured: float) -> float:
    """Return how far the measured number is from the goal, in percent of the goal; negative below it."""
    return round((measured / case_goal - 1) * 100, 1)
