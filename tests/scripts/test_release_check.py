"""A checkout that can be released, and each way in which one cannot, with the way out of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scripts import release_check
from scripts.release_check import BREAKING, UPGRADING, precedence

OLD = "## [1.1.0] - 2026-01-02\n\n### Added\n\n- The first thing.\n"
ROWS: dict[str, dict[str, Any]] = {
    "call": {"kind": "ratio", "metric": "cpu_us", "sense": "at most", "measured": 1.0},
    "rate": {"kind": "figure", "metric": "rps", "sense": "at least", "measured": 1000},
}


class Checkout:
    """A git checkout at the release before; `release` makes it one that can be released as 1.2.0."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("src/only1mcp/__init__.py", '"""x"""\n\n__version__ = "1.1.0"\n')
        self.changelog("", OLD)
        self.results(ROWS)
        self.commit()
        self.git("tag", "-a", "v1.1.0", "-m", "x")

    def git(self, *arguments: str) -> str:
        identity = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "tag.gpgsign=false",
        ]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def changelog(self, unreleased: str, *sections: str) -> None:
        self.write("CHANGELOG.md", "\n".join(["# Changelog\n", f"## [Unreleased]\n{unreleased}", *sections]))

    def results(self, rows: dict[str, dict[str, Any]]) -> None:
        self.write("benches/results/loopback.json", json.dumps({"format": 2, "rows": rows}))

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", "x")

    def release(
        self, version: str = "1.2.0", entries: str = "### Added\n\n- Something.\n", date: str = "2026-03-04"
    ) -> None:
        self.write("src/only1mcp/__init__.py", f'__version__ = "{version}"\n')
        self.changelog("", f"## [{version}] - {date}\n\n{entries}", OLD)
        self.results({**ROWS, "call": {**ROWS["call"], "measured": 1.04}})
        self.commit()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def check(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, str]]:
    """Return what fails, by the name of the check, with the way to mend it."""
    for name in ("GITHUB_REF_TYPE", "GITHUB_REF_NAME"):
        monkeypatch.delenv(name, raising=False)

    def run(version: str = "1.2.0", *options: str) -> dict[str, str]:
        monkeypatch.setattr("sys.argv", ["release_check", version, "--root", str(checkout.root), *options])
        status: Any = None
        try:
            release_check.main()
        except SystemExit as leaving:
            status = leaving.code
        lines = capsys.readouterr().out.splitlines()
        failed = {
            line.split()[1].rstrip(":"): line + lines[number + 1]
            for number, line in enumerate(lines)
            if line.startswith("FAILED")
        }
        assert all(" to mend: " in told for told in failed.values())
        assert bool(failed) == bool(status), status
        assert ("  [x] version" in "\n".join(lines)) == (not failed)
        is_version = "no semantic version" not in failed.get("version", "")
        assert (f"git push origin v{version.removeprefix('v')}" in "\n".join(lines)) == is_version
        return failed

    return run


def test_a_checkout_that_can_be_released(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    checkout.release()
    assert check() == {}
    assert check("v1.2.0") == {}
    checkout.git("tag", "-a", "v1.2.0", "-m", "Release 1.2.0")
    assert check() == {}


def test_the_following_jobs_are_told(
    checkout: Checkout, check: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / ".git" / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(told))
    checkout.release("1.2.0-beta.3")
    assert check("v1.2.0-beta.3", "--github") == {}
    checkout.release()
    assert check("v1.2.0", "--github") == {}
    assert told.read_text() == ("version=1.2.0-beta.3\nminor=1.2\nstage=beta\nversion=1.2.0\nminor=1.2\nstage=final\n")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.2", "no semantic version"),
        ("01.2.0", "no semantic version"),
        ("1.2.0\n", "no semantic version"),
        ("1.2.0-01", "no semantic version"),
        ("", "no semantic version"),
        ("$(id)", "no semantic version"),
        ("1.2.0+build.1", "PyPI refuses it"),
        ("1.2.0-nightly", "no stage of a release"),
        ("1.2.0-beta", "no stage of a release"),
        ("1.3.0", "__init__.py says 1.2.0"),
    ],
)
def test_versions(checkout: Checkout, check: Callable[..., dict[str, str]], version: str, said: str) -> None:
    checkout.release()
    assert said in check(version)["version"]


def test_the_tag(checkout: Checkout, check: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.release()
    checkout.git("tag", "v1.2.0")
    assert "neither author nor message" in check()["tag"]
    checkout.commit()
    assert "is another commit" in check()["tag"]
    monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
    monkeypatch.setenv("GITHUB_REF_NAME", "1.2.0")
    assert "the run is for the tag 1.2.0" in check()["tag"]


def test_the_tree(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    checkout.release()
    checkout.write("left over.txt", "x")
    assert "left over.txt" in check()["tree"]


@pytest.mark.parametrize(
    ("entries", "date", "said"),
    [
        ("", "2026-03-04", "is empty"),
        ("### Added\n", "2026-03-04", "is empty"),
        ("### Added\n\n- x\n", "soon", "has the date 'soon'"),
        ("### Added\n\n- x\n", "2026-02-30", "has the date '2026-02-30'"),
        ("### Improved\n\n- x\n", "2026-03-04", "a part 'Improved'"),
        (f"### Added\n\n- x\n\n### {BREAKING}\n\n- y\n", "2026-03-04", "not the first"),
    ],
)
def test_the_changelog(
    checkout: Checkout, check: Callable[..., dict[str, str]], entries: str, date: str, said: str
) -> None:
    checkout.release(entries=entries, date=date)
    assert said in check()["changelog"]


def test_what_is_unreleased_is_not_forgotten(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    checkout.release()
    section = "## [1.2.0] - 2026-03-04\n\n### Added\n\n- x\n"
    checkout.changelog("\n### Added\n\n- forgotten\n", section, OLD)
    assert "empty section Unreleased" in check()["changelog"]
    checkout.changelog("", OLD)
    assert "no sections ## [1.2.0]" in check()["changelog"]
    checkout.changelog("", section, section, OLD)
    assert "2 sections ## [1.2.0]" in check()["changelog"]


ADDED, FIXED = "### Added\n\n- x\n", "### Fixed\n\n- x\n"
BROKEN = f"### {BREAKING}\n\n- x\n\n### {UPGRADING}\n\n- y\n"
REMOVED = f"### {UPGRADING}\n\n- y\n\n### Removed\n\n- x\n"


@pytest.mark.parametrize(
    ("last", "version", "entries", "said"),
    [
        ("1.1.0", "1.1.1", FIXED, None),
        ("1.1.0", "1.1.1", ADDED, "raise MINOR"),
        ("1.1.0", "1.2.0", ADDED, None),
        ("1.1.0", "1.2.0", BROKEN, "raise MAJOR"),
        ("1.1.0", "1.2.0", REMOVED, "raise MAJOR"),
        ("1.1.0", "2.0.0", BROKEN, None),
        ("1.1.0", "1.0.9", FIXED, "does not come after"),
        ("1.1.0", "1.1.0-rc.1", FIXED, "does not come after"),
        ("1.2.0-rc.1", "1.2.0", ADDED, None),
        ("1.2.1-rc.1", "1.2.1", ADDED, "raise MINOR"),
        ("2.0.0-beta.9", "2.0.0-beta.10", BROKEN, None),
        ("0.9.0", "0.9.1", BROKEN, "raise MINOR"),
        ("0.9.0", "0.10.0", BROKEN, None),
    ],
)
def test_how_far_it_rises(
    checkout: Checkout,
    check: Callable[..., dict[str, str]],
    last: str,
    version: str,
    entries: str,
    said: str | None,
) -> None:
    checkout.git("tag", "-d", "v1.1.0")
    checkout.git("tag", f"v{last}")
    checkout.git("tag", "very-much-else")
    checkout.release(version, entries)
    found = check(version)
    assert said is None or said in found["rise"]
    assert (said is None) == (found == {}), found


def test_what_breaks_comes_with_what_to_do(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    for heading in (BREAKING, "Removed"):
        checkout.release("2.0.0", f"### {heading}\n\n- x\n")
        assert f"write ### {UPGRADING}" in check("2.0.0")["upgrading"]


@pytest.mark.parametrize(
    ("row", "value", "said"),
    [
        ("call", 1.06, "call (1 -> 1.06)"),
        ("rate", 940, "rate (1000 -> 940)"),
        ("call", None, "call (has no result)"),
        ("call", ..., "call (is not measured any more)"),
        ("call", 1.049, None),
        ("call", 0.5, None),
        ("rate", 5000, None),
    ],
)
def test_benchmarks(
    checkout: Checkout, check: Callable[..., dict[str, str]], row: str, value: Any, said: str | None
) -> None:
    checkout.release()
    rows = {name: dict(found) for name, found in ROWS.items()}
    if value is ...:
        del rows[row]
    else:
        rows[row]["measured"] = value
    checkout.results(rows)
    checkout.commit()
    failed = check()
    assert (said is None) == (failed == {})
    assert said is None or said in failed["benchmarks"]


def test_benchmarks_of_other_sources_do_not_count(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    checkout.release()
    checkout.results(ROWS)
    checkout.commit()
    assert "the results have not" in check()["benchmarks"]


def test_a_base_can_be_given(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    checkout.release()
    rows = {**ROWS, "call": {**ROWS["call"], "measured": 1.2}}
    checkout.results(rows)
    checkout.commit()
    assert "benchmarks" in check()
    checkout.git("tag", "measured")
    checkout.results({**ROWS, "call": {**ROWS["call"], "measured": 1.21}})
    checkout.commit()
    assert check("1.2.0", "--base", "measured") == {}
    assert "give --base a revision" in check("1.2.0", "--base", "nothing")["benchmarks"]


def test_the_first_release_has_nothing_to_compare_with(
    checkout: Checkout, check: Callable[..., dict[str, str]]
) -> None:
    checkout.git("tag", "-d", "v1.1.0")
    checkout.release()
    assert check() == {}


def test_no_checkout_at_all(checkout: Checkout, check: Callable[..., dict[str, str]]) -> None:
    checkout.release()
    (checkout.root / ".git").rename(checkout.root / "not-git")
    assert "no git checkout" in check()["tree"]


def test_versions_are_in_the_order_of_the_specification() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.10.0",
    ]
    assert all(precedence(lower) < precedence(higher) for lower, higher in pairwise(ordered))
