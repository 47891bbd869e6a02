"""What is linked for musl asks for its C library by the name that systems with musl have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.wheels.available import available
from wheels import build, environments, musl_link
from wheels.targets import LINUX


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_name_of_the_c_library(tmp_path: Path, machine: str) -> None:
    programs = available(environments.tools)
    source, library = tmp_path / "one.c", tmp_path / "one.so"
    source.write_text('#include <stdlib.h>\nint one(void) { return getenv("ONE") != 0; }\n')
    command = [*build.linker(LINUX[f"musllinux_1_2_{machine}"]), "-shared", source, "-o", library]
    environments.run(*command, env=build.zig_environment())
    needed = environments.run(programs / "patchelf", "--print-needed", library)
    assert needed == f"libc.musl-{machine}.so.1\n"


def test_a_linker_that_fails(tmp_path: Path) -> None:
    linker = [sys.executable, "-c", "import sys; sys.exit(7)", "-o", tmp_path / "none"]
    done = subprocess.run([sys.executable, musl_link.__file__, "/no/patchelf", "x86_64", *linker], check=False)
    assert done.returncode == 7
