"""Memory as the collector reads it from the system; what it renders is tested with `Metrics`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from only1mcp.metrics_collector import resident_bytes


def test_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    assert before is not None
    assert before > 5 << 20
    block = bytearray(os.urandom(1) * (32 << 20))
    after = resident_bytes()
    assert after is not None
    assert after - before > 24 << 20
    del block


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells neither")
def test_without_proc_memory_is_the_peak(tmp_path: Path) -> None:
    now = resident_bytes()
    garbled = tmp_path / "statm"
    garbled.write_bytes(b"many pages\n")
    for statm in (tmp_path / "absent", garbled):
        peak = resident_bytes(statm)
        assert peak is not None
        assert now is not None
        assert now - (1 << 20) <= peak < 100 * now
