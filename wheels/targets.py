"""The platforms that wheels are made for, and what a compiler on another one has to be told about each."""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """One platform: its tag in a wheel's name is the key in the tables."""

    # What `zig cc -target` calls it. The C library's version is the oldest that may be asked for.
    zig: str
    # What `sysconfig.get_platform()` says there.
    host: str
    # What follows a module's name in its library, with the digits of the Python version for `{}`.
    suffix: str


# Their wheels are built and repaired here; both C libraries may be had on the same kernel.
LINUX = {
    "manylinux_2_28_x86_64": Target("x86_64-linux-gnu.2.28", "linux-x86_64", ".cpython-{}-x86_64-linux-gnu.so"),
    "manylinux_2_28_aarch64": Target("aarch64-linux-gnu.2.28", "linux-aarch64", ".cpython-{}-aarch64-linux-gnu.so"),
    "musllinux_1_2_x86_64": Target("x86_64-linux-musl", "linux-x86_64", ".cpython-{}-x86_64-linux-musl.so"),
    "musllinux_1_2_aarch64": Target("aarch64-linux-musl", "linux-aarch64", ".cpython-{}-aarch64-linux-musl.so"),
}
# Their wheels come from machines of their own (cibuildwheel.toml); here their C is compiled, to see that it can be.
WINDOWS = {
    "win_amd64": Target("x86_64-windows-gnu", "win-amd64", ".cp{}-win_amd64.pyd"),
    "win_arm64": Target("aarch64-windows-gnu", "win-arm64", ".cp{}-win_arm64.pyd"),
}
MACOS = {
    "macosx_10_13_x86_64": Target("x86_64-macos.10.13", "macosx-10.13-x86_64", ".cpython-{}-darwin.so"),
    "macosx_11_0_arm64": Target("aarch64-macos.11.0", "macosx-11.0-arm64", ".cpython-{}-darwin.so"),
}
