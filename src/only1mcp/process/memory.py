"""How the C library treats memory that is freed, for a process whose large buffers live for milliseconds."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any, Final

# From malloc.h of glibc; other C libraries have no such function.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# By default glibc gives back to the kernel whatever is freed above 128 KiB, so that every piece of a large answer costs
# a system call and a page fault for each 4 KiB: a fifth to a third of the CPU of a stream. This much is kept instead.
KEPT_BYTES: Final = 8 * 1024 * 1024
# Larger than anything that is read or written at once; beyond it, memory comes from the kernel and goes back at once.
MAPPED_ABOVE_BYTES: Final = 1024 * 1024


def keep_freed_memory() -> bool:
    """Have freed memory used again instead of given back; return whether this C library can be told so."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: on Windows there is no CDLL(None)
        mallopt = _mallopt()
        return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, MAPPED_ABOVE_BYTES))
    return False


def _mallopt() -> Any:
    # In the static binary there are no symbols to look up: it brings the function along.
    if getattr(sys, "frozen", False):
        return import_module("_only1mcp_binary").mallopt
    return import_module("ctypes").CDLL(None).mallopt
