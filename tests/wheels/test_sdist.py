"""A source distribution has what was committed, with nothing added, changed or left out; and is the same every time."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from tests.wheels.available import available
from wheels import environments, sdist

TOP = "only1mcp-1.2.3"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("README.md", "src/only1mcp/__init__.py", ".gitignore", ".github/workflows/ci.yml", ".ci/run"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / ".ci/run").chmod(0o755)
    return tree


def packed(folder: Path, files: dict[str, bytes | tarfile.TarInfo]) -> Path:
    path = folder / f"{TOP}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, what in files.items():
            if isinstance(what, tarfile.TarInfo):
                archive.addfile(what)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(what)
            archive.addfile(entry, io.BytesIO(what))
    return path


def files(tree: Path) -> dict[str, bytes | tarfile.TarInfo]:
    names = ("README.md", "src/only1mcp/__init__.py")
    added = ("PKG-INFO", "setup.cfg", "src/only1mcp.egg-info/SOURCES.txt")
    return {
        **{f"{TOP}/{name}": (tree / name).read_bytes() for name in names},
        **{f"{TOP}/{name}": b"" for name in added},
    }


def test_as_it_should_be(tmp_path: Path, tree: Path) -> None:
    assert sdist.problems(packed(tmp_path, files(tree)), tree) == []


def test_added_changed_and_left_out(tmp_path: Path, tree: Path) -> None:
    there = files(tree)
    del there[f"{TOP}/README.md"]
    there |= {f"{TOP}/evil.pth": b"import os", f"{TOP}/src/only1mcp/__init__.py": b"import evil"}
    assert sdist.problems(packed(tmp_path, there), tree) == [
        "src/only1mcp/__init__.py: is not what was committed",
        "evil.pth: was not committed",
        "README.md: was committed and is missing (MANIFEST.in, or LEFT_OUT in wheels/sdist.py)",
    ]


def test_odd_members(tmp_path: Path, tree: Path) -> None:
    link = tarfile.TarInfo(f"{TOP}/README.md")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    there = {**files(tree), f"{TOP}/README.md": link, "elsewhere/README.md": b"README.md"}
    assert sdist.problems(packed(tmp_path, there), tree) == [
        f"{TOP}/README.md: is no regular file in {TOP}/",
        f"elsewhere/README.md: is no regular file in {TOP}/",
    ]


def test_what_may_be_executed(tmp_path: Path, tree: Path) -> None:
    (tree / "README.md").chmod(0o755)
    assert sdist.problems(packed(tmp_path, files(tree)), tree) == ["README.md: may not be executed"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_one_of_this_commit(tmp_path: Path) -> None:
    if not (sdist.ROOT / ".git").exists():
        pytest.skip("these sources are not in a repository")
    available(environments.build_environment)
    made = sdist.proved("HEAD", tmp_path)
    with tarfile.open(made) as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1
    assert {member.mode for member in members} <= {0o644, 0o755}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_lies_around_is_found(tmp_path: Path) -> None:
    available(environments.build_environment)
    tree, clean = tmp_path / "tree", tmp_path / "clean"
    for folder in (tree, clean):
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "wheels/sbom.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((sdist.ROOT / name).read_bytes())
        (folder / "src/only1mcp").mkdir(parents=True)
        (folder / "src/only1mcp/__init__.py").write_text('__version__ = "1.2.3"\n')
    for stray in ("src/only1mcp/stray.py", "src/only1mcp/stray.so", "src/only1mcp/stray.c", ".env", "stray.pth"):
        (tree / stray).write_text("")
    made = sdist.build(tree, tmp_path / "dist", 86_400)
    assert sdist.problems(made, clean) == ["src/only1mcp/stray.py: was not committed"]
