"""The loopback benchmark runs from end to end, checks the answers of both proxies and writes its table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benches.loopback import stage
from benches.loopback.table import render
from tests.e2e.third_party import ROOT


@pytest.mark.skipif(stage.NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("has_wrk", [True, False], ids=["wrk", "own load"])
def test_one_short_round(tmp_path: Path, has_wrk: bool) -> None:
    if has_wrk and stage.WRK is None:
        pytest.skip("wrk is not installed")
    output = tmp_path / "loopback.json"
    command = [sys.executable, "-m", "benches.loopback", "--rounds", "1", "--seconds", "1", "--output", str(output)]
    cases = ["stateless", "handshake"] if has_wrk else ["stateless", "--own-load"]
    done = subprocess.run(
        [*command, "--cases", *cases], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(output.read_text())
    for case in report["cases"].values():
        for who in ("nginx", "only1mcp"):
            assert case[who]["median"]["cpu_us"] > 0
            assert case[who]["rounds"][0]["requests"] > 100
    table = render(report)
    assert table in done.stdout
    assert table.count("| only1mcp |") == len(report["cases"])
