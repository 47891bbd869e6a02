"""What a run found: rows with goals, samples and circumstances, as they stand in the JSON file.

`rows[KEY]` holds `measured` (null where something was missing, `why` says what), `goal`, `sense`, `is_met`,
`off_percent`, `spread` (first and third quartile over the rounds), all samples under `subjects`, and `taken`: when,
with which versions, on which machine. A later run of some rows replaces those rows and leaves the others.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benches.loopback import stage
from benches.loopback.cases import CASES, Case, is_met, percent_off
from benches.loopback.rounds import WRK, Effort, quartiles

FORMAT = 2
Row = dict[str, Any]


def build_row(case: Case, subjects: dict[str, Any], absent: dict[str, str], taken: dict[str, Any]) -> Row:
    """Hold what was found for a case to its goal. `subjects` are as `rounds.summarize` returns them, by name."""
    row: Row = {
        "title": case.title,
        "kind": case.kind,
        "metric": case.metric,
        "subject": case.subject,
        "against": None if case.kind == "value" else case.against,
        "sense": case.sense,
        "goal": case.goal,
        "unit": case.unit,
        **dict.fromkeys(("measured", "spread", "is_met", "off_percent"), None),
    }
    found = {name: subjects[name] for name in case.subjects if name in subjects}
    missing = [name for name in _needed(case) if name not in found]
    if missing:
        row["why"] = ", ".join(f"{name} is {absent.get(name, 'not measured')}" for name in missing)
    else:
        needed = _needed(case)
        rounds = zip(*(found[name]["rounds"] for name in needed), strict=True)
        compared = [_compare(case, dict(zip(needed, each, strict=True))) for each in rounds]
        values = [value for value in compared if value is not None]
        # Of the rounds, not of the medians: the weather is the same within a round, not from one to the next.
        measured = round(statistics.median(values), 3) if 2 * len(values) > len(compared) else None
        row["measured"] = measured
        row["spread"] = None if measured is None else quartiles(values)
        if measured is None:
            row["why"] = f"{case.against} added nothing that could be measured"
        elif case.goal is not None:
            row["is_met"] = is_met(case.goal, case.sense, measured)
            row["off_percent"] = percent_off(case.goal, measured)
    return {**row, "absent": absent, "subjects": found, "taken": taken}


def merge(old: dict[str, Any] | None, rows: dict[str, Row]) -> dict[str, Any]:
    """Put new rows over those of an earlier report, in the order of the cases."""
    kept = old["rows"] if old is not None and old.get("format") == FORMAT else {}
    merged = {**kept, **rows}
    return {"format": FORMAT, "rows": {key: merged[key] for key in CASES if key in merged}}


def read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


def circumstances(effort: Effort, octets: int, connections: int) -> dict[str, Any]:
    """Return all that one needs to know to take the same numbers again."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "command": " ".join(["python -m benches.loopback", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": _commit(),
        "settings": {
            "rounds": effort.rounds,
            "seconds": effort.seconds,
            "connections": connections,
            "octets": octets,
        },
        "versions": {
            "only1mcp": _version(str(Path(sys.executable).with_name("only1mcp")), "--version"),
            "python": platform.python_version(),
            "nginx": _version(stage.NGINX, "-v"),
            "haproxy": _version(stage.HAPROXY, "-v"),
            "load": _version(WRK, "-v") if effort.uses_wrk else "benches/loopback/load.py",
        },
        "machine": {
            "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
        },
    }


def _needed(case: Case) -> list[str]:
    return {
        "value": [case.subject],
        "ratio": [case.subject, case.against],
        "added": [case.subject, case.against, "direct"],
    }[case.kind]


def _compare(case: Case, values: dict[str, dict[str, float]]) -> float | None:
    ours = values[case.subject][case.metric]
    if case.kind == "value":
        return round(ours, 3)
    theirs = values[case.against][case.metric]
    if case.kind == "added":
        direct = values["direct"][case.metric]
        ours, theirs = ours - direct, theirs - direct
    return round(ours / theirs, 3) if theirs > 0 else None


def _version(program: str | None, flag: str) -> str | None:
    if program is None:
        return None
    done = subprocess.run([program, flag], capture_output=True, text=True, timeout=20, check=False)
    first = (done.stdout + done.stderr).strip().splitlines()[0]
    found = re.search(r"\d+(\.\d+)+", first)
    return f"{Path(program).name} {found.group() if found else first}"


def _commit() -> str | None:
    """Return the commit that was measured, with a `+` when the sources were not quite it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=stage.ROOT, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
