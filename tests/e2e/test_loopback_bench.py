"""The loopback benchmark: every scenario starts and gives right answers, and a short run writes rows and tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benches.loopback import processes, scenarios
from benches.loopback.calls import plan_calls
from benches.loopback.cases import CASES, OURS, REFUSED
from benches.loopback.rounds import WRK
from benches.loopback.stage import HAPROXY, NGINX, Stage, cpu_seconds
from benches.loopback.table import render
from tests.e2e.processes import descendants
from tests.e2e.third_party import ROOT

PROGRAMS = {"nginx": NGINX, "haproxy": HAPROXY}
LOADS = [name for name in scenarios.LOADS if not name.startswith("latency")]


@pytest.mark.parametrize("scenario", LOADS)
def test_every_scenario_gives_right_answers(scenario: str, tmp_path: Path) -> None:
    wanted = tuple(
        dict.fromkeys(name for case in CASES.values() if case.scenario == scenario for name in case.subjects)
    )
    with Stage(tmp_path, wanted) as stage:
        subjects = {subject.name: subject for subject in scenarios.LOADS[scenario](stage)}
        absent = {name for name in wanted if name in PROGRAMS and PROGRAMS[name] is None}
        assert set(subjects) == set(wanted) - absent
        assert set(stage.absent) == absent
        # Starting alone has cost it something.
        assert all(cpu_seconds(subject.pid) > 0 for subject in subjects.values() if subject.name == OURS)


def test_the_time_of_a_stdio_backend_does_not_count(tmp_path: Path) -> None:
    with Stage(tmp_path, (OURS,)) as stage:
        pid, _ = stage.ours([scenarios.stdio_server("stateless")])
        (child,) = [each for each, command in descendants(pid).items() if "stdio_backend" in command]
        everything = sum(cpu_seconds(each) for each in (pid, child))
        assert cpu_seconds(child) > 0
        assert cpu_seconds(pid) < everything


def test_memory_and_start_are_measured() -> None:
    memory, absent = processes.measure_memory((OURS,), 1)
    found = memory[OURS]["median"]
    assert absent == {}
    assert 0 < found["idle_mb"] < found["with_1000_mb"] < found["most_mb"]
    assert found["connections"] > 1000
    start = processes.measure_start(1)[OURS]["median"]
    assert 0 < start["version_ms"] < start["call_ms"]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("has_wrk", [True, False], ids=["wrk", "own load"])
def test_a_short_run(tmp_path: Path, has_wrk: bool) -> None:
    if has_wrk and WRK is None:
        pytest.skip("wrk is not installed")
    output = tmp_path / "loopback.json"
    command = [sys.executable, "-m", "benches.loopback", "--rounds", "1", "--seconds", "1", "--output", str(output)]
    rows = ["call-stateless", "call-handshake", *REFUSED] if has_wrk else ["call-stateless", "events", "--own-load"]
    done = subprocess.run(
        [*command, "--subjects", "nginx", OURS, "--rows", *rows],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(output.read_text())
    assert list(report["rows"]) == [key for key in CASES if key in rows]
    for row in report["rows"].values():
        assert row["measured"] > 0
        assert row["is_met"] in (True, False)
        for subject in row["subjects"].values():
            assert subject["median"]["cpu_us"] > 0
            assert subject["rounds"][0]["requests"] > 0
    assert render(report) in done.stdout


def test_a_wrong_answer_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "plan_calls", lambda era, tools, octets: plan_calls(era, tools, octets + 1))
    with Stage(tmp_path, (OURS,)) as stage, pytest.raises(AssertionError):
        scenarios.calls(stage, "stateless")
