"""The workflows run make targets with pinned actions and few rights, and what publishes runs nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
BIN = Path(sys.executable).parent
LINT = ROOT / "scripts" / "lint_workflows.sh"

pytestmark = pytest.mark.skipif(not FILES, reason="there are no workflows here: this is no clone")
by_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)

# What workflows of these kinds do: the stages of the pipeline, each with a job.
STAGES = {
    "ci": {"quality", "suite", "test", "security", "codeql", "gate"},
    "bench": {"measure", "comment"},
    "release": {
        *("check", "ci", "wheel", "sdist", "binary", "image", "image-index", "github-release", "pypi"),
        *("staging", "production", "gate"),
    },
}
# Jobs whose rights reach further than reading this repository, and what they have.
RIGHTS = {
    ("bench", "comment"): {"contents": "read", "pull-requests": "write"},
    ("ci", "codeql"): {"actions": "read", "contents": "read", "security-events": "write"},
    ("ci", "gate"): {},
    ("release", "ci"): {"actions": "read", "contents": "read", "security-events": "write"},
    ("release", "image"): {"contents": "read", "packages": "write"},
    ("release", "image-index"): {"contents": "read", "packages": "write"},
    ("release", "github-release"): {"attestations": "write", "contents": "write", "id-token": "write"},
    ("release", "pypi"): {"id-token": "write"},
    ("release", "production"): {"contents": "read", "issues": "write"},
    ("release", "gate"): {},
}


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["jobs"]
    return found


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(file).values() for step in job.get("steps", ())]


def test_every_stage_has_its_job() -> None:
    assert {file.stem: set(jobs(file)) for file in FILES} == STAGES


@by_file
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(file: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", file.read_text(), re.MULTILINE)
    assert used
    for line in used:
        assert line.startswith("./.github/workflows/") or re.fullmatch(
            r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line
        ), line


@by_file
def test_containers_are_pinned_too(file: Path) -> None:
    for job in jobs(file).values():
        assert "container" not in job or re.fullmatch(r"\w+:\w+@sha256:[0-9a-f]{64}", job["container"])


def test_an_action_is_the_same_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for name, pin in re.findall(r"uses: ([\w-]+/[\w-]+)\S*@(\S+ # \S+)", "".join(file.read_text() for file in FILES)):
        pins.setdefault(name, set()).add(pin)
    assert {name: pin for name, pin in pins.items() if len(pin) > 1} == {}


@by_file
def test_every_command_is_a_make_target(file: Path) -> None:
    for command in sorted({step["run"] for step in steps(file) if "run" in step}):
        if command == ".ci/packages":  # what `make packages` runs, where there is no make yet
            continue
        words = command.split()
        assert words[0] == "make", command
        assert "\n" not in command.strip(), command
        # Nothing that comes from outside is put into a command line.
        assert "${{" not in command, command
        done = subprocess.run(
            ["make", "--dry-run", *words[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@by_file
def test_jobs_have_a_limit_and_no_more_rights_than_they_need(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for name, job in jobs(file).items():
        assert "timeout-minutes" in job or "uses" in job, name
        assert job.get("permissions", {}) == RIGHTS.get((file.stem, name), {"contents": "read"}), name


@by_file
def test_a_checkout_leaves_no_token_behind(file: Path) -> None:
    for step in steps(file):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@by_file
def test_the_gate_waits_for_everything(file: Path) -> None:
    names = set(jobs(file))
    if "gate" in names:
        assert set(jobs(file)["gate"]["needs"]) == names - {"gate"}
        assert jobs(file)["gate"]["if"] == "always()"


def test_what_publishes_to_pypi_downloads_and_uploads() -> None:
    job = jobs(FOLDER / "release.yml")["pypi"]
    assert [step["uses"].partition("@")[0] for step in job["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert "password" not in job["steps"][1].get("with", {})


def test_nothing_comes_out_of_a_cache() -> None:
    text = "".join(file.read_text() for file in FILES)
    assert "actions/cache" not in text
    assert not re.search(r"^\s+cache:", text, re.MULTILINE)


def test_all_systems_all_pythons_and_both_builds_are_tested() -> None:
    matrix = jobs(FOLDER / "ci.yml")["test"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    declared = re.findall(r'Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == declared
    wheels = tomllib.loads((ROOT / "cibuildwheel.toml").read_text())["tool"]["cibuildwheel"]["build"].split()
    assert wheels == [f"cp{version.replace('.', '')}-*" for version in declared]
    assert matrix["extensions"] == ["require", "skip"]


def test_wheels_are_made_of_the_source_distribution_on_a_machine_of_each_kind() -> None:
    job = jobs(FOLDER / "release.yml")["wheel"]
    config = tomllib.loads((ROOT / "cibuildwheel.toml").read_text())["tool"]["cibuildwheel"]
    names = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64", "ARM64": "arm64"}
    wanted = {
        f"{'darwin' if system == 'macos' else system}-{names[arch]}"
        for system in ("linux", "macos", "windows")
        for arch in config[system]["archs"]
    }
    assert {one["target"] for one in job["strategy"]["matrix"]["include"]} == wanted
    # Each machine makes those of its own kind: none is emulated, and each is used where it was made.
    assert job["env"]["CIBW_ARCHS"] == "auto64"
    (fetched,) = [step["with"] for step in job["steps"] if "download-artifact" in step.get("uses", "")]
    assert fetched == {"name": "python-sdist", "path": "dist"}
    made = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "wheel-published"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert made.splitlines()[-1].endswith("--config-file cibuildwheel.toml --output-dir dist dist/only1mcp-*.tar.gz")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(LINT), str(folder)],
        env={"PATH": f"{BIN}:/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif(not shutil.which("zizmor", path=str(BIN)), reason="needs zizmor (make lint installs it)")
@pytest.mark.timeout(300)
def test_what_the_linters_would_find_is_found(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    bad = folder / "bad.yml"
    good = (FOLDER / "ci.yml").read_text()
    bad.write_text(good)
    assert lint(tmp_path).returncode == 0, lint(tmp_path)
    bad.write_text(re.sub(r"@[0-9a-f]{40} # ", "@", good))
    assert "unpinned-uses" in lint(tmp_path).stdout
    bad.write_text(good.replace("needs: quality", "needs: qualify"))
    told = lint(tmp_path)
    if "actionlint is not run" in told.stderr:
        pytest.skip("actionlint needs Go")
    assert (told.returncode, "qualify" in told.stdout) == (1, True), told
