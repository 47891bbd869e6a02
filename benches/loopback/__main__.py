"""What proxying MCP costs: Only1MCP beside nginx, haproxy and a bare TCP proxy, in front of the same backend.

Rounds are interleaved, so that all meet the same weather; the numbers are medians over the rounds. CPU is what the
kernel counts for the proxy's processes. Prints tables and writes JSON; a slow machine or a missed goal makes for other
numbers, never for a failure, a wrong answer does.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benches.loopback import processes, results, scenarios
from benches.loopback.cases import CASES, OURS, Case
from benches.loopback.rounds import Effort, interleave, summarize
from benches.loopback.stage import ROOT, Stage
from benches.loopback.table import render

RESULTS = Path(__file__).parents[1] / "results" / "loopback.json"
# For pull requests: what changes from commit to commit, in less than two minutes.
QUICK_ROUNDS, QUICK_SECONDS, QUICK_SUBJECTS = 3, 1, ("nginx", OURS)


def main() -> None:
    options = parse()
    # As pip does when it installs: without, every start compiles the sources anew, in time and memory of its own.
    compileall.compile_dir(ROOT / "src" / OURS, quiet=1)
    rows = {}
    for scenario, cases in by_scenario(options.rows).items():
        rows.update(run(scenario, cases, options))
        # After every scenario: a run that is stopped has not been for nothing.
        report = results.merge(results.read(options.output) if options.merge else None, rows)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(render(results.merge(None, rows)))
    print(f"written: {os.path.relpath(options.output)}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.loopback", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=CASES, metavar="ROW", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of load for each proxy in each round")
    parser.add_argument("--connections", type=int, default=32, help="but for the rows about latency")
    parser.add_argument("--own-load", action="store_true", help="do not use wrk, even where it is installed")
    parser.add_argument(
        "--subjects", nargs="+", metavar="NAME", help="show only these of nginx, haproxy, floor, only1mcp"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rows and rounds, nginx and only1mcp only; asks for --output"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"the JSON file to write; without it {RESULTS.name}, where rows that are not measured stay as they were",
    )
    options = parser.parse_args(arguments)
    options.merge = options.output is None
    if options.quick:
        if options.merge:
            parser.error("--quick measures too little for the results that are kept: give it an --output")
        options.rounds, options.seconds = QUICK_ROUNDS, QUICK_SECONDS
        options.subjects = options.subjects or list(QUICK_SUBJECTS)
        options.rows = options.rows or [key for key, case in CASES.items() if case.quick]
    options.rows = options.rows or list(CASES)
    options.output = options.output or RESULTS
    return options


def by_scenario(rows: list[str]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for key, case in CASES.items():
        if key in rows:
            found.setdefault(case.scenario, []).append(case)
    return found


def run(scenario: str, cases: list[Case], options: argparse.Namespace) -> dict[str, results.Row]:
    """Run a scenario and return its rows."""
    effort = Effort(options.rounds, options.seconds, cases[0].connections or options.connections, options.own_load)
    # A bare name is a proxy; whatever else a row compares is ours in some state.
    wanted = tuple(
        dict.fromkeys(
            name
            for case in cases
            for name in case.subjects
            if options.subjects is None or name in options.subjects or name not in ("nginx", "haproxy", "floor")
        )
    )
    absent: dict[str, str] = {}
    if scenario == "memory":
        subjects, absent = processes.measure_memory(wanted, options.rounds)
    elif scenario == "start":
        subjects = processes.measure_start(options.rounds)
    else:
        subjects, absent = put_load(scenario, [case.key for case in cases], wanted, effort)
    taken = {
        **results.circumstances(effort, scenarios.OCTETS, options.connections),
        "connections": effort.connections,
    }
    return {case.key: results.build_row(case, subjects, absent, taken) for case in cases}


def put_load(
    scenario: str, rows: list[str], wanted: tuple[str, ...], effort: Effort
) -> tuple[dict[str, Any], dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="only1mcp-bench-") as name, Stage(Path(name), wanted) as stage:
        if scenario == "refused":
            subjects = scenarios.refused(stage, rows)
        else:
            subjects = scenarios.LOADS[scenario](stage)
        print(f"{scenario}: {', '.join(subject.name for subject in subjects)}", file=sys.stderr)
        samples = interleave(subjects, effort, stage.for_rest, scenario)
        return {who: summarize(taken) for who, taken in samples.items()}, stage.absent


if __name__ == "__main__":
    main()
