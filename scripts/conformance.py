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
from tests.e2e.gateway import http_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server

PAGE = conformance.RECORD.with_suffix(".md")


def measure() -> dict[str, Any]:
    python = third_party.python_sdk()
    third_party.conformance_suite()
    revisions: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="only1mcp-conformance-") as name:
        directory = Path(name)
        for revision in conformance.REVISIONS:
            # A fresh pair for each revision: some scenarios change the fixture's lists.
            with Server(python, conformance.FIXTURE, directory / f"fixture-{revision}.log") as fixture:
                alone = conformance.run(fixture.url, revision, _made(directory / f"alone-{revision}"))
                with Proxy(directory / f"proxy-{revision}", [http_backend("fixture", fixture.url)]) as proxy:
                    wait_for_tools(proxy, "test_simple_text")
                    through = conformance.run(proxy.url, revision, _made(directory / f"through-{revision}"))
            revisions[revision] = {"fixture": alone, "proxy": through}
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
        f"The official suite ({record['suite']}) against Only1MCP with one backend, a fixture server written with",
        f"the official Python SDK ({record['fixture']}), and against that fixture alone. Both sides of the proxy speak",
        "the revision of the table. *Scored* scenarios are those that the revision requires; the others do not count.",
        "",
        f"`make conformance` wrote this page on {record['date']}; `tests/e2e/test_conformance.py` fails when a",
        "scenario that passes here no longer does.",
        "",
        "| revision | scored, through the proxy | scored, fixture alone | not scored, through the proxy |",
        "|---|---|---|---|",
    ]
    for revision, runs in record["revisions"].items():
        through, alone = runs["proxy"], runs["fixture"]
        cells = [_sum(through, scored=True), _sum(alone, scored=True), _sum(through, scored=False)]
        lines.append(f"| {revision} | " + " | ".join(cells) + " |")
    for revision, runs in record["revisions"].items():
        lines += ["", f"## {revision}", "", "| scenario | proxy | fixture | why it fails |", "|---|---|---|---|"]
        for name, scenario in runs["proxy"].items():
            alone = runs["fixture"].get(name)
            title = name if scenario["scored"] else f"{name} (not scored)"
            reason = _escaped("; ".join(scenario["reasons"][:2]))
            lines.append(f"| {title} | {_checks(scenario)} | {_checks(alone)} | {reason} |")
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
