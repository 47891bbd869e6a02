"""Compiles our C for the platforms whose wheels are built elsewhere: Windows and macOS, on both of their processors.

`python -m wheels.portable [--target NAME]... [MODULE...]`    such as: only1mcp/_fast/sockets

It says whether the C that Cython makes of our sources is accepted without a warning with the headers of that platform.
It says nothing about Microsoft's compiler, whose headers cannot be had here: for Windows those of MinGW are used.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wheels import content, foreign
from wheels.build import FLAGS, fit, zig, zig_environment
from wheels.environments import ROOT, Failed, run
from wheels.targets import MACOS, WINDOWS

TARGETS = WINDOWS | MACOS


def generated(modules: Sequence[str]) -> list[Path]:
    """Return the C sources of the modules, named as paths below `src`, as fresh as their sources."""
    run(sys.executable, "setup.py", "--quiet", "--name", cwd=ROOT, env={**os.environ, "ONLY1MCP_EXTENSIONS": "require"})
    sources = [ROOT / "build" / "cython" / "src" / f"{module}.c" for module in modules]
    for source in sources:
        if not source.is_file():
            raise Failed(f"{source.relative_to(ROOT)}: Cython makes no such file")
    return sources


def warnings(name: str, sources: Sequence[Path]) -> list[str]:
    """Return what the compiler has to say about each source that it does not take silently."""
    target = TARGETS[name]
    include = foreign.include(foreign.WINDOWS if name in WINDOWS else foreign.MACOS)
    fit(include, target)
    # Warnings come before code is made, which therefore need not be good.
    command = [*zig(target), "-O0", "-g0", "-Wall", "-Wextra", "-Werror", *FLAGS, f"-I{include}", "-c"]

    def complaint(source: Path) -> str | None:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                run(*command, source, "-o", Path(scratch, "out.o"), env=zig_environment())
            except Failed as error:
                return f"{name}: {source.stem}: {error}"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return [text for text in threads.map(complaint, sources) if text is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be repeated; default: all")
    parser.add_argument("modules", nargs="*", help="default: all that are compiled")
    arguments = parser.parse_args()
    failed = 0
    try:
        sources = generated(arguments.modules or sorted(content.compiled_sources()))
        for name in arguments.target or TARGETS:
            found = warnings(name, sources)
            failed += len(found)
            print(
                *found,
                f"{name}: {len(sources) - len(found)} of {len(sources)} modules compile without a warning",
                sep="\n",
            )
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
