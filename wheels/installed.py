"""Installs wheels into fresh environments, away from the sources, and uses them (`smoke.py`).

`python -m wheels.installed [--root DIR] WHEEL...`

A wheel is used by the Python of its version, `python3.11` for `cp311`, where this machine has one. With --root, by the
one in that folder, which holds a whole system: one of another processor, say, that qemu runs (docs/install.md).
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from wheels.content import WHEEL_NAME
from wheels.environments import Failed, NotAvailable, run

HERE = Path(__file__).resolve().parent
INSTALL_TIMEOUT_S = 1800
# As everybody installs it, by its name: a constraint says which file that is.
COMMAND = ("pip", "install", "only1mcp")


def use(wheel: Path, root: Path | None = None, python: str | None = None) -> str:
    """Return what the smoke test says of the installed wheel; raise `NotAvailable` where it is for another machine."""
    named = WHEEL_NAME.fullmatch(wheel.name)
    if named is None:
        raise Failed(f"{wheel.name} is no wheel of only1mcp")
    version = named["python"].removeprefix("cp3")
    program = python or (f"python3.{version}" if version.isdigit() else "python3")
    if root is None:
        if named["platform"] != "any" and not named["platform"].endswith(platform.machine()):
            raise NotAvailable(f"{wheel.name} is not for {platform.machine()}")
        if named["platform"].startswith("musllinux") != (platform.libc_ver()[0] != "glibc"):
            raise NotAvailable(f"{wheel.name} is for another C library")
        if shutil.which(program) is None:
            raise NotAvailable(f"there is no {program}, which {wheel.name} is for")
    inside = [] if root is None else ["chroot", str(root)]
    with tempfile.TemporaryDirectory(dir=None if root is None else root / "tmp") as scratch:
        for file in (wheel, HERE / "smoke.py", HERE / "first_call.py"):
            shutil.copy(file, scratch)
        seen = Path(scratch) if root is None else Path("/", Path(scratch).relative_to(root))
        fresh = seen / "venv" / "bin" / "python"
        run(*inside, program, "-m", "venv", seen / "venv", timeout_s=INSTALL_TIMEOUT_S)
        Path(scratch, "constraint.txt").write_text(f"only1mcp @ {(seen / wheel.name).as_uri()}\n")
        options = ("--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-c", seen / "constraint.txt")
        run(*inside, fresh, "-m", *COMMAND, *options, timeout_s=INSTALL_TIMEOUT_S)
        return run(*inside, fresh, "-P", seen / "smoke.py", timeout_s=INSTALL_TIMEOUT_S).strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a folder with the system to use, entered with chroot")
    parser.add_argument("wheels", type=Path, nargs="+", metavar="WHEEL")
    arguments = parser.parse_args()
    failed = 0
    for wheel in arguments.wheels:
        try:
            print(f"{wheel.name}: {use(wheel, arguments.root)}", flush=True)
        except NotAvailable as reason:
            print(f"{wheel.name}: not used: {reason}", flush=True)
        except Failed as error:
            failed += 1
            print(f"{wheel.name}: FAILED: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
