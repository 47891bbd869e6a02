"""Builds the compiled parts of the package; everything else about it is in pyproject.toml.

ONLY1MCP_EXTENSIONS=require   a failed compilation fails the installation
ONLY1MCP_EXTENSIONS=skip      plain Python only
ONLY1MCP_EXTENSIONS unset     try; without a working compiler the plain-Python twins are used
ONLY1MCP_DEBUG=1              bounds checks, -O0 -g
ONLY1MCP_SANITIZE=LIST        with ONLY1MCP_DEBUG: the compiler's -fsanitize=LIST, such as address,undefined
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = (
    "calls",
    "chunks",
    "counters",
    "envelope",
    "framing",
    "known",
    "lines",
    "lru",
    "passing",
    "relay",
    "ring",
    "sending",
    "sockets",
    "spans",
)
# Ordinary modules that every call passes through: the .py is the source, and what runs without a compiler; the .pxd
# beside it gives its attributes C types.
HOT = sorted(
    str(path.with_suffix(".py")) for path in Path("src/only1mcp").glob("**/*.pxd") if path.parent.name != "_fast"
)
MODE = os.environ.get("ONLY1MCP_EXTENSIONS", "")
DEBUG = os.environ.get("ONLY1MCP_DEBUG", "") not in ("", "0")
SANITIZE = os.environ.get("ONLY1MCP_SANITIZE", "") if DEBUG else ""

if MODE not in ("", "require", "skip"):
    sys.exit(f"ONLY1MCP_EXTENSIONS must be require, skip or unset, got {MODE!r}")


class BuildExtensions(build_ext):
    """Adds the flags of the compiler at hand, and replaces a library that may be in use by renaming over it."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            flags = ["/Od", "/Zi"] if DEBUG else ["/O2"]
        else:
            flags = ["-Wall", "-Wextra", *(["-O0", "-g3"] if DEBUG else ["-O2", "-g0"])]
            flags += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"] if SANITIZE else []
        for extension in self.extensions:
            extension.extra_compile_args += flags
            if SANITIZE:
                extension.extra_link_args += [f"-fsanitize={SANITIZE}"]
        super().build_extensions()

    def copy_file(self, infile: Any, outfile: Any, *args: Any, **options: Any) -> Any:
        # A process that has the old library mapped would crash if its file were overwritten in place.
        fresh = f"{outfile}.new"
        _, copied = super().copy_file(infile, fresh, *args, **options)
        if os.path.exists(fresh):
            os.replace(fresh, outfile)
        return outfile, copied


def extensions() -> list[Extension]:
    if MODE == "skip":
        return []
    try:
        from Cython.Build import cythonize
        from Cython.Compiler import Options
    except ImportError:
        if MODE == "require":
            raise
        print("only1mcp: Cython is not installed, building without the compiled parts", file=sys.stderr)
        return []
    # Sixty libraries are held in memory by every process: no texts that only `help` shows, no pickling.
    Options.docstrings = False
    common = {"auto_pickle": False}
    unchecked = {
        **common,
        "boundscheck": DEBUG,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": DEBUG,
    }
    checked = compiled([f"src/only1mcp/_fast/{name}.pyx" for name in SOURCES], unchecked, cythonize)
    # Annotations speak of Python's types; what is to be a C type stands in the .pxd.
    # Where None stands for an object it is found out, as it would be in Python.
    checked += compiled(HOT, {**common, "annotation_typing": False, "nonecheck": True}, cythonize)
    for extension in checked:
        extension.optional = MODE != "require"
    return checked


def compiled(paths: list[str], directives: dict[str, bool], cythonize: Any) -> list[Extension]:
    modules = [Extension(".".join(Path(path).with_suffix("").parts[1:]), [path]) for path in paths]
    made: list[Extension] = cythonize(
        modules,
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        compiler_directives={"language_level": 3, **directives},
    )
    return made


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
