"""Runs the official conformance suite against its fixture alone and through the proxy, and records both in docs/.

`python -m scripts.conformance` writes docs/conformance.json and docs/conformance.md; `--render` only makes the page
from the record. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e import conformance, third_party

PAGE = conformance.RECORD.with_suffix(".md")


def measure() -> dict[str, Any]:
    python = third_party.python_sdk()
    third_party.conformance_suite()
    revisions: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="only1mcp-conformance-") as name:
        for revision, eras in conformance.ERAS.items():
            # A fresh fixture for each run: some scenarios change its lists.
            runs = {"fixture": conformance.run_alone(python, revision, _made(Path(name) / f"{revision}-alone"))}
            for kind, era in eras.items():
                directory = _made(Path(name) / f"{revision}-{kind}")
                runs[kind] = conformance.run_through_proxy(python, revision, era, directory)
            revisions[revision] = runs
    return {
        "suite": f"@modelcontextprotocol/conformance {conformance.suite_version()}",
        "fixture": f"tests/fixtures/servers/conformance_server.py, {third_party.SDK}",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "revisions": revisions,
    }


def render(record: dict[str, Any]) -> str:
    lines = [
        "# Conformance",
        "",
        f"The official suite ({record['suite']}) against Only1MCP with one backend, a",
        f"fixture server made with the official Python SDK ({record['fixture']}).",
        "",
        "- *fixture*: the suite against the fixture itself, held to the era of the revision: what can be reached;",
        "- *same era*: through the proxy, with that same fixture behind it, and a second backend for the tasks-*",
        "  scenarios, which that SDK cannot serve (tests/fixtures/servers/tasks_server.py);",
        "- *bridged*: through the proxy, with the fixture held to the other era. Not everything can be had across the",
        "  eras: a tool that answers as one revision wants it breaks the rules of the other.",
        "",
        "*Scored* scenarios are those that the revision requires; the others run without counting. `make conformance`",
        f"wrote this page on {record['date']}; a test fails when a scenario that passes here no longer does.",
        "",
        "| revision | fixture | same era | bridged | not scored, same era |",
        "|---|---|---|---|---|",
    ]
    for revision, runs in record["revisions"].items():
        cells = [_sum(runs[kind], scored=True) for kind in ("fixture", "proxy", "bridged")]
        cells.append(_sum(runs["proxy"], scored=False))
        lines.append(f"| {revision} | " + " | ".join(cells) + " |")
    for revision, runs in record["revisions"].items():
        lines += ["", f"## {revision}", "", "| scenario | fixture | same era | bridged | why it fails |"]
        lines.append("|---|---|---|---|---|")
        for name, scenario in runs["proxy"].items():
            title = name if scenario["scored"] else f"{name} (not scored)"
            cells = [_checks(runs[kind].get(name)) for kind in ("fixture", "proxy", "bridged")]
            reasons = scenario["reasons"] or (runs["bridged"].get(name) or scenario)["reasons"]
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {_escaped('; '.join(reasons[:2]))} |")
    return "\n".join(lines) + "\n"


def _sum(run: dict[str, conformance.Scenario], *, scored: bool) -> str:
    chosen = [scenario for scenario in run.values() if scenario["scored"] is scored]
    return f"{sum(map(conformance.passes, chosen))} of {len(chosen)}"


def _checks(scenario: conformance.Scenario | None) -> str:
    if scenario is None:
        return "did not run"
    passed, failed, warnings = scenario["passed"], scenario["failed"], scenario["warnings"]
    if passed + failed == 0:
        return "checks nothing"
    verdict = "pass" if conformance.passes(scenario) else "**fail**"
    return f"{verdict} ({passed}/{passed + failed}{f', {warnings} warnings' if warnings else ''})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--render", action="store_true", help="make the page from the record, run nothing")
    if not parser.parse_args().render:
        try:
            record = measure()
        except third_party.NotAvailable as reason:
            raise SystemExit(f"cannot run the conformance suite: {reason}") from None
        conformance.RECORD.write_text(json.dumps(record, indent=1) + "\n")
    record = json.loads(conformance.RECORD.read_text())
    PAGE.write_text(render(record))
    for revision, runs in record["revisions"].items():
        print(f"{revision}: {_sum(runs['proxy'], scored=True)} scored scenarios pass through the proxy")
    print(f"written: {conformance.RECORD.name} and {PAGE.name} in {PAGE.parent}")


if __name__ == "__main__":
    main()
