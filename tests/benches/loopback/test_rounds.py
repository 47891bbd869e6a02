"""Load is checked while it is put: wrong answers end the run, whichever generator counts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benches.loopback.backend import tool_names
from benches.loopback.calls import plan_calls, prepare
from benches.loopback.rounds import WRK, Effort, Subject, check, interleave, put_load, quartiles, summarize
from benches.loopback.stage import Stage

LOADS = [
    pytest.param(False, id="wrk", marks=pytest.mark.skipif(WRK is None, reason="wrk is not installed")),
    pytest.param(True, id="own load"),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), ("direct",)) as stage:
        yield stage


@pytest.fixture(scope="module")
def subject(stage: Stage) -> Subject:
    (url,) = stage.backend("stateless", octets=64)
    return made(stage.directory, url, events=0)


def made(directory: Path, url: str, events: int) -> Subject:
    plan = plan_calls("stateless", tool_names(0, 1), 64, events=events)
    file = directory / f"{events}.requests"
    return Subject("direct", 0, url, plan, file, prepare(plan, url, file))


@pytest.mark.slow
@pytest.mark.parametrize("own_load", LOADS)
def test_every_subject_gets_its_rounds(stage: Stage, subject: Subject, own_load: bool) -> None:
    effort = Effort(rounds=1, seconds=1, connections=2, own_load=own_load)
    samples = interleave([subject, replace(subject, name="again")], effort, stage.for_rest, "test")
    assert set(samples) == {"direct", "again"}
    for (sample,) in samples.values():
        assert sample["requests"] > 100
        assert 0 < sample["p50_us"] <= sample["p99_us"] <= sample["p999_us"]
        assert sample["cpu_us"] == 0  # no process of a proxy


@pytest.mark.slow
@pytest.mark.parametrize("own_load", LOADS)
def test_streams_are_counted_by_their_octets(stage: Stage, own_load: bool) -> None:
    (url,) = stage.backend("stateless", octets=64, events=5)
    streaming = made(stage.directory, url, events=5)
    effort = Effort(rounds=1, seconds=1, connections=2, own_load=own_load)
    (sample,) = interleave([streaming], effort, stage.for_rest, "test")["direct"]
    assert 0.9 < sample["answers_per_s"] / sample["requests_per_s"] < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("own_load", LOADS)
@pytest.mark.parametrize("change", [{"fragment": "something else"}, {"status": 202}])
def test_wrong_answers_under_load_end_the_run(
    stage: Stage, subject: Subject, own_load: bool, change: dict[str, object]
) -> None:
    wrong = replace(subject, plan=replace(subject.plan, **change))
    effort = Effort(rounds=1, seconds=1, connections=2, own_load=own_load)
    counted = put_load(wrong, effort, 1, stage.for_rest)
    assert counted["requests"] > 100
    assert counted["failed"] > counted["requests"] / 20
    with pytest.raises(SystemExit, match="answers were wrong"):
        check(wrong, counted, 2)


@pytest.mark.parametrize("octets", [700 * 100, 2 * 700 * 100 + 300_000])
def test_answers_of_another_length_end_the_run(subject: Subject, octets: int) -> None:
    counted = {"requests": 100, "failed": 0, "octets": octets}
    with pytest.raises(SystemExit, match="octets in 100 answers"):
        check(replace(subject, octets=1000), counted, 2)


def test_no_answers_end_the_run(subject: Subject) -> None:
    with pytest.raises(SystemExit):
        check(subject, {"requests": 0, "failed": 0, "octets": 0}, 2)


def test_summaries_keep_all_samples() -> None:
    rounds = [{"requests": 10, "cpu_us": value} for value in (1.0, 2.0, 9.0, 3.0, 4.0)]
    found = summarize(rounds)
    assert found == {"median": {"cpu_us": 3.0}, "iqr": {"cpu_us": [2.0, 4.0]}, "rounds": rounds}
    assert quartiles([5.0]) == [5.0, 5.0]
