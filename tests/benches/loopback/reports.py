"""Small reports for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from benches.loopback import results
from benches.loopback.cases import CASES
from benches.loopback.rounds import summarize

TAKEN: dict[str, Any] = {
    "command": "python -m benches.loopback",
    "date": "2026-01-31",
    "commit": "0123456789ab",
    "settings": {"rounds": 3, "seconds": 2, "connections": 32, "octets": 256},
    "versions": {
        "only1mcp": "only1mcp 1.0",
        "python": "3.11.7",
        "nginx": "nginx 1.2",
        "haproxy": None,
        "load": "wrk 4.1",
    },
    "machine": {"cpu": "a CPU", "cpus": 2, "kernel": "6.1"},
    "connections": 32,
}


def subject(*values: float, metric: str = "cpu_us") -> dict[str, Any]:
    """Return what rounds with these values make; each other number is 1000."""
    every = dict.fromkeys(("requests_per_s", "answers_per_s", "cpu_us", "p50_us", "p99_us", "p999_us"), 1000.0)
    return summarize([{"requests": 1000, **every, metric: value} for value in values])


def row(key: str, subjects: dict[str, Any], absent: dict[str, str] | None = None, **taken: Any) -> results.Row:
    return results.build_row(CASES[key], subjects, absent or {}, {**TAKEN, **taken})


def report(**rows: results.Row) -> dict[str, Any]:
    return results.merge(None, {key.replace("_", "-"): each for key, each in rows.items()})
