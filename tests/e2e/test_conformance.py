"""The official conformance suite against the proxy: what the record in docs/conformance.json says passes must pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e import conformance
from tests.e2e.gateway import http_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, sdk: Path, conformance_suite: None) -> Iterator[str]:
    """The URL of a proxy in front of the conformance fixture alone."""
    directory = tmp_path_factory.mktemp("conformance")
    with (
        Server(sdk, conformance.FIXTURE, directory / "fixture.log") as fixture,
        Proxy(directory / "proxy", [http_backend("fixture", fixture.url)]) as proxy,
    ):
        wait_for_tools(proxy, "test_simple_text")
        yield proxy.url


@pytest.mark.parametrize("revision", conformance.REVISIONS)
def test_scenarios_that_passed_still_pass(front: str, tmp_path: Path, revision: str) -> None:
    record = json.loads(conformance.RECORD.read_text())
    expected = {name for name, each in record["revisions"][revision]["proxy"].items() if conformance.passes(each)}
    assert expected, "the record says that nothing passes"
    found = conformance.run(front, revision, tmp_path)
    broken = {name: found.get(name) for name in expected if name not in found or not conformance.passes(found[name])}
    assert broken == {}
