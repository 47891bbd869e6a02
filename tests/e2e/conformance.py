"""Runs the official conformance suite against a server, or a client, and reads what each of its scenarios found."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e import third_party
from tests.e2e.gateway import http_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server

# For each revision the era that the fixture is held to: its own, and the other one, which the proxy has to bridge.
ERAS = {
    "2025-11-25": {"proxy": "handshake", "bridged": "stateless"},
    "2026-07-28": {"proxy": "stateless", "bridged": "handshake"},
}
# The clients that stand before the proxy when the suite is its backend, as the official SDK calls their modes: one of
# the era of the revision, and one of the other.
CLIENTS = {
    "2025-11-25": {"same era": "legacy", "bridged": "2026-07-28"},
    "2026-07-28": {"same era": "2026-07-28", "bridged": "legacy"},
}
# The proxy is no OAuth client: what it shows a backend is in its configuration.
NOT_OURS = "auth/"
RECORD = third_party.ROOT / "docs" / "conformance.json"
FIXTURE = third_party.SERVERS / "conformance_server.py"
# Of what the official SDK does not have yet.
TASKS_FIXTURE = third_party.SERVERS / "tasks_server.py"
SUITE_TIMEOUT_S = 180.0
CLIENT_TIMEOUT_MS = 120_000
REASON_LENGTH = 200

# One scenario: {"scored": bool, "passed": checks, "failed": checks, "warnings": checks, "reasons": [why]}
Scenario = dict[str, Any]


def suite_version() -> str:
    manifest = third_party.NODE_SOURCES / "conformance" / "package.json"
    dependencies: dict[str, str] = json.loads(manifest.read_text())["dependencies"]
    return dependencies["@modelcontextprotocol/conformance"]


def run(url: str, revision: str, directory: Path) -> dict[str, Scenario]:
    """Run every scenario of the revision, in the suite's order; `directory` receives what the suite saves."""
    node, suite = third_party.conformance_suite()
    scored = _required(suite, revision)
    command = [str(node), str(suite), "server", "--url", url, "--requirements", revision, "-o", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SUITE_TIMEOUT_S, check=False)
    (directory / "output.txt").write_text(done.stdout + done.stderr)
    found = {}
    for name in re.findall(r"^=== Running scenario: (\S+) ===$", done.stdout, re.MULTILINE):
        (saved,) = directory.glob(f"server-{name}-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*/checks.json")
        found[name] = _scenario(json.loads(saved.read_text()), name in scored)
    missing = scored - found.keys()
    if missing:
        raise RuntimeError(f"the suite did not run {sorted(missing)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found


def run_alone(python: Path, revision: str, directory: Path) -> dict[str, Scenario]:
    """Run the suite against the fixture, held to the era of the revision."""
    with _fixture(python, ERAS[revision]["proxy"], directory) as fixture:
        return run(fixture.url, revision, directory)


def run_through_proxy(python: Path, revision: str, era: str, directory: Path) -> dict[str, Scenario]:
    """Run the suite against a proxy whose backends are the fixture, held to `era`, and the server of the tasks."""
    with (
        _fixture(python, era, directory) as fixture,
        Server(python, TASKS_FIXTURE, directory / "tasks.log") as tasks,
        Proxy(directory, [http_backend("fixture", fixture.url), http_backend("tasks", tasks.url)]) as proxy,
    ):
        wait_for_tools(proxy, "test_simple_text", "greet")
        return run(proxy.url, revision, directory)


def client_scenarios(revision: str) -> dict[str, bool]:
    """Return the scenarios of the client role that concern a proxy, and whether the revision requires them."""
    _, suite = third_party.conformance_suite()
    scored = _required(suite, revision, "client")
    others = re.findall(r"scenario: (\S+)\n    leg: client$", _requirements(suite, revision), re.MULTILINE)
    return {name: name in scored for name in [*sorted(scored), *others] if not name.startswith(NOT_OURS)}


def run_as_client(python: Path, revision: str, kind: str, directory: Path) -> dict[str, Scenario]:
    """Run the suite as the only backend of a proxy (a new one for each scenario) with a client before it."""
    node, suite = third_party.conformance_suite()
    client = [sys.executable, "-m", "tests.e2e.conformance_client", str(python), CLIENTS[revision][kind]]
    found = {}
    for name, scored in client_scenarios(revision).items():
        command = [str(node), str(suite), "client", "--command", shlex.join(client), "--scenario", name]
        command += ["--spec-version", revision, "--timeout", str(CLIENT_TIMEOUT_MS), "-o", str(directory)]
        done = subprocess.run(
            command, cwd=third_party.ROOT, capture_output=True, text=True, timeout=SUITE_TIMEOUT_S, check=False
        )
        (saved,) = directory.glob(f"{name}-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*/checks.json")
        found[name] = _scenario(json.loads(saved.read_text()), scored)
        ended = re.search(r"^Client (exited with code \d+|timed out after \d+ms)$", done.stderr, re.MULTILINE)
        if ended is not None:
            found[name]["failed"] += 1
            found[name]["reasons"].append(f"the client {ended.group(1)}")
    return found


def passes(scenario: Scenario) -> bool:
    return scenario["passed"] > 0 and scenario["failed"] == 0


def _fixture(python: Path, era: str, directory: Path) -> Server:
    return Server(python, FIXTURE, directory / "fixture.log", "--era", era)


def _required(suite: Path, revision: str, leg: str = "server") -> set[str]:
    section = re.search(rf"^{leg}:\n((?:  - \S+\n)+)", _requirements(suite, revision), re.MULTILINE)
    assert section is not None, revision
    return set(re.findall(r"^  - (\S+)$", section.group(1), re.MULTILINE))


def _requirements(suite: Path, revision: str) -> str:
    return (suite.parents[1] / "requirements" / f"{revision}.yaml").read_text()


def _scenario(checks: list[dict[str, Any]], scored: bool) -> Scenario:
    def having(status: str) -> list[dict[str, Any]]:
        return [check for check in checks if check["status"] == status]

    wrong = [*having("FAILURE"), *having("WARNING")]
    reasons = [f"{check['id']}: {' '.join(str(check.get('errorMessage')).split())}" for check in wrong]
    return {
        "scored": scored,
        "passed": len(having("SUCCESS")),
        "failed": len(having("FAILURE")),
        "warnings": len(having("WARNING")),
        "reasons": [reason[:REASON_LENGTH] for reason in reasons],
    }
