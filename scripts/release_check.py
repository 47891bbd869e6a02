"""Says whether this checkout can be released as a version: `python -m scripts.release_check VERSION [--base REVISION]`.

Looked at are the version in the package, the tag, the work tree, the section of the changelog and how far it lets the
version rise, upgrade notes for breaking changes, and the benchmark results against those of the last release, or of
`--base`. Each check that fails says how to mend it. What nothing here can know is printed as a list to go through.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEMVER = re.compile(
    r"(?P<numbers>(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*))"
    r"(-(?P<pre>(0|[1-9]\d*|\d*[A-Za-z-][\dA-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][\dA-Za-z-]*))*))?"
    r"(?P<build>\+[\dA-Za-z-]+(\.[\dA-Za-z-]+)*)?",
    re.ASCII,
)
VERSION_FILE = "src/only1mcp/__init__.py"
CHANGELOG = "CHANGELOG.md"
RESULTS = "benches/results/loopback.json"
SUBJECT = "only1mcp"
# The kinds of entries of Keep a Changelog; `Breaking` comes first, `Upgrading` says what to do about it.
BREAKING, UPGRADING = "Breaking", "Upgrading"
SECTIONS = (BREAKING, UPGRADING, "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
# A row of the benchmark has become worse when it costs more than this much more.
REGRESSION = 0.05
GIT_TIMEOUT_S = 60


class Failed(Exception):
    """A check has failed: what is wrong, and how to mend it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


@dataclass(frozen=True)
class Section:
    """One version of the changelog: its entries by their kind."""

    version: str
    date: str
    entries: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """What is to be released, and from where."""

    root: Path
    version: str
    base: str | None = None

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def git(self, *arguments: str) -> str | None:
        """Return what git prints, None when it fails."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
        return done.stdout if done.returncode == 0 else None

    def last_tag(self) -> str | None:
        """Return the highest release that this commit contains, other than this one."""
        told = self.git("tag", "--list", "v*", "--merged", "HEAD") or ""
        tags = [tag for tag in told.split() if tag != self.tag and SEMVER.fullmatch(tag[1:])]
        return max(tags, key=lambda tag: precedence(tag[1:]), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.release_check", description=__doc__)
    parser.add_argument("version", help="such as 1.2.0, 1.2.0-beta.1 or v1.2.0")
    parser.add_argument("--base", help="the revision to compare benchmark results with (the last release)")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout (here)")
    parser.add_argument("--github", action="store_true", help="tell the following jobs what is released")
    options = parser.parse_args()
    release = Release(options.root.resolve(), options.version.removeprefix("v"), options.base)
    failed = 0
    # What is no version has neither a tag nor a section.
    checks = CHECKS if SEMVER.fullmatch(release.version) else CHECKS[:1]
    for name, check in checks:
        try:
            said = check(release)
        except Failed as failure:
            failed += 1
            print(f"FAILED  {name}: {failure.what}\n        to mend: {failure.mend}")
        else:
            print(f"ok      {name}: {said}")
    if checks is CHECKS:
        print(CHECKLIST.format(tag=release.tag, version=release.version, mark=" " if failed else "x"))
    if options.github and not failed:
        tell_github(release)
    if failed:
        sys.exit(f"{failed} of {len(checks)} checks failed: {release.tag!r} cannot be released from here")


def tell_github(release: Release) -> None:
    """Write the outputs of the step: `version`, `minor` (1.2 of 1.2.3) and `stage` (final, or alpha, beta, rc)."""
    matched = SEMVER.fullmatch(release.version)
    assert matched is not None
    stage = matched["pre"].partition(".")[0] if matched["pre"] else "final"
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as file:
        file.write(f"version={release.version}\nminor={matched['numbers'].rpartition('.')[0]}\nstage={stage}\n")


def check_version(release: Release) -> str:
    matched = SEMVER.fullmatch(release.version)
    if matched is None:
        raise Failed(
            f"{release.version!r} is no semantic version", "MAJOR.MINOR.PATCH, or with -alpha.N, -beta.N or -rc.N"
        )
    if matched["build"]:
        raise Failed(
            "build metadata cannot be published: PyPI refuses it", f"release {release.version.partition('+')[0]}"
        )
    if matched["pre"] and not re.fullmatch(r"(alpha|beta|rc)\.\d+", matched["pre"]):
        raise Failed(f"-{matched['pre']} is no stage of a release", "use -alpha.N, -beta.N or -rc.N")
    found = re.findall(r'^__version__ = "(.*)"$', release.read(VERSION_FILE), re.MULTILINE)
    if found != [release.version]:
        raise Failed(
            f"{VERSION_FILE} says {', '.join(found) or 'nothing'}", f'write __version__ = "{release.version}" there'
        )
    return f"{release.version} in {VERSION_FILE}"


def check_tag(release: Release) -> str:
    if os.environ.get("GITHUB_REF_TYPE") == "tag" and os.environ.get("GITHUB_REF_NAME") != release.tag:
        raise Failed(
            f"the run is for the tag {os.environ.get('GITHUB_REF_NAME')}",
            f"delete it and push one that is {release.tag}",
        )
    kind = (release.git("cat-file", "-t", f"refs/tags/{release.tag}") or "").strip()
    if not kind:
        return f"{release.tag} is free"
    tagged, head = (release.git("rev-parse", f"{name}^{{commit}}") for name in (f"refs/tags/{release.tag}", "HEAD"))
    if tagged != head:
        raise Failed(
            f"{release.tag} exists, and is another commit",
            f"a tag that was pushed is not moved: release the next version; else git tag -d {release.tag}",
        )
    if kind != "tag":
        raise Failed(
            f"{release.tag} has neither author nor message",
            f'git tag -d {release.tag}; git tag -a {release.tag} -m "Release {release.version}"',
        )
    return f"{release.tag} is this commit"


def check_tree(release: Release) -> str:
    told = release.git("status", "--porcelain")
    if told is None:
        raise Failed("this is no git checkout", "release from a clone")
    if told:
        lines = told.splitlines()
        raise Failed(f"{len(lines)} files are not as committed, such as {lines[0][3:]}", "commit, stash or remove them")
    return "everything is committed"


def check_changelog(release: Release) -> str:
    section = section_of(release)
    try:
        dt.date.fromisoformat(section.date)
    except ValueError:
        raise Failed(
            f"the section has the date {section.date or 'of no day'!r}", f"## [{release.version}] - YYYY-MM-DD"
        ) from None
    if not any(section.entries.values()):
        raise Failed("the section is empty", "say what users get; a release without a change is none")
    unknown = [name for name in section.entries if name not in SECTIONS]
    if unknown:
        raise Failed(f"there is a part {unknown[0]!r}", f"use one of {', '.join(SECTIONS)}")
    if BREAKING in section.entries and next(iter(section.entries)) != BREAKING:
        raise Failed("breaking changes are not the first of the section", f"move ### {BREAKING} to its top")
    first, *_ = sections(release)
    if first.version != "Unreleased" or any(first.entries.values()):
        raise Failed(
            "the changelog does not begin with an empty section Unreleased",
            f"leave ## [Unreleased] at the top, and move its entries to ## [{release.version}]",
        )
    return f"{sum(map(len, section.entries.values()))} entries of {section.date}"


def check_rise(release: Release) -> str:
    """MAJOR for what breaks, MINOR for what is new, PATCH for the rest; before 1.0.0 MINOR for what breaks."""
    last = release.last_tag()
    if last is None:
        return "no release before it"
    old, new = precedence(last[1:]), precedence(release.version)
    if new <= old:
        raise Failed(f"{release.version} does not come after {last}", "choose a higher version")
    section = section_of(release)
    breaks = bool(section.entries.get(BREAKING) or section.entries.get("Removed"))
    adds = bool(section.entries.get("Added") or section.entries.get("Deprecated"))
    # What a release has in common with its own pre-releases counts as risen once.
    needed = 0 if breaks and old[0][0] else 1 if breaks or adds else 2
    risen = next((place for place in range(3) if new[0][place] != old[0][place]), 3)
    if risen > needed and not (risen == 3 and is_start(new[0], needed)):
        word = ("MAJOR", "MINOR", "PATCH")[needed]
        raise Failed(
            f"the changelog has {'breaking changes' if breaks else 'new features'} and {last} is the version before",
            f"raise {word}, or file the entries under another heading if that is what they are",
        )
    return f"after {last}"


def is_start(numbers: tuple[int, ...], place: int) -> bool:
    """Whether everything after the place is 0: 1.2.0 after 1.2.0-rc.1 has the features that 1.2 has."""
    return not any(numbers[place + 1 :])


def check_upgrading(release: Release) -> str:
    section = section_of(release)
    if not (section.entries.get(BREAKING) or section.entries.get("Removed")):
        return "nothing breaks"
    if not section.entries.get(UPGRADING):
        raise Failed(
            "something breaks and nothing says what to do about it",
            f"write ### {UPGRADING} after ### {BREAKING}, with what to change in configuration, clients or deployment",
        )
    return "there is something about upgrading"


def check_benchmarks(release: Release) -> str:
    base = release.base or release.last_tag()
    if base is None:
        return "no results before these"
    told = release.git("show", f"{base}:{RESULTS}")
    if told is None:
        if release.base is None:
            return f"{base} has no results"
        raise Failed(f"{base} has no {RESULTS}", "give --base a revision that has it")
    before, now = json.loads(told)["rows"], json.loads(release.read(RESULTS))["rows"]
    if before == now and release.git("diff", "--quiet", base, "HEAD", "--", "src") is None:
        raise Failed(f"the sources have changed since {base}, the results have not", "make bench")
    worse = list(regressions(before, now))
    if worse:
        raise Failed(
            f"more than {REGRESSION:.0%} worse than {base}: {', '.join(worse)}",
            "python -m scripts.compare_bench tells where from; if it is noise, run make bench again on a quiet machine",
        )
    return f"{len(before.keys() & now.keys())} rows, none more than {REGRESSION:.0%} worse than {base}"


def regressions(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield what has become worse, by each row's own measure: a ratio to nginx in the same run, or a figure of ours."""
    for key, old in before.items():
        new = now.get(key)
        if new is None:
            yield f"{key} (is not measured any more)"
            continue
        was, value = old.get("measured"), new.get("measured")
        if was is None or old.get("metric") != new.get("metric") or old.get("kind") != new.get("kind"):
            continue
        if value is None:
            yield f"{key} (has no result)"
            continue
        change = value / was - 1 if was else 0.0
        if (change if old["sense"] == "at most" else -change) > REGRESSION:
            yield f"{key} ({was:g} -> {value:g})"


def sections(release: Release) -> Iterator[Section]:
    """Yield the sections of the changelog in their order, entries by kind."""
    section: Section | None = None
    kind = ""
    for line in release.read(CHANGELOG).splitlines():
        heading = re.fullmatch(r"## \[(.+?)\](?: - (.*))?", line)
        if heading is not None:
            if section is not None:
                yield section
            section, kind = Section(heading[1], heading[2] or ""), ""
        elif section is not None and line.startswith("### "):
            kind = line.removeprefix("### ").strip()
            section.entries.setdefault(kind, [])
        elif section is not None and line.startswith(("- ", "* ")):
            section.entries.setdefault(kind, []).append(line)
    if section is not None:
        yield section


def section_of(release: Release) -> Section:
    found = [section for section in sections(release) if section.version == release.version]
    if len(found) != 1:
        raise Failed(
            f"{CHANGELOG} has {len(found) or 'no'} sections ## [{release.version}]",
            f"write one ## [{release.version}] - YYYY-MM-DD, with what is under Unreleased",
        )
    return found[0]


def precedence(version: str) -> tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]:
    """Return what versions are ordered by (SemVer 11): numbers, releases after pre-releases, then their parts."""
    matched = SEMVER.fullmatch(version)
    if matched is None:
        raise Failed(f"{version!r} is no semantic version", "MAJOR.MINOR.PATCH, or with -alpha.N, -beta.N or -rc.N")
    numbers = tuple(map(int, matched["numbers"].split(".")))
    parts = (matched["pre"] or "").split(".") if matched["pre"] else []
    return numbers, not parts, tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)


CHECKS: tuple[tuple[str, Callable[[Release], str]], ...] = (
    ("version", check_version),
    ("tag", check_tag),
    ("tree", check_tree),
    ("changelog", check_changelog),
    ("rise", check_rise),
    ("upgrading", check_upgrading),
    ("benchmarks", check_benchmarks),
)

CHECKLIST = """
Seven days before
  [{mark}] version, tag, changelog, upgrade notes and benchmarks are as they should be (above)
  [ ] every check passes on main: the workflow `ci`
  [ ] make audit knows of no vulnerability, make licenses of no licence that must not be there
  [ ] README and docs/ say what this version does; docs/operations has what operators have to do
On the day
  [ ] git tag -a {tag} -m "Release {version}" && git push origin {tag}
  [ ] the workflow `release` has published: GitHub release with SHA256SUMS and attestations, PyPI, images, staging
  [ ] the smoke tests on staging pass; then approve `production` (not for pre-releases)
The day after
  [ ] error rates and latencies in production are what they were
  [ ] announce it, close the milestone, look through new issues
A week after
  [ ] what went well, what did not: change docs/release.md accordingly"""


if __name__ == "__main__":
    main()
