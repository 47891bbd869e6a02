"""The gate lets a wheel through that is as it should be, and names what was added, changed or left out."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from tests.wheels import made
from wheels import content

INFO = made.INFO


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made.sources(tmp_path / "sources")


def problems(folder: Path, root: Path, contents: dict[str, bytes], tag: str = made.TAG) -> list[str]:
    return content.problems(made.wheel(folder, contents, tag), root)


def test_a_wheel_as_it_should_be(tmp_path: Path, root: Path) -> None:
    assert problems(tmp_path, root, made.files(root)) == []
    assert problems(tmp_path, root, made.files(root, "py3-none-any"), "py3-none-any") == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("evil.pth", "evil.pth: does not belong at the top of a wheel"),
        ("other/__init__.py", "other/__init__.py: does not belong at the top of a wheel"),
        ("only1mcp-1.2.3.data/scripts/run", "only1mcp-1.2.3.data/scripts/run: does not belong at the top of a wheel"),
        ("only1mcp/added.py", "only1mcp/added.py: is no file of the package"),
        ("only1mcp/_fast/ring.c", "only1mcp/_fast/ring.c: is no file of the package"),
        ("only1mcp/_fast/ring.pyx", "only1mcp/_fast/ring.pyx: is no file of the package"),
        ("only1mcp/proxy/call.pxd", "only1mcp/proxy/call.pxd: is no file of the package"),
        ("only1mcp/evil.pth", "only1mcp/evil.pth: is no file of the package"),
        (f"only1mcp/added{made.SUFFIX}", "only1mcp/added: has no source"),
        (f"{INFO}direct_url.json", f"{INFO}direct_url.json: does not belong there"),
        (f"{INFO}sboms/other.json", f"{INFO}sboms/other.json: does not belong there"),
    ],
)
def test_what_was_added(tmp_path: Path, root: Path, name: str, problem: str) -> None:
    assert problems(tmp_path, root, {**made.files(root), name: b"import os\n"}) == [problem]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("only1mcp/py.typed", "only1mcp/py.typed: is missing"),
        ("only1mcp/__init__.py", "only1mcp/__init__.py: is missing"),
        (f"only1mcp/_fast/ring{made.SUFFIX}", "only1mcp/_fast/ring: is not compiled"),
        (f"only1mcp/proxy/call{made.SUFFIX}", "only1mcp/proxy/call: is not compiled"),
        (f"{INFO}licenses/LICENSE", f"{INFO}licenses/LICENSE: is missing"),
        (made.SBOM, f"{made.SBOM}: is missing"),
    ],
)
def test_what_was_left_out(tmp_path: Path, root: Path, name: str, problem: str) -> None:
    contents = made.files(root)
    del contents[name]
    assert problems(tmp_path, root, contents) == [problem]


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("only1mcp/__init__.py", b"#", b"import evil #", "only1mcp/__init__.py: is not what the sources have"),
        (f"{INFO}licenses/LICENSE", b"As", b"Not as", "licenses/LICENSE: is not the licence of the sources"),
        (f"{INFO}METADATA", b"Version: 1.2.3", b"Version: 1.2.4", "METADATA: is of only1mcp 1.2.4"),
        (f"{INFO}METADATA", b"License-File: LICENSE\n", b"", "METADATA: does not name the licence"),
        (f"{INFO}METADATA", b"h11>=0.16", b"h11", "METADATA: requires h11"),
        (f"{INFO}WHEEL", b"manylinux_2_28", b"manylinux_2_17", "WHEEL: has the tags cp311-cp311-manylinux_2_17_x86_64"),
        (f"{INFO}WHEEL", b"Purelib: false", b"Purelib: true", "WHEEL: Root-Is-Purelib is true"),
        (f"{INFO}top_level.txt", b"\n", b"\nother\n", "top_level.txt: names more than the package"),
        (
            f"{INFO}entry_points.txt",
            b"only1mcp =",
            b"pip = evil:main\nonly1mcp =",
            "entry_points.txt: has other entry points than the command",
        ),
        (made.SBOM, b'"name": "h11"', b'"name": "h12"', "SBOM: does not list h11"),
        (made.SBOM, b'"name": "Cython"', b'"name": "C"', "SBOM: lists c, which is not declared"),
        (made.SBOM, b"CycloneDX", b"Cyclone", "SBOM: is not CycloneDX"),
        (made.SBOM, b"only1mcp@1.2.3", b"only1mcp@9", "SBOM: is of pkg:pypi/only1mcp@9"),
    ],
)
def test_what_was_changed(tmp_path: Path, root: Path, name: str, old: bytes, new: bytes, problem: str) -> None:
    contents = made.files(root)
    assert old in contents[name]
    assert problem in problems(tmp_path, root, {**contents, name: contents[name].replace(old, new)})


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"only1mcp/py.typed,", b"only1mcp/py.type,", "RECORD: does not name only1mcp/py.typed"),
        (b"only1mcp/py.typed,", b"only1mcp/py.type,", "RECORD: names only1mcp/py.type, which is not there"),
        (b"/LICENSE,sha256=", b"/LICENSE,sha256=x", f"RECORD: has another hash or size of {INFO}licenses/LICENSE"),
        (b"RECORD,,", b"RECORD,sha256=x,1", "RECORD: has a hash of itself"),
        (b"RECORD,,\n", b"RECORD,,\nRECORD\n", "RECORD: ['RECORD'] is no row of three"),
    ],
)
def test_a_wrong_record(tmp_path: Path, root: Path, old: bytes, new: bytes, problem: str) -> None:
    contents = made.files(root)
    wrong = made.record(contents).replace(old, new)
    assert problem in problems(tmp_path, root, {**contents, f"{INFO}RECORD": wrong})


def test_a_file_that_is_named_twice_in_record(tmp_path: Path, root: Path) -> None:
    contents = made.files(root)
    rows = made.record(contents)
    assert "RECORD: names only1mcp/py.typed 2 times" in problems(
        tmp_path,
        root,
        {**contents, f"{INFO}RECORD": rows + next(row for row in rows.splitlines(True) if b"typed" in row)},
    )


def test_libraries_for_another_interpreter_or_none(tmp_path: Path, root: Path) -> None:
    contents = made.files(root)
    ring = contents.pop(f"only1mcp/_fast/ring{made.SUFFIX}")
    other = "only1mcp/_fast/ring.cpython-312-x86_64-linux-gnu.so"
    wanted = [f"{other}: is not for cp311 on manylinux_2_28_x86_64"]
    assert problems(tmp_path, root, {**contents, other: ring}) == wanted
    pure = {**made.files(root, "py3-none-any"), f"only1mcp/_fast/ring{made.SUFFIX}": ring}
    assert problems(tmp_path, root, pure, "py3-none-any") == [
        "only1mcp/_fast/ring: a wheel for any platform has no libraries"
    ]


def test_folders_with_something_in_them(tmp_path: Path, root: Path) -> None:
    path = made.wheel(tmp_path, made.files(root))
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("only1mcp", 0o755)
        archive.mkdir(f"{INFO}licenses", 0o755)
    assert content.problems(path, root) == []


def test_two_files_of_one_name_are_not_looked_at(tmp_path: Path, root: Path) -> None:
    path = made.wheel(tmp_path, made.files(root))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("only1mcp/__init__.py", b"import evil\n")
        archive.writestr("only1mcp/PY.typed", b"")
    assert sorted(content.problems(path, root)) == [
        "only1mcp/__init__.py: is there 2 times",
        "only1mcp/py.typed: is there 2 times",
    ]


@pytest.mark.parametrize(
    ("name", "mode", "problem"),
    [
        ("only1mcp/link.py", 0o120777, "only1mcp/link.py: is no regular file"),
        ("only1mcp/empty/", 0o040755, "only1mcp/empty/: is a folder with nothing in it"),
        ("only1mcp/run.py", 0o104755, "only1mcp/run.py: has the mode -rwsr-xr-x"),
        ("only1mcp/../../run.py", 0o100644, "only1mcp/../../run.py: leads out of the wheel"),
        ("/etc/run.py", 0o100644, "/etc/run.py: leads out of the wheel"),
        ("only1mcp\\run.py", 0o100644, "only1mcp\\run.py: leads out of the wheel"),
    ],
)
def test_odd_files(tmp_path: Path, root: Path, name: str, mode: int, problem: str) -> None:
    path = made.wheel(tmp_path, made.files(root))
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, b"")
    assert problem in content.problems(path, root)


def test_too_big(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.wheel(tmp_path, {**made.files(root), "only1mcp/py.typed": bytes(5000)})
    monkeypatch.setattr(content, "UNPACKED_LIMIT_BYTES", 5000)
    (problem,) = content.problems(path, root)
    assert problem.endswith("bytes unpacked are more than 5000")
    monkeypatch.setattr(content, "LIMIT_BYTES", 100)
    (problem,) = content.problems(path, root)
    assert problem.endswith("bytes are more than 100")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x00" * 500])
def test_no_wheel_at_all(tmp_path: Path, root: Path, data: bytes) -> None:
    path = tmp_path / f"only1mcp-1.2.3-{made.TAG}.whl"
    path.write_bytes(data)
    assert content.problems(path, root)


def test_a_damaged_file(tmp_path: Path, root: Path) -> None:
    path = made.wheel(tmp_path, made.files(root))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"As you like.", b"As I like it"))
    (problem,) = content.problems(path, root)
    assert problem.startswith("it cannot be read: ")


def test_other_names(tmp_path: Path, root: Path) -> None:
    path = made.wheel(tmp_path, made.files(root))
    for name in (
        "only1mcp.whl",
        f"only1mcp-1.2.3-1-{made.TAG}.whl",
        f"only1mcp-1.2.3-{made.TAG}.zip",
        f"other-1.2.3-{made.TAG}.whl",
    ):
        path = path.rename(tmp_path / name)
        assert content.problems(path, root) == ["its name is not that of a wheel of only1mcp without a build number"]


@pytest.mark.parametrize(
    ("python", "platform", "suffix"),
    [
        ("cp311", "win_arm64", r"cp311-win_arm64\.pyd"),
        ("cp314", "macosx_11_0_arm64", r"cpython-314-darwin\.so"),
        ("cp312", "musllinux_1_2_aarch64", r"cpython-312-aarch64-linux-musl\.so"),
        ("cp312", "manylinux_2_28_x86_64", r"cpython-312-x86_64-linux-gnu\.so"),
    ],
)
def test_suffixes(python: str, platform: str, suffix: str) -> None:
    assert content.library_suffix(python, platform) == suffix


def test_our_own_sources_are_found() -> None:
    modules = content.compiled_sources()
    assert {"only1mcp/_fast/sockets", "only1mcp/frontend/connection"} <= modules
    assert "only1mcp/_fast/octet_run" not in modules


def test_the_command(tmp_path: Path) -> None:
    def gate(*arguments: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, content.__file__, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    path = made.wheel(tmp_path, made.files(made.sources(tmp_path / "sources")))
    done = gate(path)
    assert done.returncode == 1
    assert "only1mcp/added" not in done.stdout
    assert f"{path.name}: " in done.stdout
    assert gate().returncode == 1
