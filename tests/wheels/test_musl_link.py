"""What is linked for musl asks for its C library by the name that systems with musl have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.wheels.available import available
from wheels import build, environments, musl_link
from wheels.targets import LINUX


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_zig_links(tmp_path: Path) -> None:
    programs = available(environments.tools)
    source, library = tmp_path / "one.c", tmp_path / "one.so"
    source.write_text('#include <stdlib.h>\nint one(void) { return getenv("ONE") != 0; }\n')
    command = [*build.linker(LINUX["musllinux_1_2_x86_64"]), "-shared", source, "-o", library]
    environments.run(*command, env=build.zig_environment())
    needed = environments.run(programs / "patchelf", "--print-needed", library)
    assert needed == "libc.musl-x86_64.so.1\n"


@pytest.mark.skipif(not shutil.which("cc") or sys.platform != "linux", reason="needs a C compiler for Linux")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_name_of_the_c_library(tmp_path: Path, machine: str) -> None:
    programs = available(environments.tools)
    (tmp_path / "c.c").write_text("int two(void) { return 2; }\n")
    (tmp_path / "one.c").write_text("int two(void);\nint one(void) { return two() - 1; }\n")
    shared = ("cc", "-shared", "-fPIC", "-nostdlib")
    environments.run(*shared, "-Wl,-soname,libc.so", tmp_path / "c.c", "-o", tmp_path / "libc.so")
    library = tmp_path / "one.so"
    linked = (*shared, tmp_path / "one.c", tmp_path / "libc.so", "-o", library)
    environments.run(sys.executable, musl_link.__file__, programs / "patchelf", machine, *linked)
    needed = environments.run(programs / "patchelf", "--print-needed", library)
    assert needed == f"libc.musl-{machine}.so.1\n"


def test_a_linker_that_fails(tmp_path: Path) -> None:
    linker = [sys.executable, "-c", "import sys; sys.exit(7)", "-o", tmp_path / "none"]
    done = subprocess.run([sys.executable, musl_link.__file__, "/no/patchelf", "x86_64", *linker], check=False)
    assert done.returncode == 7
