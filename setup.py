"""Builds the compiled parts of the package; everything else about it is in pyproject.toml.

ONLY1MCP_EXTENSIONS=require   a failed compilation fails the installation
ONLY1MCP_EXTENSIONS=skip      plain Python only
ONLY1MCP_EXTENSIONS unset     try; without a working compiler the plain-Python twins are used
ONLY1MCP_DEBUG=1              bounds checks, -O0 -g
ONLY1MCP_SANITIZE=LIST        with ONLY1MCP_DEBUG: the compiler's -fsanitize=LIST, such as address,undefined
CFLAGS                        an -O in it wins over the -O2 of a release build
SOURCE_DATE_EPOCH=SECONDS     the date of everything in the archives, which are then the same bytes every time; what is
                              built from a source distribution has its date
"""

from __future__ import annotations

import gzip
import os
import sys
import sysconfig
import tarfile
import time
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent))  # a build backend does not run in this folder
from wheels import sbom

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
OPTIMIZED = any(flag.startswith("-O") for flag in os.environ.get("CFLAGS", "").split())
if Path("PKG-INFO").exists():
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(int(Path("PKG-INFO").stat().st_mtime)))
EPOCH_S = int(os.environ["SOURCE_DATE_EPOCH"]) if os.environ.get("SOURCE_DATE_EPOCH") else None
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
            flags = ["-Wall", "-Wextra", *(["-O0", "-g3"] if DEBUG else ["-g0"] if OPTIMIZED else ["-O2", "-g0"])]
            flags += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"] if SANITIZE else []
        for extension in self.extensions:
            extension.extra_compile_args += flags
            if extension.name == "only1mcp._fast.sockets" and sysconfig.get_platform().startswith("win"):
                extension.libraries.append("ws2_32")  # WSAPoll
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


class Sdist(sdist):
    """Makes the same bytes of the same files, whoever builds it, wherever: sorted, owned by nobody, of one date."""

    def make_archive(
        self,
        base_name: Any,
        format: str,
        root_dir: Any = None,
        base_dir: Any = None,
        owner: Any = None,
        group: Any = None,
    ) -> str:
        if format != "gztar":
            return str(super().make_archive(base_name, format, root_dir, base_dir, owner, group))
        date_s = int(time.time()) if EPOCH_S is None else EPOCH_S

        def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = date_s
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        path = f"{base_name}.tar.gz"
        self.mkpath(os.path.dirname(path))
        with (
            open(path, "wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=date_s) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)
        return path


class Wheel(bdist_wheel):
    """Adds the bill of materials to the metadata."""

    def write_wheelfile(self, wheelfile_base: str, *args: Any, **options: Any) -> None:
        super().write_wheelfile(wheelfile_base, *args, **options)
        of = self.distribution.metadata
        package = {"name": of.name, "version": of.version, "license": of.license_expression, "summary": of.description}
        inside = {}
        if self.distribution.ext_modules:
            from Cython import __version__

            inside["Cython"] = __version__
        bill = Path(wheelfile_base, "sboms", sbom.FILE_NAME)
        bill.parent.mkdir(parents=True, exist_ok=True)
        bill.write_bytes(sbom.document(package, self.distribution.install_requires, inside, EPOCH_S))


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


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions, "bdist_wheel": Wheel, "sdist": Sdist})
