"""The figures of a run as one JSON document, whose keys `docs/benchmark.md` describes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from only1mcp import __version__
from only1mcp.loadgen.engine import Run
from only1mcp.loadgen.failure import KINDS
from only1mcp.loadgen.histogram import Histogram
from only1mcp.wire import mcp

SCHEMA: Final = 1
PERCENTS: Final = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
# Above this share of a core the load generator measures itself.
BUSY_SHARE: Final = 0.9
# So late may a request leave that could have left, at the 99th percentile.
LATE_S: Final = 0.005
RATE_LIMITED: Final = frozenset({("http", "429"), ("rpc_error", "-31003")})


@dataclass(frozen=True, slots=True)
class Gates:
    """What a run must keep to. `max_errors` is a number, or with `errors_percent` a share of all requests."""

    max_errors: float = 0.0
    errors_percent: bool = False
    expect_p99_ms: float | None = None
    expect_rate: float | None = None


def figures(run: Run, gates: Gates) -> dict[str, Any]:
    """Return everything that is to be said of a run."""
    plan, recorder = run.plan, run.recorder
    latencies = recorder.latencies
    good, failed = recorder.good, recorder.failed
    rate = recorder.good_in_time / run.window_s if run.window_s else 0.0
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "only1mcp": __version__,
        "started_at": run.started_at.isoformat(timespec="seconds"),
        "interrupted": run.interrupted,
        "target": {
            "url": plan.url,
            "address": run.ground.address.shown,
            "era": mcp.era_of(run.ground.revision).value,
            "revision": run.ground.revision,
            "server": run.ground.server,
        },
        "plan": {
            "loop": "closed" if plan.rate is None else "open",
            "connections": plan.connections,
            "rate": plan.rate,
            "duration_s": plan.duration_s,
            "requests": plan.requests,
            "warmup_s": plan.warmup_s,
            "timeout_s": plan.timeout_s,
            "mix": [{"method": each.method, "name": each.name, "weight": each.weight} for each in plan.operations],
        },
        "measured_s": round(run.window_s, 6),
        "requests": {
            "sent": run.sent,
            "good": good,
            "failed": failed,
            "unsent": run.unsent,
            "abandoned": run.abandoned,
        },
        "answers_per_second": round(rate, 3),
        "latency_ms": summary(latencies),
        "failures": {
            "total": failed,
            "by_kind": {
                kind: sum(sample.count for (of, _), sample in recorder.failures.items() if of == kind) for kind in KINDS
            },
            "details": [
                {"kind": kind, "what": what, "count": sample.count, "example": sample.example}
                for (kind, what), sample in sorted(recorder.failures.items(), key=lambda item: -item[1].count)
            ],
            "latency_ms": summary(recorder.failed_latencies),
        },
        "by_operation": [
            {
                "method": operation.method,
                "name": operation.name,
                "good": operated.latencies.count,
                "failed": operated.failed,
                "latency_ms": summary(operated.latencies),
            }
            for operation, operated in zip(plan.operations, recorder.operations, strict=True)
        ],
        "bytes": {"sent": run.bytes_sent, "received": run.bytes_received},
        "reconnections": run.reconnections,
        "backlog": None if plan.rate is None else {"max": recorder.backlog_max, "end": run.unsent},
        "client": {
            "cpu_s": round(run.cpu_s, 6),
            "cpu_share": round(run.cpu_s / run.window_s, 4) if run.window_s else 0.0,
            "late_ms": None if plan.rate is None else summary(recorder.lateness),
        },
        "intervals": [
            {
                "at_s": round(number * recorder.interval_s, 3),
                "seconds": round(recorder.interval_s, 3),
                "good": each.latencies.count,
                "failed": each.failed,
                "backlog": each.backlog,
                "latency_ms": summary(each.latencies),
            }
            for number, each in enumerate(recorder.intervals)
        ],
        "histogram": [
            {"from_ms": round(low * 1e3, 6), "to_ms": round(high * 1e3, 6), "count": count}
            for low, high, count in latencies.buckets()
        ],
    }
    document["warnings"] = _warnings(run)
    document["gates"] = _gates(gates, failed, good + failed, rate, latencies)
    document["ok"] = all(gate["ok"] for gate in document["gates"])
    return document


def summary(latencies: Histogram) -> dict[str, float] | None:
    """Return the usual figures in milliseconds; None where nothing was counted."""
    if not latencies.count:
        return None
    values = dict(zip(PERCENTS, latencies.percentiles(*PERCENTS.values()), strict=True))
    values = {"min": latencies.min_s, "mean": latencies.mean_s, "stdev": latencies.deviation_s, **values}
    return {key: round(value * 1e3, 4) for key, value in {**values, "max": latencies.max_s}.items()}


def _gates(gates: Gates, failed: int, finished: int, rate: float, latencies: Histogram) -> list[dict[str, Any]]:
    allowed = gates.max_errors * finished / 100 if gates.errors_percent else gates.max_errors
    # Nothing finished is no success either, unless everything may fail.
    all_may_fail = gates.errors_percent and gates.max_errors >= 100
    found: list[dict[str, Any]] = [
        {
            "gate": "max_errors",
            "limit": f"{gates.max_errors:g}%" if gates.errors_percent else gates.max_errors,
            "value": failed,
            "ok": failed <= allowed and (finished > 0 or all_may_fail),
        }
    ]
    if gates.expect_p99_ms is not None:
        p99_s = latencies.percentile(99)
        value = None if math.isnan(p99_s) else round(p99_s * 1e3, 4)
        ok = value is not None and value <= gates.expect_p99_ms
        found.append({"gate": "expect_p99_ms", "limit": gates.expect_p99_ms, "value": value, "ok": ok})
    if gates.expect_rate is not None:
        ok = rate >= gates.expect_rate
        found.append({"gate": "expect_rate", "limit": gates.expect_rate, "value": round(rate, 3), "ok": ok})
    return found


def _warnings(run: Run) -> list[str]:
    found = []
    recorder = run.recorder
    share = run.cpu_s / run.window_s if run.window_s else 0.0
    if share > BUSY_SHARE:
        found.append(
            f"the load generator used {share:.0%} of a core: it may be what was slow, not the target;"
            " lower the load or run several of them"
        )
    late_s = recorder.lateness.percentile(99)
    if late_s > LATE_S:
        found.append(
            f"1 % of the requests left at least {late_s * 1e3:.1f} ms late although a connection was free:"
            " this machine is too busy for this rate"
        )
    if run.unsent:
        found.append(
            f"{run.unsent} requests were due and never sent, since all {run.plan.connections} connections were busy:"
            " the target did not keep up with the rate, or needs more connections"
        )
    if run.abandoned:
        found.append(f"{run.abandoned} requests had no answer yet when the run was interrupted")
    limited = sum(sample.count for key, sample in recorder.failures.items() if key in RATE_LIMITED)
    if limited:
        found.append(f"the target's rate limit refused {limited} requests (auth.rate_limit of an only1mcp)")
    if run.reconnections > max(10, run.sent // 10):
        found.append(
            f"{run.reconnections} connections had to be opened anew: the target does not keep them,"
            " and the latencies include the connecting"
        )
    return found
