"""The table shows who was measured, cheapest first, and why the others were not."""

from __future__ import annotations

from typing import Any

from benches.peers.table import render


def row(name: str, backend: str, cpu_us: float | None, *, ours: bool = False, reason: str = "") -> dict[str, Any]:
    median = None
    if cpu_us is not None:
        median = {"cpu_us": cpu_us, "requests_per_s": 1e6 / cpu_us, "p50_us": 1500, "p99_us": 12_345}
    return {
        "name": name,
        "version": "1.2",
        "registry": "" if ours else "npm",
        "backend": backend,
        "ours": ours,
        "connections": 32,
        "reason": reason,
        "median": median,
    }


def report(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": list(rows),
        "command": "c",
        "date": "d",
        "settings": {"rounds": 3, "seconds": 2.0, "connections": 32, "octets": 256},
        "machine": {"cpu": "x", "cpus": 2, "kernel": "k", "python": "3", "node": "v20"},
    }


def test_each_is_compared_with_ours_before_the_same_backend() -> None:
    shown = render(
        report(
            row("Only1MCP", "stdio", 50.0, ours=True),
            row("slow", "http", 4000.0),
            row("Only1MCP", "http", 40.0, ours=True),
            row("other", "stdio", 500.0),
        )
    )
    lines = shown.splitlines()[2:6]
    assert lines[0] == "| Only1MCP 1.2 | http | 40 | 1 | 25,000 | 1.50 | 12.35 | 32 |"
    assert lines[1] == "| slow 1.2 (npm) | http | 4,000 | 100.0 | 250 | 1.50 | 12.35 | 32 |"
    assert lines[2].startswith("| Only1MCP 1.2 | stdio | 50 | 1 |")
    assert lines[3].startswith("| other 1.2 (npm) | stdio | 500 | 10.0 |")


def test_what_was_not_measured_says_why() -> None:
    shown = render(
        report(
            row("Only1MCP", "http", 40.0, ours=True),
            row("gone", "http", None, reason="cannot be installed: no matching\n distribution | at all"),
        )
    )
    last = shown.splitlines()[3]
    assert last.startswith("| gone 1.2 (npm) | http | not measured: cannot be installed: no matching distribution / at")
    assert last.count("|") == 9
