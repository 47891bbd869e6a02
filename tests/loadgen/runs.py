"""Runs that nobody has made: recorders filled by hand, for the tests of the reports."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from tests.loadgen.conftest import plan_for

from only1mcp.loadgen.connection import Address
from only1mcp.loadgen.engine import Run
from only1mcp.loadgen.failure import Failure
from only1mcp.loadgen.meet import Ground
from only1mcp.loadgen.record import Recorder


def made_up(
    latencies_s: Sequence[float] = (), failures: Sequence[Failure] = (), server: str = "demo", **changes: Any
) -> Run:
    """A run of ten seconds in which these answers and failures came, evenly spread."""
    plan = plan_for("http://127.0.0.1:1/mcp?a=1&b=<2>", **changes.pop("plan", {}))
    recorder = Recorder(len(plan.operations))
    recorder.begin(100.0)
    outcomes: list[float | Failure] = [*latencies_s, *failures]
    for number, outcome in enumerate(outcomes):
        now = 100 + 10 * number / len(outcomes)
        if isinstance(outcome, Failure):
            recorder.fail(0, outcome, 0.5, now)
        else:
            recorder.succeed(0, outcome, now)
    recorder.good_in_time = len(latencies_s)
    recorder.finish()
    values: dict[str, Any] = {
        "started_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "window_s": 10.0,
        "sent": len(outcomes),
        "unsent": 0,
        "abandoned": 0,
        "interrupted": False,
        "bytes_sent": 1000,
        "bytes_received": 2_000_000,
        "reconnections": 0,
        "cpu_s": 1.0,
    }
    ground = Ground(Address("127.0.0.1", 1, None, None), "2026-07-28", server, [])
    return Run(plan=plan, ground=ground, recorder=recorder, **(values | changes))
