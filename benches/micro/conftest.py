"""Every benchmark of this folder is one of a pair: the plain-Python twin and the compiled one, grouped by the work."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from tests._fast.conftest import REFERENCE


@pytest.fixture(params=["reference", "compiled"])
def fast(request: pytest.FixtureRequest, benchmark: Any) -> Any:
    benchmark.group = request.node.originalname
    others = [str(value) for name, value in request.node.callspec.params.items() if name != "fast"]
    if others:
        benchmark.group += f" [{', '.join(others)}]"
    if request.param == "reference":
        return REFERENCE
    parts = {
        name: importlib.import_module(f"only1mcp._fast.{name}")
        for name in ("envelope", "ring", "lru", "counters", "spans", "lines", "calls")
    }
    return SimpleNamespace(**{name: value for part in parts.values() for name, value in vars(part).items()})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print how many times as fast each compiled twin is."""
    session = getattr(config, "_benchmarksession", None)
    medians: dict[str, dict[str, float]] = {}
    for bench in session.benchmarks if session else ():
        if bench.stats.data:
            medians.setdefault(bench.group, {})[bench.params["fast"]] = bench.stats.median
    for group, times in medians.items():
        if len(times) == 2:
            ratio = times["reference"] / times["compiled"]
            terminalreporter.write_line(
                f"{group}: reference {times['reference'] * 1e6:.3f} µs, "
                f"compiled {times['compiled'] * 1e6:.3f} µs, ratio {ratio:.1f}"
            )
