"""Stands in for the linker of extension modules, and keeps what each is made of as one relocatable object.

setuptools calls it in place of `cc -shared` (LDSHARED) with objects, archives and libraries; what is to become
`pkg/name.cpython-311-x86_64-linux-gnu.so` comes to lie in $ONLY1MCP_OBJECTS as `pkg.name.o`, with all of its symbols
local but the function that makes the module, which is named after the whole path. Libraries (`-lNAME`) are left for the
last link. The file that setuptools expects is written as well, empty.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def initializer(module: str) -> str:
    """Return the name under which the function that makes `module` is linked."""
    return "PyInit_" + module.replace("_", "_1").replace(".", "_2")


def combine(module: str, parts: Sequence[str], target: Path) -> None:
    """Make one object of `parts`, of whose symbols only the initializer can be seen; archives give what is needed."""
    given, shown = "PyInit_" + module.rpartition(".")[2], initializer(module)
    raw = target.with_suffix(".raw")
    subprocess.run(["ld", "-r", "--gc-sections", "-u", given, "-o", raw, *parts], check=True)
    subprocess.run(
        ["objcopy", f"--redefine-sym={given}={shown}", f"--keep-global-symbol={shown}", raw, target],
        check=True,
    )
    raw.unlink()


def module_of(output: Path) -> str:
    """Return the module whose library setuptools builds at `output`: what lies below its folder `lib.<platform>`."""
    parts = output.with_name(output.name.partition(".")[0]).parts
    below = [i for i, part in enumerate(parts) if part.startswith("lib.")]
    return ".".join(parts[below[-1] + 1 :]) if below else parts[-1]


def main(arguments: list[str]) -> None:
    folder = Path(os.environ["ONLY1MCP_OBJECTS"])
    output = Path(arguments[arguments.index("-o") + 1])
    module = module_of(output)
    libraries = [one for one in arguments if one.startswith("-l")]
    parts = [one for one in arguments if one.endswith((".o", ".a"))]
    combine(module, parts, folder / f"{module}.o")
    (folder / f"{module}.libs").write_text("\n".join(libraries), encoding="utf-8")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(b"")


if __name__ == "__main__":
    main(sys.argv[1:])
