"""Says whether wheels contain what they should and nothing else; needs nothing but the standard library.

usage: content.py WHEEL...    one line for each problem, exit 1 where there is one

The sources beside this file are the measure: every file of a wheel that is no library is a file of `src/`, byte for
byte, and every library belongs to a source. What was added on the way, such as a `.pth` that would run in every
interpreter of the environment it is installed into, has no place there.
"""

from __future__ import annotations

import base64
import csv
import email.message
import email.parser
import hashlib
import io
import json
import re
import stat
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "only1mcp"
# A wheel has about 4 MiB packed and 10 unpacked; sanitizers or debugging symbols would multiply that.
LIMIT_BYTES = 8 << 20
UNPACKED_LIMIT_BYTES = 32 << 20
SUFFIXES = (".py", ".pyi")
WHEEL_NAME = re.compile(r"only1mcp-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
METADATA_FILES = {
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "top_level.txt",
    "licenses/LICENSE",
    "sboms/only1mcp.cdx.json",
}
REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def problems(wheel: Path, root: Path = ROOT) -> list[str]:
    """Return what is wrong with the wheel, held against the sources in `root`."""
    named = WHEEL_NAME.fullmatch(wheel.name)
    if named is None:
        return ["its name is not that of a wheel of only1mcp without a build number"]
    if wheel.stat().st_size > LIMIT_BYTES:
        return [f"{wheel.stat().st_size} bytes are more than {LIMIT_BYTES}"]
    try:
        with zipfile.ZipFile(wheel) as archive:
            unfit = list(_unfit(archive))
            return unfit or list(_checks(archive, named.groupdict(), root))
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, KeyError) as error:
        return [f"it cannot be read: {error}"]


def _unfit(archive: zipfile.ZipFile) -> Iterator[str]:
    """Tell what makes it unsafe, or ambiguous, to look at the files of the archive."""
    entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > UNPACKED_LIMIT_BYTES:
        yield f"{unpacked} bytes unpacked are more than {UNPACKED_LIMIT_BYTES}"
    for name, times in Counter(entry.filename.lower() for entry in entries).items():
        if times > 1:
            yield f"{name}: is there {times} times"
    for entry in entries:
        mode = entry.external_attr >> 16
        if entry.is_dir():
            if entry.file_size or not any(name.startswith(entry.filename) for name in _files(archive)):
                yield f"{entry.filename}: is a folder with nothing in it"
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield f"{entry.filename}: is no regular file"
        if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH):
            yield f"{entry.filename}: has the mode {stat.filemode(mode)}"
        if entry.filename.startswith("/") or "\\" in entry.filename or ".." in entry.filename.split("/"):
            yield f"{entry.filename}: leads out of the wheel"


def _files(archive: zipfile.ZipFile) -> set[str]:
    return {entry.filename for entry in archive.infolist() if not entry.is_dir()}


def _checks(archive: zipfile.ZipFile, named: dict[str, str], root: Path) -> Iterator[str]:
    info = f"{PACKAGE}-{named['version']}.dist-info/"
    names = _files(archive)
    for name in sorted(names):
        if not name.startswith((f"{PACKAGE}/", info)):
            yield f"{name}: does not belong at the top of a wheel"
    about = {name.removeprefix(info) for name in names if name.startswith(info)}
    yield from (f"{info}{name}: is missing" for name in sorted(METADATA_FILES - about))
    yield from (f"{info}{name}: does not belong there" for name in sorted(about - METADATA_FILES))
    if about >= METADATA_FILES:
        yield from _sources(archive, root)
        yield from _libraries(names, named, root)
        yield from _record(archive, info)
        yield from _metadata(archive, info, named, root)
        yield from _bill(archive, info, named)


def _sources(archive: zipfile.ZipFile, root: Path) -> Iterator[str]:
    there = {name for name in _files(archive) if name.startswith(f"{PACKAGE}/")}
    wanted = {path.relative_to(root / "src").as_posix(): path for path in _shipped(root)}
    yield from (f"{name}: is missing" for name in sorted(wanted.keys() - there))
    for name in sorted(there):
        if name in wanted:
            if archive.read(name) != wanted[name].read_bytes():
                yield f"{name}: is not what the sources have"
        elif not name.endswith((".so", ".pyd")):
            yield f"{name}: is no file of the package"


def _shipped(root: Path) -> Iterator[Path]:
    """Yield the files of the package that are not compiled."""
    package = root / "src" / PACKAGE
    yield from (path for path in package.rglob("*") if path.suffix in SUFFIXES)
    data = project(root)["tool"]["setuptools"]["package-data"][PACKAGE]
    yield from (path for pattern in data for path in package.glob(pattern) if path.suffix not in SUFFIXES)


def compiled_sources(root: Path = ROOT) -> set[str]:
    """Return the modules that a compiled wheel has libraries of, as paths below `src` without suffix."""
    package = root / "src" / PACKAGE
    sources = [*package.glob("_fast/*.pyx"), *(path for path in package.rglob("*.pxd") if path.parent.name != "_fast")]
    return {path.relative_to(root / "src").with_suffix("").as_posix() for path in sources}


def _libraries(names: set[str], named: dict[str, str], root: Path) -> Iterator[str]:
    found: dict[str, str] = {}
    for name in sorted(names):
        if name.endswith((".so", ".pyd")):
            stem, _, suffix = name.rpartition("/")[2].partition(".")
            found[f"{name.rpartition('/')[0]}/{stem}"] = suffix
    if named["platform"] == "any":
        yield from (f"{name}: a wheel for any platform has no libraries" for name in found)
        return
    wanted = compiled_sources(root)
    yield from (f"{name}: is not compiled" for name in sorted(wanted - found.keys()))
    yield from (f"{name}: has no source" for name in sorted(found.keys() - wanted))
    ending = library_suffix(named["python"], named["platform"])
    for name, suffix in found.items():
        if not re.fullmatch(ending, suffix):
            yield f"{name}.{suffix}: is not for {named['python']} on {named['platform']}"


def library_suffix(python: str, platform: str) -> str:
    """Return the pattern of what follows a module's name, for the tags of a wheel."""
    number = python.removeprefix("cp")
    if platform.startswith("win"):
        return rf"{python}-{re.escape(platform)}\.pyd"
    if platform.startswith("macosx"):
        return rf"cpython-{number}-darwin\.so"
    machine = "aarch64" if platform.endswith("aarch64") else "x86_64"
    return rf"cpython-{number}-{machine}-linux-{'musl' if platform.startswith('musllinux') else 'gnu'}\.so"


def _record(archive: zipfile.ZipFile, info: str) -> Iterator[str]:
    rows = list(csv.reader(io.StringIO(archive.read(f"{info}RECORD").decode())))
    listed = Counter(row[0] for row in rows if row)
    yield from (f"RECORD: names {name} {times} times" for name, times in listed.items() if times > 1)
    yield from (f"RECORD: does not name {name}" for name in sorted(_files(archive) - listed.keys()))
    for row in rows:
        if len(row) != 3:
            yield f"RECORD: {row!r} is no row of three"
        elif row[0] not in _files(archive):
            yield f"RECORD: names {row[0]}, which is not there"
        elif row[0] == f"{info}RECORD":
            if row[1:] != ["", ""]:
                yield "RECORD: has a hash of itself"
        else:
            data = archive.read(row[0])
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if row[1:] != [f"sha256={digest}", str(len(data))]:
                yield f"RECORD: has another hash or size of {row[0]}"


def _metadata(archive: zipfile.ZipFile, info: str, named: dict[str, str], root: Path) -> Iterator[str]:
    wanted = project(root)["project"]
    said = _message(archive, f"{info}METADATA")
    if (said["Name"], said["Version"]) != (PACKAGE, named["version"]):
        yield f"METADATA: is of {said['Name']} {said['Version']}"
    if said["License-Expression"] != wanted["license"] or said.get_all("License-File") != wanted["license-files"]:
        yield "METADATA: does not name the licence"
    if archive.read(f"{info}licenses/LICENSE") != (root / "LICENSE").read_bytes():
        yield "licenses/LICENSE: is not the licence of the sources"
    requires = [text for text in said.get_all("Requires-Dist", []) if not _extra(text)]
    if sorted(map(_plain, requires)) != sorted(map(_plain, wanted["dependencies"])):
        yield f"METADATA: requires {', '.join(requires)}"
    tags = {
        f"{python}-{abi}-{platform}"
        for python in named["python"].split(".")
        for abi in named["abi"].split(".")
        for platform in named["platform"].split(".")
    }
    wheel = _message(archive, f"{info}WHEEL")
    if set(wheel.get_all("Tag", [])) != tags:
        yield f"WHEEL: has the tags {', '.join(wheel.get_all('Tag', []))}"
    if wheel["Root-Is-Purelib"] != ("true" if named["platform"] == "any" else "false"):
        yield f"WHEEL: Root-Is-Purelib is {wheel['Root-Is-Purelib']}"
    if archive.read(f"{info}top_level.txt").split() != [PACKAGE.encode()]:
        yield "top_level.txt: names more than the package"
    scripts = "".join(f"{name} = {target}\n" for name, target in wanted["scripts"].items())
    if archive.read(f"{info}entry_points.txt").decode().strip() != f"[console_scripts]\n{scripts}".strip():
        yield "entry_points.txt: has other entry points than the command"


def _bill(archive: zipfile.ZipFile, info: str, named: dict[str, str]) -> Iterator[str]:
    bill = json.loads(archive.read(f"{info}sboms/only1mcp.cdx.json"))
    if bill.get("bomFormat") != "CycloneDX":
        yield "SBOM: is not CycloneDX"
        return
    if bill["metadata"]["component"]["purl"] != f"pkg:pypi/{PACKAGE}@{named['version']}":
        yield f"SBOM: is of {bill['metadata']['component']['purl']}"
    requires = _message(archive, f"{info}METADATA").get_all("Requires-Dist", [])
    declared = {
        match[0].lower() for text in requires if "extra ==" not in text and (match := REQUIREMENT_NAME.match(text))
    }
    if named["platform"] != "any":
        declared.add("cython")
    listed = {component["name"].lower() for component in bill["components"]}
    yield from (f"SBOM: does not list {name}" for name in sorted(declared - listed))
    yield from (f"SBOM: lists {name}, which is not declared" for name in sorted(listed - declared))


def _extra(requirement: str) -> bool:
    return "extra ==" in requirement


def _message(archive: zipfile.ZipFile, name: str) -> email.message.Message:
    return email.parser.Parser().parsestr(archive.read(name).decode())


def _plain(requirement: str) -> str:
    return requirement.replace(" ", "").replace('"', "'").lower()


def project(root: Path) -> dict[str, dict]:
    """Return `pyproject.toml`."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def main() -> int:
    wheels = [Path(name) for name in sys.argv[1:]]
    if not wheels:
        sys.exit(__doc__)
    failed = 0
    for wheel in wheels:
        found = problems(wheel)
        failed += bool(found)
        print(
            f"{wheel.name}: {f'{len(found)} problems' if found else f'{wheel.stat().st_size} bytes, as they should be'}"
        )
        for problem in found:
            print(f"  {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
