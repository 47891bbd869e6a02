"""Compiles the extension modules that Debian's libpython3.N.a lacks, from Debian's source of the same interpreter."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from binary import linker

# What the proxy, its dependencies and the standard library between them import, as far as it is not built in.
WANTED = (
    "_asyncio",
    "_bisect",
    "_blake2",
    "_contextvars",
    "_csv",
    "_datetime",
    "_decimal",
    "_hashlib",
    "_heapq",
    "_json",
    "_opcode",
    "_pickle",
    "_posixsubprocess",
    "_queue",
    "_random",
    "_sha1",
    "_sha2",
    "_sha256",
    "_sha3",
    "_sha512",
    "_socket",
    "_ssl",
    "_struct",
    "_typing",
    "_zoneinfo",
    "array",
    "binascii",
    "fcntl",
    "grp",
    "math",
    "mmap",
    "resource",
    "select",
    "termios",
    "unicodedata",
    "zlib",
)
DECIMAL = ("basearith", "constants", "context", "convolute", "crt", "difradix2", "fnt", "fourstep", "io", "mpalloc")
DECIMAL += ("mpdecimal", "mpsignal", "numbertheory", "sixstep", "transpose")


def build(folder: Path, objects: Path, flags: Sequence[str]) -> None:
    """Leave an object for each wanted module that is not built in, in `objects`."""
    source = fetch(folder)
    sources = listed()
    for module in WANTED:
        if module in sys.builtin_module_names or module not in sources:
            continue
        compile_module(module, sources[module], source / "Modules", objects, flags)


def listed() -> dict[str, list[str]]:
    """Return the C files of each module of the standard library, as this interpreter's own build lists them."""
    text = Path(sysconfig.get_config_var("LIBPL"), "Setup.stdlib").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return {words[0]: [word for word in words[1:] if word.endswith(".c")] for words in lines if len(words) > 1}


def compile_module(module: str, sources: list[str], folder: Path, objects: Path, flags: Sequence[str]) -> None:
    include = sysconfig.get_path("include")
    extra = [f"-I{include}", f"-I{include}/internal", f"-I{folder}", f"-ffile-prefix-map={folder}=Modules"]
    extra += ["-DPy_BUILD_CORE_BUILTIN", "-fwrapv", "-w"]
    if module == "_decimal":
        library = folder / "_decimal" / "libmpdec"
        sources = [*sources, *(f"_decimal/libmpdec/{name}.c" for name in DECIMAL)]
        extra += [f"-I{library}", "-DCONFIG_64=1", "-DANSI=1", "-DHAVE_UINT128_T=1"]
    made = []
    for name in sources:
        made.append(str(objects / f"{module}.{Path(name).stem}.part"))
        subprocess.run(["cc", "-c", *flags, *extra, "-o", made[-1], str(folder / name)], check=True)
    linker.combine(module, made, objects / f"{module}.o")
    for one in made:
        Path(one).unlink()


def fetch(folder: Path) -> Path:
    """Return the source of this interpreter, unpacked by apt-get with Debian's patches: the installed version's, else
    the newest that can be had.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "parts").mkdir()
    name = f"python3.{sys.version_info.minor}"
    options = sources_of_apt(folder)
    # A list that cannot be had (another registry's) is no reason to stop: what is wanted may be in the others.
    subprocess.run(["apt-get", *options, "-qq", "update"], check=False, stderr=subprocess.DEVNULL)
    shown = subprocess.run(["apt-cache", *options, "showsrc", name], capture_output=True, text=True, check=False).stdout
    versions = sorted(set(re.findall(r"^Version: (\S+)$", shown, re.MULTILINE)), reverse=True)
    installed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", f"lib{name}-dev"], capture_output=True, text=True, check=False
    ).stdout
    for version in sorted(versions, key=lambda one: one != installed):
        command = ["apt-get", *options, "-qq", "source", f"{name}={version}"]
        if subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode == 0:
            (source,) = (one for one in folder.iterdir() if (one / "Modules").is_dir())
            return source
    sys.exit(f"apt-get gives no source of {name} (found: {', '.join(versions) or 'none'})")


def sources_of_apt(folder: Path) -> list[str]:
    """Return options with which apt-get knows the sources of the Debian repositories that it is set up for."""
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        # As apt-get does: files of other names are not meant to be read.
        if not file.is_file() or file.suffix not in (".list", ".sources"):
            continue
        (folder / "parts" / file.name).write_text(of_sources(file.name, file.read_text(encoding="utf-8")))
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": folder / "parts",
        "Dir::State::Lists": folder / "lists",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def of_sources(name: str, text: str) -> str:
    """Return a list of apt's as one of the same repositories' sources, of which there may have been some in it."""
    if name.endswith(".sources"):
        return re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.MULTILINE)
    lines = [line for line in text.splitlines() if line.startswith(("deb ", "deb\t"))]
    return "".join(f"deb-src{line[3:]}\n" for line in lines)
