"""Advisories fail, and so does not having been able to ask where an answer is required."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts import audit

SOUND: dict[str, Any] = {"name": "click", "version": "8.5", "vulns": []}
BROKEN = {"name": "h11", "version": "0.1", "vulns": [{"id": "PYSEC-2025-1", "fix_versions": ["0.16"], "aliases": []}]}
HOPELESS = {"name": "old", "version": "1", "vulns": [{"id": "PYSEC-2025-2", "fix_versions": [], "aliases": []}]}
UNKNOWN = {"name": "orjson", "skip_reason": "Dependency not found on PyPI and could not be audited: orjson (3)"}
OURS = {"name": "only1mcp", "skip_reason": "distribution marked as editable"}


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: list[dict[str, Any]] | str, *options: str
) -> str | int | None:
    """Judge what a pip-audit would report; return with what it is left."""
    text = report if isinstance(report, str) else json.dumps({"dependencies": report, "fixes": []})
    (tmp_path / "report").write_text(text)
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/report\necho 'no network here' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", ["audit", *options, str(program)])
    try:
        audit.main()
    except SystemExit as leaving:
        return leaving.code
    return None


@pytest.mark.parametrize(
    ("report", "optional", "required"),
    [
        ([SOUND, OURS], True, True),
        ([SOUND, BROKEN], False, False),
        ([HOPELESS], False, False),
        ([SOUND, UNKNOWN], True, False),
        ([UNKNOWN], True, False),
        ([OURS], True, False),
        ("", True, False),
    ],
)
def test_what_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: Any, optional: bool, required: bool
) -> None:
    assert (run(monkeypatch, tmp_path, report) is None) is optional
    assert (run(monkeypatch, tmp_path, report, "--require") is None) is required


def test_what_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, tmp_path, [BROKEN, HOPELESS, UNKNOWN])
    assert capsys.readouterr().out.splitlines() == [
        "FAILED  h11 0.1: PYSEC-2025-1, fixed in 0.16",
        "FAILED  old 1: PYSEC-2025-2, fixed in no version",
        "skipped: PyPI's JSON API does not tell of 1 packages: orjson",
        "2 packages looked up, 2 advisories",
    ]
    run(monkeypatch, tmp_path, "")
    assert capsys.readouterr().out == "skipped: the advisories cannot be reached (no network here)\n"
