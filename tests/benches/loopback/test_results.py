"""Rows say truly whether a goal is met, and a run of some rows leaves the others as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benches.loopback import results
from benches.loopback.cases import LARGE, SMALL
from benches.loopback.rounds import Effort
from tests.benches.loopback.reports import report, row, subject


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    # The second round was slow for both: it says as much of the ratio as the others.
    found = row("call-stateless", {"nginx": subject(20, 40, 20), "only1mcp": subject(22, 44, 30)})
    assert found["measured"] == 1.1
    assert found["spread"] == [1.1, 1.3]
    assert found["is_met"] is True
    assert found["off_percent"] == -12.0
    assert found["subjects"]["only1mcp"]["rounds"][2]["cpu_us"] == 30
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("ours", "is_met", "off_percent"), [(79, False, -1.2), (80, True, 0), (200, True, 150)])
def test_a_throughput_must_be_at_least_its_goal(ours: float, is_met: bool, off_percent: float) -> None:
    subjects = {name: subject(value, metric="answers_per_s") for name, value in (("nginx", 100), ("only1mcp", ours))}
    found = row("large", subjects)
    assert (found["measured"], found["is_met"], found["off_percent"]) == (ours / 100, is_met, off_percent)


def test_added_latency_is_what_is_more_than_without_a_proxy() -> None:
    values = {"direct": (50, 60), "nginx": (150, 140), "only1mcp": (170, 300)}
    found = row("latency-1", {name: subject(*each, metric="p99_us") for name, each in values.items()})
    assert found["measured"] == 2.1  # of (170 - 50) / (150 - 50) and (300 - 60) / (140 - 60)
    assert found["is_met"] is False


def test_an_addition_that_cannot_be_measured_is_no_number() -> None:
    values = {"direct": 50, "nginx": 50, "only1mcp": 60}
    found = row("latency-1", {name: subject(value, metric="p99_us") for name, value in values.items()})
    assert found["measured"] is None
    assert found["why"] == "nginx added nothing that could be measured"


def test_rounds_that_add_nothing_are_left_out_while_they_are_few() -> None:
    values = {"direct": (50, 50, 50), "nginx": (60, 50, 70), "only1mcp": (70, 50, 70)}
    found = row("latency-1", {name: subject(*each, metric="p99_us") for name, each in values.items()})
    assert (found["measured"], found["spread"]) == (1.5, [1.25, 1.75])


def test_a_value_is_held_to_its_goal_by_itself() -> None:
    found = row("memory-idle", {"only1mcp": subject(46, metric="idle_mb")})
    assert (found["measured"], found["is_met"], found["against"]) == (46, False, None)


def test_ours_is_compared_with_ours() -> None:
    found = row("scale", {SMALL: subject(20, 20), LARGE: subject(20, 21)})
    assert (found["measured"], found["is_met"]) == (1.025, True)


def test_without_nginx_a_row_says_why_it_has_no_number() -> None:
    found = row("call-stateless", {"only1mcp": subject(20)}, {"nginx": "not installed", "haproxy": "not installed"})
    assert (found["measured"], found["is_met"]) == (None, None)
    assert found["why"] == "nginx is not installed"
    assert "only1mcp" in found["subjects"]


def test_a_part_of_the_rows_replaces_only_itself() -> None:
    both = {"nginx": subject(10), "only1mcp": subject(20)}
    old = report(stdio=row("stdio", both), call_stateless=row("call-stateless", both))
    fresh = row("stdio", {"nginx": subject(10), "only1mcp": subject(10)}, date="2026-02-01")
    merged = results.merge(old, {"stdio": fresh})
    assert list(merged["rows"]) == ["call-stateless", "stdio"]
    assert merged["rows"]["stdio"]["taken"]["date"] == "2026-02-01"
    assert merged["rows"]["call-stateless"] == old["rows"]["call-stateless"]


def test_a_report_of_another_format_is_not_kept() -> None:
    assert results.merge({"cases": {}}, {}) == {"format": results.FORMAT, "rows": {}}


def test_a_report_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert results.read(tmp_path / "none.json") is None


def test_circumstances_name_commit_versions_and_machine() -> None:
    taken = results.circumstances(Effort(rounds=5, seconds=2, connections=1), octets=256, connections=32)
    assert taken["settings"] == {"rounds": 5, "seconds": 2, "connections": 32, "octets": 256}
    assert taken["versions"]["only1mcp"].startswith("only1mcp ")
    assert taken["machine"]["cpus"] >= 1
    assert taken["machine"]["cpu"]
