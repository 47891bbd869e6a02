"""Builds the static binary: CPython, OpenSSL, all extension modules and all Python code in a file that loads nothing.

usage: PYTHON -m binary.build [TARGET]      default TARGET: dist/only1mcp-linux-<machine>
       PYTHON -m binary.build --parts       only what is made of other people's source

PYTHON is a Debian's own: its development package has the interpreter as an archive (libpython3.N.a). What is linked to
it is compiled here, from the source distributions of the dependencies and from Debian's source of the same interpreter.
Everything lies in build/binary, and is done again only when what it is made of has changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from binary import cpython, freeze, linker

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "binary"
LINKER = (HERE / "linker.py").read_text(encoding="utf-8")
WORK = ROOT / "build" / "binary"
# `lib.` tells linker.py where the names of modules begin.
OWN = WORK / "lib.own"
OWN_OBJECTS = WORK / "objects"
# What is made of other people's source: it takes most of the time, and may be kept outside the clone.
PARTS = Path(os.environ.get("ONLY1MCP_BINARY_PARTS") or WORK / "parts").absolute()
OBJECTS = PARTS / "objects"
SITE = PARTS / "site"
PYTHON = PARTS / "venv" / "bin" / "python"
PIP = (PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet")
CFLAGS = ("-g0", "-O2", "-fPIE", "-ffunction-sections", "-fdata-sections")
ARCHIVES = ("-lssl", "-lcrypto", "-lexpat", "-lz")
# What apt-get calls the files that must be there, beside gcc, make and dpkg-dev.
NEEDED = {
    "libpython": "python3-dev",
    "bluetooth/bluetooth.h": "libbluetooth-dev",  # Debian's pyconfig.h says that it is there
    "libssl.a": "libssl-dev",
    "libcrypto.a": "libssl-dev",
    "libexpat.a": "libexpat1-dev",
    "libz.a": "zlib1g-dev",
    "libffi.a": "libffi-dev",
    "libyaml.a": "libyaml-dev",
}


def main() -> None:
    # The one that can lie anywhere: addresses of the binary are random.
    archive = Path(sysconfig.get_config_var("LIBPL"), f"libpython3.{sys.version_info.minor}-pic.a")
    check(archive)
    parts()
    if sys.argv[1:] == ["--parts"]:
        return
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / f"only1mcp-linux-{platform.machine()}"
    own()
    link(target, archive)
    print(
        f"{target.relative_to(ROOT) if target.is_relative_to(ROOT) else target}: {target.stat().st_size / 1e6:.1f} MB"
    )


def parts() -> None:
    """Make what changes with the dependencies and the interpreter only."""
    requirements = dependencies()
    OBJECTS.mkdir(parents=True, exist_ok=True)
    once("venv", [*build_requirements(), sys.version], tools)
    once("site", [*requirements, sys.version], lambda: install(requirements))
    for name, version, modules in extensions():
        once(
            f"package-{name}",
            [version, sys.version, LINKER],
            partial(package, name, version, modules),
        )
    cpython_key = [sys.version, (HERE / "cpython.py").read_text(), *CFLAGS]
    once("cpython", cpython_key, lambda: cpython.build(PARTS / "cpython", OBJECTS, CFLAGS))


def check(archive: Path) -> None:
    """End with one line that names everything missing."""
    missing = [] if archive.is_file() else [NEEDED["libpython"]]
    for name, debian in NEEDED.items():
        if name.endswith(".a") and not Path(output("cc", f"-print-file-name={name}")).is_absolute():
            missing.append(debian)
        if name.endswith(".h") and not Path("/usr/include", name).is_file():
            missing.append(debian)
    for program, debian in (("cargo", "cargo-web"), ("rustc", "rustc-web"), ("dpkg-source", "dpkg-dev")):
        if shutil.which(program) is None:
            missing.append(debian)
    if missing:
        sys.exit(f"the static binary cannot be built without {' '.join(sorted(set(missing)))} (apt-get install)")


def once(name: str, inputs: Iterable[str], work: Callable[[], None], folder: Path = PARTS) -> None:
    """Do this piece of work unless it was done with the same inputs."""
    key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    stamp = folder / f".stamp-{name}"
    if stamp.is_file() and stamp.read_text() == key:
        return
    print(f"binary: {name}", flush=True)
    stamp.unlink(missing_ok=True)
    work()
    stamp.write_text(key)


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [one for one in project["dependencies"] if "== 'win32'" not in one]


def build_requirements() -> list[str]:
    wanted: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return [*wanted, "cffi>=2"]


def tools() -> None:
    shutil.rmtree(PARTS / "venv", ignore_errors=True)
    venv.create(PARTS / "venv", with_pip=True)
    run(*PIP, "install", *build_requirements())


def install(requirements: list[str]) -> None:
    """Install the dependencies as wheels: their Python code is used, their libraries only tell what has to be built."""
    shutil.rmtree(SITE, ignore_errors=True)
    for old in OBJECTS.glob("*.o"):
        old.unlink()
    for old in PARTS.glob(".stamp-package-*"):
        old.unlink()
    run(*PIP, "install", "--target", SITE, "--only-binary", ":all:", *requirements)


def extensions() -> list[tuple[str, str, list[str]]]:
    """Return the installed distributions with extension modules: name, version, modules."""
    found = []
    for info in sorted(SITE.glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        files = [line.partition(",")[0] for line in (info / "RECORD").read_text(encoding="utf-8").splitlines()]
        modules = [one.partition(".")[0].replace("/", ".") for one in files if one.endswith(".so")]
        if modules:
            found.append((name, version, modules))
    return found


def package(name: str, version: str, modules: list[str]) -> None:
    """Compile the extension modules of a distribution from its source."""
    folder = PARTS / "sources" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run(*PIP, "download", "--no-deps", "--no-binary", name, "-d", folder, f"{name}=={version}")
    (archive,) = folder.glob("*.tar.gz")
    run("tar", "-xzf", archive, "-C", folder)
    (source,) = (one for one in folder.iterdir() if one.is_dir())
    pyproject = (
        tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))
        if (source / "pyproject.toml").is_file()
        else {}
    )
    if pyproject.get("build-system", {}).get("build-backend") == "maturin":
        (module,) = modules
        rust(source / pyproject["tool"]["maturin"].get("manifest-path", "Cargo.toml"), module)
    else:
        # Without pip's cache: the wheel that comes out is hollow, and must not be taken for a real one later.
        run(*PIP, "wheel", "--no-deps", "--no-cache-dir", "-w", folder / "hollow", source, env=compiling(OBJECTS))
    for module in modules:
        if not (OBJECTS / f"{module}.o").is_file():
            sys.exit(f"{name} {version}: its build made no {module}")


def rust(manifest: Path, module: str) -> None:
    """Compile a crate to an archive and keep the module in it."""
    target = PARTS / "cargo"
    flags = [f"--remap-path-prefix={Path.home()}=~", f"--remap-path-prefix={ROOT}=."]
    env = os.environ | {
        "PYO3_PYTHON": str(PYTHON),
        "CARGO_TARGET_DIR": str(target),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        # There is nothing that the legacy provider could be loaded from.
        "CRYPTOGRAPHY_BUILD_OPENSSL_NO_LEGACY": "1",
        # Left for the last link, which has one OpenSSL for all.
        "OPENSSL_STATIC": "0",
    }
    run(
        "cargo",
        "rustc",
        "--quiet",
        "--release",
        "--lib",
        "--crate-type",
        "staticlib",
        "--manifest-path",
        manifest,
        env=env,
    )
    crate = tomllib.loads(manifest.read_text(encoding="utf-8"))
    library = crate.get("lib", {}).get("name", crate["package"]["name"]).replace("-", "_")
    linker.combine(module, [str(target / "release" / f"lib{library}.a")], OBJECTS / f"{module}.o")


def compiling(objects: Path) -> dict[str, str]:
    """Return the environment in which setuptools compiles, and linker.py links."""
    return os.environ | {
        "CFLAGS": shlex.join(CFLAGS),
        "LDSHARED": shlex.join([sys.executable, str(HERE / "linker.py")]),
        "ONLY1MCP_OBJECTS": str(objects),
        "ONLY1MCP_EXTENSIONS": "require",
    }


def own() -> None:
    """Compile this package, or what has changed of it."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.p[yx][xd]"))
    once("own", [*sources, sys.version, LINKER, *CFLAGS], clear_own, WORK)
    for stale in list(OWN.rglob("*.py")):
        stale.unlink()
    command = ("setup.py", "--quiet", "build", "--build-base", WORK / "own", "--build-lib", OWN)
    run(PYTHON, *command, env=compiling(OWN_OBJECTS))


def clear_own() -> None:
    for folder in (OWN, OWN_OBJECTS, WORK / "own"):
        shutil.rmtree(folder, ignore_errors=True)
    OWN_OBJECTS.mkdir(parents=True)


def link(target: Path, archive: Path) -> None:
    objects = sorted([*OBJECTS.glob("*.o"), *OWN_OBJECTS.glob("*.o")])
    modules = [path.name.removesuffix(".o") for path in objects]
    libraries = {word for path in OBJECTS.glob("*.libs") for word in path.read_text(encoding="utf-8").split()}
    freeze.write(WORK, [SITE, OWN], modules, linker.initializer)
    system = shlex.split(" ".join(sysconfig.get_config_var(name) or "" for name in ("LIBS", "SYSLIBS", "MODLIBS")))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".new")
    run(
        "cc",
        *CFLAGS,
        "-Wall",
        "-Wextra",
        "-static-pie",
        "-s",
        "-Wl,--gc-sections,-z,relro,-z,now,--build-id=none",
        "-I",
        WORK,
        "-I",
        sysconfig.get_path("include"),
        "-o",
        fresh,
        HERE / "main.c",
        WORK / "modules.S",
        *objects,
        "-Wl,--start-group",
        archive,
        *ARCHIVES,
        *sorted(libraries),
        *system,
        "-Wl,--end-group",
    )
    os.replace(fresh, target)


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=env)
    if done.returncode:
        sys.exit(f"failed ({done.returncode}): {shlex.join(map(str, command))}")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
