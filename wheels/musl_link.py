"""Links a library for musl as systems with musl do; run by setuptools in the place of the linker.

usage: musl_link.py PATCHELF MACHINE COMMAND... -o FILE

Zig calls musl's C library `libc.so`. It is found under that name, but auditwheel, as systems with musl do, knows it as
`libc.musl-x86_64.so.1`.
"""

from __future__ import annotations

import subprocess
import sys


def main() -> int:
    patchelf, machine, *command = sys.argv[1:]
    if linked := subprocess.run(command, check=False).returncode:
        return linked
    made = command[command.index("-o") + 1]
    rename = [patchelf, "--replace-needed", "libc.so", f"libc.musl-{machine}.so.1", made]
    return subprocess.run(rename, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
