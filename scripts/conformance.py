"""Runs the official conformance suite, in both of its roles, and records in docs/ what it finds.

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
# What no proxy could do, and why.
NOTES = {
    ("2025-11-25", "server-sse-polling"): (
        "bridged: a stateless server cannot close the stream of a call to be polled for the rest (2026-07-28 knows no "
        "`Last-Event-ID`), so that its answer is one JSON text, in which the scenario finds nothing to check"
    ),
    ("2026-07-28", "input-required-result-ignore-extra-params"): (
        "bridged: the scenario answers what it was not asked, with no `requestState`; a server that keeps nothing "
        "takes such an answer, a handshake server cannot be told of it before it asks"
    ),
    ("2026-07-28", "tasks-status-notifications"): "the scenario has no checks of its own yet",
}


def measure() -> dict[str, Any]:
    python = third_party.python_sdk()
    third_party.conformance_suite()
    revisions: dict[str, Any] = {}
    clients: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="only1mcp-conformance-") as name:
        for revision, eras in conformance.ERAS.items():
            # A fresh fixture for each run: some scenarios change its lists.
            runs = {"fixture": conformance.run_alone(python, revision, _made(Path(name) / f"{revision}-alone"))}
            for kind, era in eras.items():
                directory = _made(Path(name) / f"{revision}-{kind}")
                runs[kind] = conformance.run_through_proxy(python, revision, era, directory)
            revisions[revision] = runs
            clients[revision] = {
                kind: conformance.run_as_client(python, revision, kind, _made(Path(name) / f"{revision}-client-{kind}"))
                for kind in conformance.CLIENTS[revision]
            }
    return {
        "suite": f"@modelcontextprotocol/conformance {conformance.suite_version()}",
        "fixture": f"tests/fixtures/servers/conformance_server.py, {third_party.SDK}",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "revisions": revisions,
        "clients": clients,
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
        "- *bridged*: through the proxy, with the fixture held to the other era: in the stateless era its tools ask by",
        "  `input_required` results, in the handshake era by requests of their own.",
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
        lines += ["", f"## {revision}", "", "| scenario | fixture | same era | bridged | remarks |"]
        lines.append("|---|---|---|---|---|")
        for name, scenario in runs["proxy"].items():
            title = name if scenario["scored"] else f"{name} (not scored)"
            cells = [_checks(runs[kind].get(name)) for kind in ("fixture", "proxy", "bridged")]
            reasons = scenario["reasons"] or (runs["bridged"].get(name) or scenario)["reasons"]
            note = NOTES.get((revision, name))
            remarks = _escaped("; ".join(reasons[:2])) if note is None else note
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {remarks} |")
    return "\n".join([*lines, *_of_clients(record["clients"])]) + "\n"


def _of_clients(clients: dict[str, dict[str, dict[str, conformance.Scenario]]]) -> list[str]:
    lines = [
        "",
        "## The proxy as a client",
        "",
        "The suite is the only backend of the proxy, with the official Python client before it: of the era of the",
        "revision, or of the other one. `auth/*` is left out, as the proxy is no OAuth client: what it shows a backend",
        "is in its configuration.",
    ]
    for revision, runs in clients.items():
        same, bridged = runs["same era"], runs["bridged"]
        lines += ["", f"### {revision}", "", "| scenario | same era | bridged | remarks |", "|---|---|---|---|"]
        for name, scenario in same.items():
            title = name if scenario["scored"] else f"{name} (not scored)"
            reasons = scenario["reasons"] or bridged[name]["reasons"]
            cells = f"{_checks(scenario)} | {_checks(bridged[name])} | {_escaped('; '.join(reasons[:2]))}"
            lines.append(f"| {title} | {cells} |")
    return lines


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
        print(f"  across the eras {_sum(runs['bridged'], scored=True)}")
    print(f"written: {conformance.RECORD.name} and {PAGE.name} in {PAGE.parent}")


if __name__ == "__main__":
    main()
