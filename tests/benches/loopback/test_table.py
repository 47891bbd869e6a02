"""The tables say what the report says: numbers, goals, misses, and from which run each row is."""

from __future__ import annotations

import pytest
from benches.loopback.cases import GOOD
from benches.loopback.results import Row
from benches.loopback.table import render, verdict
from tests.benches.loopback.reports import report, row, subject


def lines_with(text: str, part: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


def test_a_cost_row_shows_every_proxy_its_goal_and_the_miss() -> None:
    subjects = {"nginx": subject(20.0), "haproxy": subject(22.0), "floor": subject(10.0), "only1mcp": subject(30.0)}
    text = render(report(call_stateless=row("call-stateless", subjects)))
    (heads,) = lines_with(text, "| work |")
    assert heads == "| work | nginx | haproxy | floor | only1mcp | against floor | against nginx | goal |  |"
    (line,) = lines_with(text, "stateless era")
    assert line.endswith(
        "| 20.0 µs | 22.0 µs | 10.0 µs | 30.0 µs | 3.00 | 1.50 (1.50–1.50) | ≤ 1.25 | missed by 20 % |"
    )


def test_what_is_not_installed_says_so() -> None:
    subjects = {"nginx": subject(20.0), "only1mcp": subject(20.0)}
    (line,) = lines_with(render(report(stdio=row("stdio", subjects, {"haproxy": "not installed"}))), "stdio")
    assert (
        line == "| `tools/call` to a stdio backend | 20.0 µs | not installed | 20.0 µs | 1.00 (1.00–1.00) | ≤ 2 | met |"
    )


def test_a_row_without_nginx_says_why_it_has_no_ratio() -> None:
    text = render(report(stdio=row("stdio", {"only1mcp": subject(20.0)}, {"nginx": "not installed"})))
    (line,) = lines_with(text, "stdio")
    assert line.endswith("| not installed | 20.0 µs | – | ≤ 2 | not measured: nginx is not installed |")


def test_latencies_come_with_the_word_of_warning() -> None:
    subjects = {name: subject(value, metric="p99_us") for name, value in (("direct", 50), ("nginx", 150))}
    subjects["only1mcp"] = subject(250, metric="p99_us")
    text = render(report(latency_1=row("latency-1", subjects, connections=1)))
    (line,) = lines_with(text, "| 1 |")
    assert line.startswith("| 1 | 1.00 / 0.05 / 1.00 | 1.00 / 0.15 / 1.00 | 1.00 / 0.25 / 1.00 | 2.00 ")
    assert "closed loop" in text


def test_throughput_comes_with_the_cpu_time_it_took() -> None:
    subjects = {"nginx": subject(500, metric="answers_per_s"), "only1mcp": subject(450, metric="answers_per_s")}
    (line,) = lines_with(render(report(large=row("large", subjects))), "1 MB")
    assert line.endswith("| 500/s (1.0 ms) | 450/s (1.0 ms) | 0.90 (0.90–0.90) | ≥ 0.8 | met |")


def test_refusals_and_processes_have_tables_of_their_own() -> None:
    text = render(
        report(
            refused_json=row("refused-json", {GOOD: subject(20.0), "bad JSON": subject(5.0)}),
            memory_idle=row("memory-idle", {"only1mcp": subject(50.0, metric="idle_mb")}),
        )
    )
    (refused,) = lines_with(text, "bad JSON")
    assert refused.endswith("| 20.0 µs | 5.0 µs | 0.25 (0.25–0.25) | ≤ 1 | met |")
    (memory,) = lines_with(text, "when idle")
    assert memory == "| memory when idle | 50.0 MB | ≤ 45 MB | missed by 11 % |"


def test_a_row_with_fewer_connections_than_its_title_says_how_many() -> None:
    found = subject(70.0, metric="most_mb")
    found["median"]["connections"] = 9000.0
    (line,) = lines_with(render(report(memory_10000=row("memory-10000", {"only1mcp": found}))), "10,000 idle")
    assert "| 70.0 MB (with 9,000) |" in line


def test_one_run_is_described_once() -> None:
    both = {"nginx": subject(20.0), "only1mcp": subject(20.0)}
    text = render(report(stdio=row("stdio", both), full=row("full", both)))
    (circumstances,) = lines_with(text, "Medians of 3 interleaved rounds of 2 s")
    assert "only1mcp 1.0 at 0123456789ab, Python 3.11.7, nginx 1.2, wrk 4.1; 2026-01-31" in circumstances
    assert "None" not in circumstances
    assert "[1]" not in text


def test_rows_of_several_runs_say_which_is_theirs() -> None:
    both = {"nginx": subject(20.0), "only1mcp": subject(20.0)}
    text = render(report(full=row("full", both, commit="fedcba987654"), stdio=row("stdio", both)))
    assert lines_with(text, "| the same with JWT, rate limit, renaming, access log [1] |")
    assert lines_with(text, "| `tools/call` to a stdio backend [2] |")
    assert lines_with(text, "[1] Medians")[0].count("fedcba987654") == 1
    assert lines_with(text, "[2] Medians")[0].count("0123456789ab") == 1


def test_connections_alone_make_no_run_of_their_own() -> None:
    both = {"nginx": subject(20.0), "only1mcp": subject(20.0)}
    assert "[1]" not in render(report(full=row("full", both), stdio=row("stdio", both, connections=1)))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (row("full", {"nginx": subject(20.0), "only1mcp": subject(30.0)}), "met"),
        (row("full", {"nginx": subject(20.0), "only1mcp": subject(45.0)}), "missed by 50 %"),
        (row("memory-1000", {"only1mcp": subject(50.0, metric="with_1000_mb")}), ""),
    ],
)
def test_verdicts(found: Row, expected: str) -> None:
    assert verdict(found) == expected
