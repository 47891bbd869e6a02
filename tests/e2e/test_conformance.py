"""The official conformance suite against the proxy: what the record in docs/conformance.json says passes must pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e import conformance

RUNS = [(revision, kind) for revision, kinds in conformance.ERAS.items() for kind in kinds]


@pytest.mark.parametrize(("revision", "kind"), RUNS)
def test_scenarios_that_passed_still_pass(
    tmp_path: Path, sdk: Path, conformance_suite: None, revision: str, kind: str
) -> None:
    record = json.loads(conformance.RECORD.read_text())
    expected = {name for name, each in record["revisions"][revision][kind].items() if conformance.passes(each)}
    assert expected, "the record says that nothing passes"
    found = conformance.run_through_proxy(sdk, revision, conformance.ERAS[revision][kind], tmp_path)
    broken = {name: found.get(name) for name in expected if name not in found or not conformance.passes(found[name])}
    assert broken == {}
