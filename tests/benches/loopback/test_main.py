"""Options: what is run by default, quickly, in part, and where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from benches.loopback.__main__ import RESULTS, by_scenario, parse
from benches.loopback.cases import CASES


def test_by_default_all_rows_go_into_the_results() -> None:
    options = parse([])
    assert options.rows == list(CASES)
    assert (options.output, options.merge) == (RESULTS, True)
    assert options.rounds >= 5


def test_some_rows_are_put_between_the_others_unless_they_go_elsewhere(tmp_path: Path) -> None:
    assert parse(["--rows", "stdio"]).merge
    elsewhere = parse(["--rows", "stdio", "--output", str(tmp_path / "out.json")])
    assert not elsewhere.merge
    assert elsewhere.rows == ["stdio"]


def test_a_quick_run_never_goes_into_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--quick"])
    assert "--output" in capsys.readouterr().err


def test_a_quick_run_takes_less_than_two_minutes() -> None:
    options = parse(["--quick", "--output", "quick.json"])
    scenarios = by_scenario(options.rows)
    assert {"call-stateless", "call-handshake", "full", "cached", "stdio"} <= set(scenarios)
    loads = len(scenarios) * len(options.subjects) * (1 + options.rounds * options.seconds)
    assert loads < 80  # the rest is for starting and checking


def test_rows_of_one_scenario_are_measured_together() -> None:
    assert {
        key: [case.key for case in cases] for key, cases in by_scenario(["refused-origin", "refused-json"]).items()
    } == {"refused": ["refused-json", "refused-origin"]}
