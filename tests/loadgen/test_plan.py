"""The schedule that a plan asks for."""

from __future__ import annotations

from tests.loadgen.conftest import plan_for

from only1mcp.loadgen.schedule import ClosedLoop, OpenLoop


def test_a_rate_makes_it_an_open_loop() -> None:
    assert isinstance(plan_for("http://a/").schedule(), ClosedLoop)
    schedule = plan_for("http://a/", rate=5.0, duration_s=2.0, requests=None, warmup_s=1.0).schedule()
    assert isinstance(schedule, OpenLoop)
    schedule.begin(0.0)
    assert (schedule.rate, schedule.measured_from, schedule.ends_at) == (5.0, 1.0, 3.0)
