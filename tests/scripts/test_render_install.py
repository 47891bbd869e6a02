"""docs/install.md shows the results that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts import render_install

ROW: dict[str, Any] = {
    "artifact": "one.whl",
    "size_bytes": 4_321_000,
    "start_ms": 123.4,
    "first_call_ms": None,
    "verified": "here | there",
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["render_install", *arguments])
    render_install.main()


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "--check")


def test_what_is_out_of_date_is_named_then_put_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results, page = tmp_path / "install.json", tmp_path / "install.md"
    results.write_text(json.dumps([ROW]))
    page.write_text(f"before\n{render_install.START}\nold\n{render_install.END}\nafter\n")
    for name, value in {"ROOT": tmp_path, "RESULTS": results, "PAGE": page}.items():
        monkeypatch.setattr(render_install, name, value)
    with pytest.raises(SystemExit, match=r"install\.md does not show the results that are kept"):
        run(monkeypatch, "--check")
    run(monkeypatch)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| `one.whl` | 4.3 MB | 123 ms | – | here \\| there |" in text
    assert "old" not in text
    run(monkeypatch, "--check")


def test_a_page_without_its_place_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "install.md"
    page.write_text("nothing\n")
    monkeypatch.setattr(render_install, "PAGE", page)
    with pytest.raises(SystemExit, match="expected <!-- install:table -->"):
        run(monkeypatch)


@pytest.mark.parametrize("row", [{}, {**ROW, "more": 1}, {"artifact": "one.whl"}])
def test_rows_of_another_shape_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="expected artifact, size_bytes"):
        render_install.table([row])
