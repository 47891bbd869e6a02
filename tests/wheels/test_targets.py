"""What the compiler is told about a platform agrees with what wheels and cibuildwheel say of it."""

from __future__ import annotations

import re

import pytest
from wheels import content
from wheels.targets import LINUX, MACOS, WINDOWS, Target


@pytest.mark.parametrize(("name", "target"), (LINUX | MACOS | WINDOWS).items())
def test_the_suffix_is_the_one_that_the_gate_wants(name: str, target: Target) -> None:
    _, _, suffix = target.suffix.format("313").partition(".")
    assert re.fullmatch(content.library_suffix("cp313", name), suffix)


@pytest.mark.parametrize(("name", "target"), (LINUX | MACOS | WINDOWS).items())
def test_the_machine_is_the_same_in_all_words(name: str, target: Target) -> None:
    arm = target.zig.startswith("aarch64-")
    assert name.endswith(("aarch64", "arm64")) == arm
    assert target.host.endswith(("aarch64", "arm64")) == arm


def test_the_oldest_glibc_is_the_one_of_the_tag() -> None:
    asked = {name: target.zig.partition("gnu.")[2] for name, target in LINUX.items() if name.startswith("manylinux")}
    assert set(asked.values()) == {"2.28"}
    assert all(name.startswith("manylinux_2_28_") for name in asked)
