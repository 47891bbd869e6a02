"""A GitHub release has the notes of the changelog and files whose checksums are right; the comment on benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are shell scripts")

GH = r"""#!/bin/sh
printf '%s\n' "call $*" >> {folder}/calls
case "$1 $2" in
    "release view") exit $(cat {folder}/view) ;;
    "release create") cat > {folder}/notes ;;
    "release download") cp {folder}/dist/* "$5"; [ ! -e {folder}/spoilt ] || echo >> "$5/only1mcp-1.2.0.tar.gz" ;;
    "attestation verify") [ "$3" != "$(cat {folder}/forged)" ] ;;
    "api --paginate") cat {folder}/comments ;;
esac
"""
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0-rc.1] - 2026-03-04

### Added

- Not $(this), `nor` that.

## [1.2.0] - 2026-03-05

### Fixed

- The rest.

## [1.1.0] - 2026-01-01

- Old.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with something to release, and a `gh` that writes down what it is asked."""
    (tmp_path / "scripts").mkdir()
    for name in ("github_release.sh", "bench_comment.sh"):
        (tmp_path / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "dist").mkdir()
    for name in ("only1mcp-1.2.0-linux-x86_64", "only1mcp-1.2.0.tar.gz"):
        (tmp_path / "dist" / name).write_text(name)
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(GH.format(folder=tmp_path))
    gh.chmod(0o755)
    (tmp_path / "view").write_text("1")
    (tmp_path / "forged").write_text("none")
    done = make(tmp_path, "checksums")
    assert done.returncode == 0, done.stderr
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def run(folder: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(folder / "scripts" / script), *arguments],
        cwd="/",
        env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def calls(folder: Path) -> list[str]:
    log = folder / "calls"
    return log.read_text().splitlines() if log.exists() else []


def release(folder: Path, version: str = "v1.2.0") -> subprocess.CompletedProcess[str]:
    return run(folder, "github_release.sh", version, str(folder / "dist"), GH_REPO="us/only1mcp")


def test_a_release(folder: Path) -> None:
    done = release(folder)
    assert done.returncode == 0, done.stderr
    dist = folder / "dist"
    files = f"{dist}/SHA256SUMS {dist}/only1mcp-1.2.0-linux-x86_64 {dist}/only1mcp-1.2.0.tar.gz"
    asked = "--repo us/only1mcp --signer-workflow us/only1mcp/.github/workflows/release.yml"
    viewed, created, downloaded, *verified = calls(folder)
    assert [viewed, created] == [
        "call release view v1.2.0",
        f"call release create v1.2.0 --verify-tag --title 1.2.0 --notes-file - {files}",
    ]
    assert downloaded.startswith("call release download v1.2.0 --dir /")
    assert verified == [
        f"call attestation verify {name} {asked}" for name in ("only1mcp-1.2.0-linux-x86_64", "only1mcp-1.2.0.tar.gz")
    ]
    assert not Path(downloaded.rpartition(" ")[2]).exists()
    assert (folder / "notes").read_text().split() == ["###", "Fixed", "-", "The", "rest."]


def test_a_pre_release(folder: Path) -> None:
    assert release(folder, "1.2.0-rc.1").returncode == 0
    assert " --prerelease " in calls(folder)[1]
    assert "Not $(this), `nor` that." in (folder / "notes").read_text()


def test_a_run_done_again_replaces_the_files(folder: Path) -> None:
    (folder / "view").write_text("0")
    assert release(folder).returncode == 0
    assert calls(folder)[1].startswith("call release upload v1.2.0 --clobber ")


def test_what_others_would_not_get_or_not_believe_fails(folder: Path) -> None:
    (folder / "spoilt").touch()
    done = release(folder)
    assert (done.returncode, "only1mcp-1.2.0.tar.gz: FAILED" in done.stdout) == (1, True), done
    (folder / "spoilt").unlink()
    (folder / "forged").write_text("only1mcp-1.2.0.tar.gz")
    done = release(folder)
    assert (done.returncode, "no attestation of us/only1mcp for only1mcp-1.2.0.tar.gz" in done.stderr) == (1, True)


def test_what_is_not_released(folder: Path) -> None:
    for version in ("", "1.2", "v1.2.0 --draft", "--help"):
        assert release(folder, version).returncode == 2
    done = run(folder, "github_release.sh", "1.2.0", str(folder / "dist"), GH_REPO="")
    assert (done.returncode, "GH_REPO must name the repository" in done.stderr) == (2, True)
    done = release(folder, "9.9.9")
    assert (done.returncode, "says nothing about 9.9.9" in done.stderr) == (1, True)
    (folder / "dist" / "only1mcp-1.2.0.tar.gz").write_text("another")
    assert release(folder).returncode == 1
    (folder / "dist" / "SHA256SUMS").unlink()
    done = release(folder)
    assert (done.returncode, "make checksums" in done.stderr) == (1, True)
    assert calls(folder) == []


def test_checksums_are_of_everything_and_not_of_themselves(folder: Path) -> None:
    assert make(folder, "checksums").returncode == 0
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=folder / "dist", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["only1mcp-1.2.0-linux-x86_64: OK", "only1mcp-1.2.0.tar.gz: OK"]


def test_the_comment_on_benchmarks_is_written_once_and_then_replaced(folder: Path) -> None:
    environment = {"GH_REPO": "us/only1mcp", "NUMBER": "7", "REPORT": "<!-- compare-bench -->\nall is well"}
    (folder / "comments").write_text("")
    assert run(folder, "bench_comment.sh", **environment).returncode == 0
    (folder / "comments").write_text("41\n42\n")
    assert run(folder, "bench_comment.sh", **environment).returncode == 0
    writes = [line for line in calls(folder) if "--method" in line]
    assert writes == [
        "call api --method POST repos/us/only1mcp/issues/7/comments --raw-field body=<!-- compare-bench -->",
        "call api --method PATCH repos/us/only1mcp/issues/comments/41 --raw-field body=<!-- compare-bench -->",
    ]
