"""What freeing large buffers costs, before and after the C library has been told to keep them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from only1mcp.process.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def work():
    for _ in range(200):
        pieces = [bytes(250_000) for _ in range(4)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, timeout=30, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_buffers_are_used_again_without_page_faults() -> None:
    assert faults("keep") < 500 < faults("leave")
