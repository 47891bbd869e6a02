"""What is counted, in whole and over time, in bounded memory."""

from __future__ import annotations

import pytest

from only1mcp.loadgen.failure import HTTP, TIMEOUT, Failure
from only1mcp.loadgen.record import FIRST_INTERVAL_S, MAX_FAILURES, MAX_INTERVALS, OTHER, Recorder


def test_good_and_failed_are_kept_apart() -> None:
    recorder = Recorder(2)
    recorder.begin(100.0)
    recorder.succeed(0, 0.010, 100.01)
    recorder.succeed(1, 0.020, 100.02)
    recorder.fail(1, Failure(TIMEOUT, "", "too slow"), 5.0, 100.03)
    assert (recorder.good, recorder.failed) == (2, 1)
    assert recorder.latencies.max_s == 0.020
    assert recorder.failed_latencies.max_s == 5.0
    assert [each.latencies.count for each in recorder.operations] == [1, 1]
    assert [each.failed for each in recorder.operations] == [0, 1]
    assert recorder.failures[TIMEOUT, ""].example == "too slow"


def test_the_first_of_equal_failures_is_the_example() -> None:
    recorder = Recorder(1)
    recorder.begin(0.0)
    for text in ("one", "two"):
        recorder.fail(0, Failure(HTTP, "500", text), 0.1, 0.0)
    assert (recorder.failures[HTTP, "500"].count, recorder.failures[HTTP, "500"].example) == (2, "one")


def test_a_target_cannot_invent_failures_without_end() -> None:
    recorder = Recorder(1)
    recorder.begin(0.0)
    for number in range(1000):
        recorder.fail(0, Failure(HTTP, str(number), ""), 0.1, 0.0)
    assert len(recorder.failures) == MAX_FAILURES + 1
    assert recorder.failures[HTTP, OTHER].count == 1000 - MAX_FAILURES
    assert recorder.failed == 1000


def test_answers_fall_into_the_interval_they_come_in() -> None:
    recorder = Recorder(1)
    recorder.begin(10.0)
    recorder.succeed(0, 0.001, 10.05)
    recorder.fail(0, Failure(TIMEOUT), 0.001, 10.05)
    recorder.note_backlog(7, 10.15)
    recorder.succeed(0, 0.001, 10.35)
    recorder.finish()
    assert [(each.latencies.count, each.failed, each.backlog) for each in recorder.intervals] == [
        (1, 1, 0),
        (0, 0, 7),
        (0, 0, 0),
        (1, 0, 0),
    ]
    assert recorder.backlog_max == 7


@pytest.mark.parametrize("seconds", [11, 60, 3600, 86400])
def test_long_runs_take_no_more_memory(seconds: int) -> None:
    recorder = Recorder(1)
    recorder.begin(0.0)
    count = 2000
    for number in range(count):
        recorder.succeed(0, 0.001, seconds * number / count)
    recorder.finish()
    assert MAX_INTERVALS / 2 - 1 <= len(recorder.intervals) <= MAX_INTERVALS
    assert sum(each.latencies.count for each in recorder.intervals) == count
    assert recorder.interval_s >= FIRST_INTERVAL_S
    assert seconds <= recorder.interval_s * MAX_INTERVALS < 2 * seconds + 2 * FIRST_INTERVAL_S * MAX_INTERVALS


def test_a_long_pause_is_no_long_loop() -> None:
    recorder = Recorder(1)
    recorder.begin(0.0)
    recorder.succeed(0, 0.001, 0.0)
    recorder.succeed(0, 0.001, 1e9)
    recorder.finish()
    assert len(recorder.intervals) <= MAX_INTERVALS
    assert recorder.intervals[0].latencies.count == recorder.intervals[-1].latencies.count == 1
