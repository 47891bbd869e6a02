"""The official conformance suite against the proxy: what the record in docs/conformance.json says passes must pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e import conformance

RUNS = [(revision, kind) for revision, kinds in conformance.ERAS.items() for kind in kinds]


CLIENT_RUNS = [(revision, kind) for revision, kinds in conformance.CLIENTS.items() for kind in kinds]


@pytest.mark.parametrize(("revision", "kind"), RUNS)
def test_scenarios_that_passed_still_pass(
    tmp_path: Path, sdk: Path, conformance_suite: None, revision: str, kind: str
) -> None:
    found = conformance.run_through_proxy(sdk, revision, conformance.ERAS[revision][kind], tmp_path)
    assert broken(found, "revisions", revision, kind) == {}


@pytest.mark.parametrize(("revision", "kind"), CLIENT_RUNS)
def test_what_passed_with_the_suite_as_backend_still_passes(
    tmp_path: Path, sdk: Path, conformance_suite: None, revision: str, kind: str
) -> None:
    assert broken(conformance.run_as_client(sdk, revision, kind, tmp_path), "clients", revision, kind) == {}


def broken(found: dict[str, conformance.Scenario], *where: str) -> dict[str, conformance.Scenario | None]:
    """Return what passes by the record, and did not now."""
    record = json.loads(conformance.RECORD.read_text())
    for key in where:
        record = record[key]
    expected = {name for name, each in record.items() if conformance.passes(each)}
    assert expected, "the record says that nothing passes"
    return {name: found.get(name) for name in expected if name not in found or not conformance.passes(found[name])}
