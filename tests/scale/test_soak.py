"""The soak runs from end to end, finds the proxy's memory flat, and notices a leak and a proxy that gets slower."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.third_party import ROOT
from tests.scale.stage import Numbers

AILING = ROOT / "tests" / "fixtures" / "ailing_proxy.py"


def soak(output: Path, seconds: int, *arguments: str) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "benches.soak", "--seconds", str(seconds), "--output", str(output), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 120, check=False)
    assert output.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(output.read_text()), done.stdout


def test_the_proxy_as_it_is(tmp_path: Path, numbers: Numbers, measured: Callable[[str], None]) -> None:
    status, report, shown = soak(tmp_path / "soak.json", numbers.soak_s)
    assert report["failed"] == 0
    assert report["requests"] > 100 * numbers.soak_s
    assert report["rate_per_s"] == report["maximum_per_s"] / 2
    assert "memory" not in report["reasons"], shown
    # Whether the times are flat in some seconds is up to the machine, too; the verdict must be told either way.
    assert status == (0 if report["flat"] else 1)
    assert shown.splitlines()[-2] == ("flat" if report["flat"] else f"not flat: {', '.join(report['reasons'])}")
    measured(shown.splitlines()[0])


@pytest.mark.parametrize(("ailment", "reason"), [("memory", "memory"), ("time", "CPU a request")])
def test_a_proxy_that_ails(tmp_path: Path, numbers: Numbers, ailment: str, reason: str) -> None:
    program = f"{sys.executable} {AILING} {ailment}"
    status, report, shown = soak(tmp_path / "soak.json", numbers.soak_s, "--rate", "1000", "--program", program)
    assert status == 1
    assert reason in report["reasons"], shown
