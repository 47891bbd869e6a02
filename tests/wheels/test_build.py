"""The local builder makes a wheel that is manylinux_2_28, complete, and works where nothing else is installed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest
from tests.readme import way_to_install
from tests.wheels.available import available
from wheels import build, environments, installed, sdist
from wheels.targets import LINUX, WINDOWS

DATE_S = 86_400 * 365 * 20
NATIVE = f"manylinux_2_28_{platform.machine()}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(NATIVE not in LINUX, reason=f"there is no {NATIVE}"),
]


@pytest.fixture(scope="module", autouse=True)
def environment() -> Path:
    available(environments.tools)
    return available(environments.build_environment)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the files as they are here."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(environments.ROOT / name, folder / "tree" / name)
    return sdist.build(folder / "tree", folder, DATE_S)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """Its wheel, not optimized, which takes a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-O0")
        (made,) = build.build(source, sys.executable, [NATIVE], tmp_path_factory.mktemp("wheel"), build.date_of(source))
    return made


def tracked() -> list[str]:
    """Return the files of these sources that are there: a source distribution says which those are, as git does."""
    if (environments.ROOT / ".git").exists():
        names = environments.run("git", "ls-files", cwd=environments.ROOT).splitlines()
    else:
        names = (environments.ROOT / "src/only1mcp.egg-info/SOURCES.txt").read_text().splitlines()
    return [name for name in names if (environments.ROOT / name).is_file() and ".egg-info/" not in name]


def test_it_has_the_name_that_auditwheel_grants(wheel: Path) -> None:
    number = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert wheel.name.endswith(f"-{number}-{number}-{NATIVE}.whl")
    said = environments.run(environments.tools() / "auditwheel", "show", wheel)
    assert "is consistent with the following platform tag" in " ".join(said.split())


def test_it_works_where_it_is_installed(wheel: Path) -> None:
    assert list(installed.COMMAND) == way_to_install("pip", "install", "only1mcp")
    try:
        said = installed.use(wheel, python=sys.executable)
    except environments.NotAvailable as reason:
        pytest.skip(str(reason))
    assert said.startswith("only1mcp ")
    assert "the compiled build works on Python" in said


def test_without_a_compiler_it_is_installed_as_plain_python(source: Path, tmp_path: Path) -> None:
    tree = build.unpacked(source, tmp_path)
    environments.run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip, *arguments = way_to_install("pip", "install", ".")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONLY1MCP_")}
    environments.run(tmp_path / "venv/bin" / pip, *arguments, cwd=tree, env={**kept, "CC": "/bin/false"})
    smoke = (tmp_path / "venv/bin/python", "-P", environments.ROOT / "wheels/smoke.py", "plain")
    assert "the plain build works on Python" in environments.run(*smoke, cwd=tmp_path)


def test_everything_in_it_has_the_date_of_the_sources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        dates = {entry.date_time for entry in archive.infolist()}
        bill = json.loads(archive.read(next(name for name in archive.namelist() if name.endswith(".cdx.json"))))
    assert dates == {time.gmtime(DATE_S)[:6]}
    assert bill["metadata"]["timestamp"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(DATE_S))


def test_the_same_sources_make_the_same_wheel_wherever_they_are(
    source: Path, tmp_path: Path, environment: Path
) -> None:
    made = []
    for name in ("here", "elsewhere/and/deeper"):
        tree = build.unpacked(source, tmp_path / name)
        plain = {**build.zig_environment(), "ONLY1MCP_EXTENSIONS": "skip"}
        command = (environment, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / name, tree)
        environments.run(*command, env=plain)
        made.append(next((tmp_path / name).glob("*.whl")).read_bytes())
    assert made[0] == made[1]


def test_headers_fit_their_own_platform_and_no_other() -> None:
    include = build.headers(sys.executable)
    for target in LINUX.values():
        build.fit(include, target)
    for target in WINDOWS.values():
        with pytest.raises(environments.Failed):
            build.fit(include, target)


def test_headers_of_another_width_do_not_fit(tmp_path: Path) -> None:
    include = shutil.copytree(build.headers(sys.executable), tmp_path / "include")
    config = (include / "pyconfig.h").read_text()
    assert "#define SIZEOF_LONG 8" in config
    (include / "pyconfig.h").write_text(config.replace("#define SIZEOF_LONG 8", "#define SIZEOF_LONG 4"))
    with pytest.raises(environments.Failed, match=r"sizeof\(long\) is another in these headers"):
        build.fit(include, LINUX[NATIVE])


def test_without_headers(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho {tmp_path}\necho {sysconfig.get_config_h_filename()}\n")
    fake.chmod(0o755)
    with pytest.raises(environments.NotAvailable, match=r"the headers of .* are missing"):
        build.headers(str(fake))
