"""README and chart show the results that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import render_bench


def test_readme_and_chart_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["render_bench", "--check"])
    render_bench.main()


def test_what_is_out_of_date_is_named_then_put_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readme, chart = tmp_path / "README.md", tmp_path / "docs" / "bench.svg"
    peers = f"{render_bench.PEERS_START}{render_bench.PEERS_END}"
    readme.write_text(f"before\n{render_bench.START}\nold\n{render_bench.END}\n{peers}\nafter\n")
    chart.parent.mkdir()
    results = tmp_path / "loopback.json"
    results.write_text(render_bench.RESULTS.read_text())
    for name, value in {"ROOT": tmp_path, "README": readme, "CHART": chart, "RESULTS": results}.items():
        monkeypatch.setattr(render_bench, name, value)

    monkeypatch.setattr("sys.argv", ["render_bench", "--check"])
    with pytest.raises(SystemExit, match=r"README\.md does not show the results that are kept"):
        render_bench.main()
    monkeypatch.setattr("sys.argv", ["render_bench"])
    render_bench.main()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "](docs/bench.svg)" in text
    assert "old" not in text
    assert "| gateway |" in text
    monkeypatch.setattr("sys.argv", ["render_bench", "--check"])
    render_bench.main()
