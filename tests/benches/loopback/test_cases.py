"""Every row can be run, and none compares what it does not measure."""

from __future__ import annotations

import pytest
from benches.loopback.cases import CASES, Case, is_met, percent_off
from benches.loopback.scenarios import LOADS


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_row_has_something_to_run_and_measures_what_it_compares(case: Case) -> None:
    assert case.scenario in {*LOADS, "memory", "start"}
    compared = {
        "value": {case.subject},
        "ratio": {case.subject, case.against},
        "added": {case.subject, case.against, "direct"},
    }
    assert compared[case.kind] <= set(case.subjects)
    assert case.goal is None or case.goal > 0


def test_rows_of_one_scenario_take_the_same_connections() -> None:
    connections: dict[str, set[int | None]] = {}
    for case in CASES.values():
        connections.setdefault(case.scenario, set()).add(case.connections)
    assert all(len(each) == 1 for each in connections.values())


def test_goals() -> None:
    assert is_met(1.25, "at most", 1.25)
    assert not is_met(1.25, "at most", 1.26)
    assert is_met(0.8, "at least", 0.8)
    assert not is_met(0.8, "at least", 0.79)
    assert percent_off(2.0, 3.0) == 50.0
    assert percent_off(0.8, 0.4) == -50.0
