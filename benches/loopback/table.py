"""Makes the tables of a loopback report, for the terminal and for the README."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from benches.loopback.cases import OURS

Row = dict[str, Any]
HEADS = {"direct": "no proxy"}
NOTHING = "–"
MOST_CONNECTIONS = 10_000
ABOUT_COST = (
    "CPU time of the proxy's processes a call; for large answers throughput, with the CPU time in brackets. Ratios are "
    "medians over the rounds, with their quartiles. The floor is a TCP proxy on the same event loop that copies bytes "
    "and looks at none."
)
ABOUT_LATENCY = (
    "p50 / p99 / p99.9 in milliseconds, as the client sees them. Each connection sends its next call when it has the "
    "last answer (a closed loop), so calls that a stall would have delayed are never sent: with calls that come at "
    "their own pace, p99.9 would be higher. Added is what is more than without a proxy."
)
ABOUT_PROCESSES = (
    "Resident memory of all processes of the proxy after a few calls, in units of 1000; connections are kept alive and "
    "have carried one call each. Times are from the start of the process, with its files in memory."
)


def render(report: dict[str, Any]) -> str:
    """Return all there is to say about a report, in Markdown; rows of several runs say which one they are from."""
    rows: dict[str, Row] = report["rows"]
    runs = _runs(rows)
    titles = {key: row["title"] + _mark(row, runs) for key, row in rows.items()}
    parts = [
        _against_nginx(
            {key: row for key, row in rows.items() if row["against"] == "nginx" and row["kind"] == "ratio"}, titles
        ),
        _against_ourselves({key: row for key, row in rows.items() if row["against"] not in ("nginx", None)}, titles),
        _latency({key: row for key, row in rows.items() if row["kind"] == "added"}, titles),
        _processes({key: row for key, row in rows.items() if row["kind"] == "value"}, titles),
        "\n".join(
            f"{f'[{number}] ' if len(runs) > 1 else ''}{_circumstances(run)}  " for number, run in enumerate(runs, 1)
        ),
    ]
    return "\n\n".join(part.rstrip() for part in parts if part)


def verdict(row: Row) -> str:
    """Say whether a row meets its goal, and by how much not."""
    if row["measured"] is None:
        return f"not measured: {row['why']}"
    if row["goal"] is None:
        return ""
    return "met" if row["is_met"] else f"missed by {abs(row['off_percent']):.0f} %"


def _against_nginx(rows: dict[str, Row], titles: dict[str, str]) -> str:
    names = _names(rows, ("nginx", "haproxy", "floor", OURS))
    lines = [
        [
            titles[key],
            *(_cell(row, name, _cost) for name in names),
            *([_against_floor(row)] if "floor" in names else []),
            _spread(row),
            _goal(row),
            verdict(row),
        ]
        for key, row in rows.items()
    ]
    heads = [*names, *(["against floor"] if "floor" in names else []), "against nginx", "goal", ""]
    return _table(["work", *heads], lines, 1, ABOUT_COST)


def _against_ourselves(rows: dict[str, Row], titles: dict[str, str]) -> str:
    lines = [
        [
            titles[key],
            _cell(row, row["against"], _cost),
            _cell(row, row["subject"], _cost),
            _spread(row),
            _goal(row),
            verdict(row),
        ]
        for key, row in rows.items()
    ]
    return _table(["only1mcp against itself", "this", "that", "ratio", "goal", ""], lines, 1)


def _latency(rows: dict[str, Row], titles: dict[str, str]) -> str:
    names = _names(rows, ("direct", "nginx", "haproxy", "floor", OURS))
    lines = [
        [
            str(row["taken"]["connections"]) + titles[key].removeprefix(row["title"]),
            *(_cell(row, name, _percentiles) for name in names),
            _spread(row),
            _goal(row),
            verdict(row),
        ]
        for key, row in rows.items()
    ]
    heads = [HEADS.get(name, name) for name in names]
    return _table(["connections", *heads, "added p99 against nginx", "goal", ""], lines, 0, ABOUT_LATENCY)


def _processes(rows: dict[str, Row], titles: dict[str, str]) -> str:
    names = _names(rows, ("nginx", "haproxy", OURS))
    lines = [
        [titles[key], *(_cell(row, name, _value) for name in names), _goal(row), verdict(row)]
        for key, row in rows.items()
    ]
    return _table(["process", *names, "goal", ""], lines, 1, ABOUT_PROCESSES)


def _table(heads: list[str], lines: list[list[str]], lefts: int, about: str = "") -> str:
    if not lines:
        return ""
    rule = ["---" if number < lefts or not head else "---:" for number, head in enumerate(heads)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *lines])
    return f"{table}\n\n{about}" if about else table


def _names(rows: dict[str, Row], order: Iterable[str]) -> list[str]:
    """Return the subjects that any row has, or would have if they were installed."""
    return [name for name in order if any(name in row["subjects"] or name in row["absent"] for row in rows.values())]


def _cell(row: Row, name: str, show: Callable[[Row, dict[str, float]], str]) -> str:
    if name in row["absent"]:
        return row["absent"][name]
    return show(row, row["subjects"][name]["median"]) if name in row["subjects"] else NOTHING


def _cost(row: Row, median: dict[str, float]) -> str:
    if row["metric"] == "answers_per_s":
        return f"{median['answers_per_s']:,.0f}/s ({median['cpu_us'] / 1000:.1f} ms)"
    return f"{median['cpu_us']:.1f} µs"


def _against_floor(row: Row) -> str:
    if "floor" not in row["subjects"] or row["subject"] not in row["subjects"]:
        return NOTHING
    ours, floor = (row["subjects"][name]["median"][row["metric"]] for name in (row["subject"], "floor"))
    return f"{ours / floor:.2f}"


def _percentiles(_: Row, median: dict[str, float]) -> str:
    return " / ".join(f"{median[key] / 1000:.2f}" for key in ("p50_us", "p99_us", "p999_us"))


def _value(row: Row, median: dict[str, float]) -> str:
    fewer = median["connections"] if row["metric"] == "most_mb" and median["connections"] < MOST_CONNECTIONS else 0
    return f"{median[row['metric']]:.1f} {row['unit']}" + (f" (with {fewer:,.0f})" if fewer else "")


def _spread(row: Row) -> str:
    if row["measured"] is None:
        return NOTHING
    first, third = row["spread"]
    return f"{row['measured']:.2f} ({first:.2f}–{third:.2f})"


def _goal(row: Row) -> str:
    if row["goal"] is None:
        return NOTHING
    return f"{'≤' if row['sense'] == 'at most' else '≥'} {row['goal']:g} {row['unit']}".rstrip()


def _runs(rows: dict[str, Row]) -> list[dict[str, Any]]:
    """Return what rows were taken in, each once, oldest row first; the connections of a row are no part of it."""
    runs: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        runs.setdefault(_identity(row), row["taken"])
    return list(runs.values())


def _mark(row: Row, runs: list[dict[str, Any]]) -> str:
    if len(runs) == 1:
        return ""
    return f" [{[_identity({'taken': run}) for run in runs].index(_identity(row)) + 1}]"


def _identity(row: Row) -> str:
    return json.dumps({key: value for key, value in row["taken"].items() if key != "connections"}, sort_keys=True)


def _circumstances(taken: dict[str, Any]) -> str:
    settings, versions, machine = taken["settings"], taken["versions"], taken["machine"]
    commit = f" at {taken['commit']}" if taken.get("commit") else ""
    others = ", ".join(version for name, version in versions.items() if name not in (OURS, "python") and version)
    return (
        f"Medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s, at "
        f"{settings['connections']} connections and with results of {settings['octets']} octets unless the row says "
        f"otherwise; {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}; {versions[OURS]}{commit}, "
        f"Python {versions['python']}, {others}; {taken['date']}, `{taken['command']}`."
    )
