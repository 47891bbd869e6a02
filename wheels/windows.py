"""Builds a wheel for Windows on x86_64 with MinGW's C library, and uses it under Wine.

`python -m wheels.windows --python python3.12 [--sdist FILE]`

It is no wheel to publish: those are made on Windows with Microsoft's compiler (cibuildwheel.toml). It shows that the
compiled modules load into a CPython for Windows, and that the command starts there and answers. Wine is not Windows:
what passes here may still fail there. Sessions are not seen, since Wine 8 lacks a library that cryptography needs, nor
that it stops as it should, since Wine delivers no Ctrl-Break.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from wheels import content, foreign, sdist
from wheels.build import compiled, date_of, unpacked
from wheels.environments import Failed, NotAvailable, build_environment, run, tag
from wheels.targets import WINDOWS

HERE = Path(__file__).resolve().parent
NAME = "win_amd64"
TIMEOUT_S = 900


def build(source: Path, python: str, output: Path) -> Path:
    """Build the wheel with `python`, which must be of the version whose headers and library are at hand."""
    number = "".join(foreign.WINDOWS.version.split(".")[:2])
    if tag(python) != f"cp{number}":
        raise Failed(f"{python} is {tag(python)}, expected cp{number}: --python python3.{number[1:]}")
    home = foreign.home(foreign.WINDOWS)
    with tempfile.TemporaryDirectory() as scratch:
        tree = unpacked(source, Path(scratch))
        library = str(home / "libs" / f"python{number}.lib")
        include = foreign.include(foreign.WINDOWS)
        # The linker would leave an import library beside each module.
        linked = (library, "-s", f"-Wl,--out-implib,{Path(scratch, 'imports.lib')}")
        made = compiled(tree, python, WINDOWS[NAME], include, Path(scratch, NAME), date_of(source), *linked)
        if found := content.problems(made, tree):
            raise Failed("\n".join([made.name, *found]))
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(made, output / made.name))


def use(wheel: Path, python: str) -> str:
    """Install the wheel into a CPython for Windows, run the smoke test there, and return what that says."""
    if shutil.which("wine") is None:
        raise NotAvailable("wine is not installed")
    version = ".".join(foreign.WINDOWS.version.split(".")[:2])
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch, "python")
        shutil.copytree(foreign.home(foreign.WINDOWS), home)
        # What `platform` asks Windows by, Wine does not have: asking it ends the process.
        (home / "lib" / "sitecustomize.py").write_text("import sys\nsys.modules['_wmi'] = None\n")
        needed = Path(scratch, "needed")
        pip = (build_environment(python), "-m", "pip", "--quiet", "--disable-pip-version-check")
        kind = ("--only-binary", ":all:", "--platform", NAME, "--python-version", version, "--implementation", "cp")
        # pip decides by the machine it runs on which event loop is needed.
        run(*pip, "download", *kind, "--no-deps", "-d", needed, wheel)
        run(*pip, "download", *kind, "-d", needed, *_declared(), "colorama")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ONLY1MCP_"))},
            "WINEPREFIX": str(Path(scratch, "wine")),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree=;mshtml=",
            "FIRST_CALL_TIMEOUT_S": "240",
            "FIRST_CALL_UNDER_WINE": "1",
        }
        windows = ("wine", str(home / "python.exe"))
        offline = ("-m", "pip", "--quiet", "install", "--no-index", "--find-links", _seen(needed))
        run(*windows, *offline, "only1mcp", cwd=home, env=environment, timeout_s=TIMEOUT_S)
        said = run(*windows, _seen(HERE / "smoke.py"), cwd=home, env=environment, timeout_s=TIMEOUT_S)
        run("wineserver", "--wait", env=environment, timeout_s=60)
    return said.strip()


def _declared() -> list[str]:
    """Return what the package requires on Windows, without the markers."""
    requires = content.project(content.ROOT)["project"]["dependencies"]
    return [text.partition(";")[0].strip() for text in requires if "!= 'win32'" not in text]


def _seen(path: Path) -> str:
    """Return the path as Wine's programs see it."""
    return f"Z:{path}".replace("/", "\\")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.12", help="an interpreter of the version that is tried")
    parser.add_argument("--sdist", type=Path, help="build from this file; default: make it from the commit")
    parser.add_argument("--output", type=Path, default=content.ROOT / "build" / "wheels" / "windows")
    arguments = parser.parse_args()
    try:
        source = arguments.sdist or sdist.proved("HEAD", arguments.output)
        wheel = build(source, arguments.python, arguments.output)
        print(f"{wheel}: {wheel.stat().st_size} bytes", flush=True)
        print(use(wheel, arguments.python))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
