"""The steps of the build: done once for the same inputs, and refused in one line where something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from binary import build

ROOT = Path(__file__).parents[2]


def test_a_step_is_done_again_only_when_its_inputs_change(tmp_path: Path) -> None:
    done: list[str] = []

    def step(*inputs: str) -> None:
        build.once("step", inputs, lambda: done.append(" ".join(inputs)), tmp_path)

    step("a", "b")
    step("a", "b")
    assert done == ["a b"]
    step("ab")
    step("a", "c")
    assert done == ["a b", "ab", "a c"]


def test_a_step_that_fails_is_tried_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError

    build.once("step", ["a"], lambda: None, tmp_path)
    with pytest.raises(OSError):
        build.once("step", ["b"], fail, tmp_path)
    done = []
    build.once("step", ["a"], lambda: done.append(1), tmp_path)
    assert done == [1]


def test_everything_that_is_missing_is_named_at_once() -> None:
    program = "from binary import build; from pathlib import Path; build.check(Path('/nonexistent.a'))"
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    command = [sys.executable, "-c", program]
    failed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("the static binary cannot be built without ")
    assert "python3-dev" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_what_the_package_requires_is_put_in() -> None:
    names = {one.partition(">")[0] for one in build.dependencies()}
    assert {"click", "cryptography", "msgspec", "orjson"} <= names
    assert not any("winloop" in name for name in names)
