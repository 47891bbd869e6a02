"""Schedules under a clock of our own: rates, ends, backlogs, and that a stall is charged to the target."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.loadgen.histogram import Histogram
from only1mcp.loadgen.schedule import ClosedLoop, OpenLoop, Schedule


def simulate(schedule: Schedule, service_s: Callable[[float], float], connections: int) -> Histogram:
    """Run a schedule to its end against a server that takes `service_s(time)` for each request; return latencies."""
    latencies = Histogram()
    now = 0.0
    schedule.begin(now)
    idle = connections
    answers: list[tuple[float, float]] = []
    while True:
        while idle and (intended := schedule.take(now)) is not None:
            idle -= 1
            heapq.heappush(answers, (now + service_s(now), intended))
        upcoming = [answers[0][0]] if answers else []
        if isinstance(schedule, OpenLoop) and idle and not schedule.is_over(now):
            upcoming.append(min(schedule.due_after(now), schedule.ends_at))
        if not upcoming:
            return latencies
        now = min(upcoming)
        while answers and answers[0][0] <= now:
            finished, intended = heapq.heappop(answers)
            idle += 1
            latencies.record(finished - intended)


def stalled_once(now: float) -> float:
    """A server that takes 1 ms, but answers nothing from 5 s to 7 s."""
    return 7.001 - now if 5 <= now < 7 else 0.001


def test_a_stall_shows_in_the_percentiles_of_the_open_loop() -> None:
    latencies = simulate(OpenLoop(100, duration_s=10, requests=None), stalled_once, connections=1)
    assert latencies.count == 1000
    # 200 of the 1000 were due during the stall: they waited up to two seconds, whenever they were at last sent.
    p50, p90, p99 = latencies.percentiles(50, 90, 99)
    assert p50 == pytest.approx(0.001, abs=2e-5)
    assert p90 > 0.9
    assert p99 == pytest.approx(1.9, abs=0.2)
    assert latencies.max_s == pytest.approx(2.001, abs=0.02)


def test_the_closed_loop_cannot_see_it() -> None:
    # The same server under the same load: one slow answer of thousands. This is what the open loop is for.
    latencies = simulate(ClosedLoop(duration_s=10, requests=None), stalled_once, connections=1)
    assert latencies.count > 7000
    assert latencies.percentile(99.9) < 0.002
    assert latencies.max_s == pytest.approx(2.001, abs=0.02)


@given(st.floats(0.1, 5000), st.floats(0.01, 3))
def test_the_open_loop_keeps_its_rate(rate: float, duration_s: float) -> None:
    schedule = OpenLoop(rate, duration_s=duration_s, requests=None)
    latencies = simulate(schedule, lambda _: 0.0, connections=1)
    assert latencies.count == pytest.approx(rate * duration_s, abs=1.01)
    assert latencies.count == schedule.taken
    assert latencies.max_s < 1e-6


def test_due_times_do_not_drift() -> None:
    schedule = OpenLoop(3, duration_s=None, requests=10**7)
    schedule.begin(100.0)
    for number in range(3_000):
        assert schedule.take(1e9) == pytest.approx(100 + number / 3)


def test_nothing_is_due_early() -> None:
    schedule = OpenLoop(10, duration_s=1, requests=None)
    schedule.begin(0.0)
    assert schedule.take(0.0) == 0.0
    assert schedule.take(0.05) is None
    assert schedule.due_after(0.05) == pytest.approx(0.1)
    assert schedule.take(0.1) == pytest.approx(0.1)


def test_the_backlog_is_what_is_due_and_not_taken() -> None:
    schedule = OpenLoop(10, duration_s=1, requests=None)
    schedule.begin(0.0)
    assert schedule.backlog(0.0) == 1
    assert schedule.backlog(0.55) == 6
    schedule.take(0.55)
    assert schedule.backlog(0.55) == 5
    # After the end it stays as it is: these were never sent.
    assert schedule.backlog(1.0) == schedule.backlog(5.0) == 9
    assert schedule.take(1.0) is None
    assert schedule.is_over(1.0)


def test_the_backlog_is_no_longer_than_what_is_left() -> None:
    schedule = OpenLoop(10, duration_s=None, requests=3)
    schedule.begin(0.0)
    assert schedule.backlog(100.0) == 3
    assert [schedule.take(100.0) is not None for _ in range(4)] == [True, True, True, False]
    assert schedule.is_over(0.0)


@pytest.mark.parametrize("make", [ClosedLoop, lambda **options: OpenLoop(1000, **options)])
def test_the_warm_up_is_not_counted(make: Callable[..., Schedule]) -> None:
    schedule = make(duration_s=None, requests=5, warmup_s=1.0)
    schedule.begin(10.0)
    for _ in range(50):
        intended = schedule.take(10.5)
        assert intended is not None
        assert intended < schedule.measured_from == 11.0
    assert schedule.taken == 0
    while (intended := schedule.take(20.0)) is not None and intended < 11.0:
        pass
    assert [schedule.take(20.0) is not None for _ in range(5)] == [True, True, True, True, False]
    assert schedule.taken == 5


def test_the_duration_begins_after_the_warm_up() -> None:
    schedule = ClosedLoop(duration_s=2, requests=None, warmup_s=1)
    schedule.begin(0.0)
    assert schedule.take(2.9) == 2.9
    assert schedule.take(3.0) is None


def test_whichever_end_is_first() -> None:
    schedule = ClosedLoop(duration_s=2, requests=1)
    schedule.begin(0.0)
    assert schedule.take(0.0) == 0.0
    assert schedule.take(0.0) is None
    with pytest.raises(ValueError, match="needs an end"):
        ClosedLoop(duration_s=None, requests=None)


def test_stopping() -> None:
    for schedule in (ClosedLoop(duration_s=9, requests=None), OpenLoop(10, duration_s=9, requests=None)):
        schedule.begin(0.0)
        schedule.stop(1.0)
        assert schedule.is_over(1.0)
        assert schedule.take(1.0) is None
        schedule.stop(5.0)
        assert schedule.ends_at == 1.0
