"""The local builder makes a wheel that is manylinux_2_28, complete, and works where nothing else is installed."""

from __future__ import annotations

import platform
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.wheels.available import available
from wheels import build, environments, installed, sdist
from wheels.targets import LINUX, WINDOWS

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
def wheel(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Path:
    """The wheel of the files as they are here, not optimized, which takes a third of the time."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((environments.ROOT / name).read_bytes())
    source = sdist.build(tree, folder, 86_400 * 365 * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-O0")
        (made,) = build.build(source, sys.executable, [NATIVE], folder / "dist", build.date_of(source))
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
    assert "is consistent with" in said


def test_it_works_where_it_is_installed(wheel: Path) -> None:
    try:
        said = installed.use(wheel, python=sys.executable)
    except environments.NotAvailable as reason:
        pytest.skip(str(reason))
    assert said.startswith("only1mcp ")
    assert "the compiled build works on Python" in said


def test_headers_fit_their_own_platform_and_no_other() -> None:
    include = build.headers(sys.executable)
    for target in LINUX.values():
        build.fit(include, target)
    for target in WINDOWS.values():
        with pytest.raises(environments.Failed):
            build.fit(include, target)


def test_headers_of_another_width_do_not_fit(tmp_path: Path) -> None:
    include = build.headers(sys.executable)
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
