"""The document of a run: its sums, its gates and its warnings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.loadgen.runs import made_up

from only1mcp.loadgen.failure import HTTP, KINDS, RPC_ERROR, TIMEOUT, Failure
from only1mcp.loadgen.figures import Gates, figures

SLOW = Failure(TIMEOUT, "", "too slow")


def test_the_sums_agree() -> None:
    failures = [SLOW, Failure(HTTP, "500", "x"), Failure(HTTP, "503", "y"), Failure(HTTP, "503", "z")]
    document = figures(made_up([0.001, 0.002, 0.003], failures), Gates(max_errors=4))
    assert document["requests"] == {"sent": 7, "good": 3, "failed": 4, "unsent": 0, "abandoned": 0}
    assert document["failures"]["by_kind"] == {kind: {TIMEOUT: 1, HTTP: 3}.get(kind, 0) for kind in KINDS}
    assert document["failures"]["details"][0] == {"kind": HTTP, "what": "503", "count": 2, "example": "y"}
    assert sum(each["count"] for each in document["failures"]["details"]) == document["failures"]["total"] == 4
    assert sum(each["good"] for each in document["intervals"]) == sum(b["count"] for b in document["histogram"]) == 3
    assert document["answers_per_second"] == 0.3
    assert document["client"]["cpu_share"] == 0.1
    # Failures took half a second: the good ones know nothing of it.
    assert document["latency_ms"]["max"] == 3.0
    assert document["failures"]["latency_ms"]["min"] == 500.0
    assert document["ok"]
    assert json.loads(json.dumps(document)) == document


def test_nothing_at_all() -> None:
    document = figures(made_up(window_s=0.0), Gates())
    assert document["latency_ms"] is None
    assert document["answers_per_second"] == document["client"]["cpu_share"] == 0
    assert not document["ok"]
    assert figures(made_up(), Gates(100, errors_percent=True))["ok"]


@pytest.mark.parametrize(
    ("gates", "ok"),
    [
        (Gates(), False),
        (Gates(1), False),
        (Gates(2), True),
        (Gates(19.9, errors_percent=True), False),
        (Gates(20, errors_percent=True), True),
        (Gates(2, expect_p99_ms=10.1), True),
        (Gates(2, expect_p99_ms=9.9), False),
        (Gates(2, expect_rate=0.8), True),
        (Gates(2, expect_rate=0.81), False),
    ],
)
def test_gates(gates: Gates, ok: bool) -> None:
    document = figures(made_up([0.01] * 8, [SLOW] * 2), gates)
    assert document["ok"] is ok
    assert all(gate["ok"] for gate in document["gates"]) is ok


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu_s": 9.5}, "used 95% of a core"),
        ({"unsent": 5}, "5 requests were due and never sent"),
        ({"abandoned": 3}, "3 requests had no answer yet"),
        ({"reconnections": 50}, "50 connections had to be opened anew"),
        ({"failures": [Failure(RPC_ERROR, "-31003", "slow down")]}, "rate limit refused 1 requests"),
        ({"failures": [Failure(HTTP, "429", "slow down")]}, "rate limit refused 1 requests"),
    ],
)
def test_warnings(changes: dict[str, Any], words: str) -> None:
    (warning,) = figures(made_up([0.01] * 8, **changes), Gates())["warnings"]
    assert words in warning


def test_late_sends_are_warned_of() -> None:
    run = made_up([0.01] * 8, plan={"rate": 10.0})
    for late_s in [0.0001] * 97 + [0.02] * 3:
        run.recorder.lateness.record(late_s)
    document = figures(run, Gates())
    assert "left at least 20.0 ms late" in document["warnings"][0]
    assert document["client"]["late_ms"]["p50"] < 1


def test_no_reason_to_warn() -> None:
    assert figures(made_up([0.01] * 8), Gates())["warnings"] == []
