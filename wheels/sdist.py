"""Builds the source distribution of a commit, twice, and says where it is not what was committed.

`python -m wheels.sdist [--commit HEAD] [--output dist]`

It is built from the commit, not from the working folder, so that nothing that lies around gets into it; dated with the
commit's date; and built again in another place, to see that the bytes are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from wheels.environments import ROOT, Failed, build_environment, run

# What is about the place where the sources are kept, and not about the sources.
LEFT_OUT = (".ci/", ".github/", ".gitignore", ".gitattributes", ".dockerignore")
# What setuptools adds.
ADDED = ("PKG-INFO", "setup.cfg", "src/only1mcp.egg-info/")


def build(tree: Path, output: Path, epoch_s: int) -> Path:
    """Build the source distribution of the files in `tree` and return it."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s), "ONLY1MCP_EXTENSIONS": "skip"}
        python = build_environment()
        run(python, "-m", "build", "--sdist", "--no-isolation", "--outdir", scratch, tree, env=environment)
        (made,) = Path(scratch).glob("*.tar.gz")
        output.mkdir(parents=True, exist_ok=True)
        final = output / made.name
        final.write_bytes(made.read_bytes())
    return final


@contextlib.contextmanager
def committed(commit: str = "HEAD") -> Iterator[tuple[Path, int]]:
    """Yield a folder with the files of the commit, and its date; it is gone afterwards."""
    epoch_s = int(run("git", "log", "-1", "--format=%ct", commit, cwd=ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch, "commit.tar")
        run("git", "archive", "--format=tar", f"--output={packed}", commit, cwd=ROOT)
        tree = Path(scratch, "tree")
        with tarfile.open(packed) as archive:
            archive.extractall(tree, filter="data")
        yield tree, epoch_s


def problems(sdist: Path, tree: Path) -> list[str]:
    """Return where the source distribution has not the files of `tree`, with their bytes and modes."""
    wanted = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*") if path.is_file()}
    wanted = {name: path for name, path in wanted.items() if not name.startswith(LEFT_OUT)}
    top = sdist.name.removesuffix(".tar.gz")
    found: list[str] = []
    names = set()
    with tarfile.open(sdist) as archive:
        for member in archive:
            name = member.name.removeprefix(f"{top}/")
            if member.isdir():
                continue
            names.add(name)
            if not member.name.startswith(f"{top}/") or not member.isfile():
                found.append(f"{member.name}: is no regular file in {top}/")
            elif name in wanted:
                content = archive.extractfile(member)
                assert content is not None
                if content.read() != wanted[name].read_bytes():
                    found.append(f"{name}: is not what was committed")
                if bool(member.mode & 0o100) != os.access(wanted[name], os.X_OK):
                    found.append(f"{name}: may {'' if member.mode & 0o100 else 'not '}be executed")
            elif not name.startswith(ADDED):
                found.append(f"{name}: was not committed")
    missing = sorted(wanted.keys() - names)
    found += [f"{name}: was committed and is missing (MANIFEST.in, or LEFT_OUT in wheels/sdist.py)" for name in missing]
    return found


def proved(commit: str, output: Path) -> Path:
    """Build the source distribution of the commit; raise `Failed` where it is not as it should be."""
    with committed(commit) as (tree, epoch_s):
        sdist = build(tree, output, epoch_s)
    # Building leaves files in the tree: what was committed is in a new one.
    with committed(commit) as (tree, epoch_s), tempfile.TemporaryDirectory() as again:
        if found := problems(sdist, tree):
            raise Failed("\n".join(found))
        if build(tree, Path(again), epoch_s).read_bytes() != sdist.read_bytes():
            raise Failed(f"{sdist.name} has other bytes when it is built again")
    return sdist


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    try:
        sdist = proved(arguments.commit, arguments.output)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{sdist}: {sdist.stat().st_size} bytes, the same twice, with what was committed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
