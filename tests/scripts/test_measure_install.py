"""What is measured was used before; what does not do what it should has no row."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts import measure_install, render_install

PROGRAM = Path(sys.executable).with_name("only1mcp")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr("sys.argv", ["measure_install", *map(str, arguments)])
    measure_install.main()


def script(folder: Path, text: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_a_command_is_used_then_measured_then_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "install.json"
    output.write_text(json.dumps([{"artifact": "another"}]))
    used = tmp_path / "used"
    program = script(tmp_path, f'echo "$1 $2" >> {used}\nexec {PROGRAM} "$@"')
    run(monkeypatch, program, "--rounds", "2", "--output", output)
    another, row = json.loads(output.read_text())
    assert another == {"artifact": "another"}
    assert [row] == json.loads(capsys.readouterr().out)
    assert (row["artifact"], row["size_bytes"]) == ("program", program.stat().st_size)
    assert 0 < row["start_ms"] < row["first_call_ms"]
    assert row["verified"].startswith("where it lies; 20")
    # Used first; then each once, so that its files are in memory, and twice to be measured.
    assert used.read_text().splitlines() == ["start --demo", *["--version "] * 3, *["start --config"] * 3]
    assert "| `program` |" in render_install.table([row])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", r"program: .*\(3\) before it listened"),
        (f'[ "$1" = start ] && exec {PROGRAM} "$@"; exit 3', "program: .*returned non-zero exit status 3"),
        (
            f'[ "$2" != --config ] && exec {PROGRAM} "$@"; echo "no such option"',
            "program: the first call: not within 0.2 s",
        ),
    ],
    ids=["does not start", "knows no version", "does not serve"],
)
def test_what_does_not_work_has_no_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str) -> None:
    monkeypatch.setattr(measure_install, "FIRST_CALL_S", 0.2)
    output = tmp_path / "install.json"
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, script(tmp_path, text), "--rounds", "1", "--output", output)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "missing: expected a wheel"),
        ("notes.txt", "notes.txt: expected a wheel"),
        ("image.tar", "image.tar: (expected the archive of one image|an image can be entered by root only)"),
    ],
)
def test_what_is_no_artifact_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, said: str) -> None:
    if name != "missing":
        (tmp_path / name).write_text("text")
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, tmp_path / name)


def test_wrong_rounds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, PROGRAM, "--rounds", "0")
    assert "--rounds: expected 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("known", "fresh"),
    [
        (
            "only1mcp-0.1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            "only1mcp-1.10.2-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        ("only1mcp-0.1.0.tar.gz", "only1mcp-0.2.0rc1.tar.gz"),
        ("only1mcp:0.1.0", "only1mcp:0.2.0-rc.1"),
        ("only1mcp-linux-x86_64", "only1mcp-linux-x86_64"),
    ],
)
def test_a_row_takes_the_place_of_that_of_another_version(known: str, fresh: str) -> None:
    def row(artifact: str, size: int) -> dict[str, Any]:
        return {"artifact": artifact, "size_bytes": size}

    others = [row("only1mcp-0.1.0-cp312-cp312-manylinux_2_28_x86_64.whl", 1), row("only1mcp-linux-aarch64", 1)]
    rows = measure_install.merged([others[0], row(known, 1), others[1]], [row(fresh, 2)])
    assert rows == [others[0], row(fresh, 2), others[1]]
