"""The limit on open files is raised as far as the system allows, and what is missing is said."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from only1mcp.config.schema import BackendConfig, Config, Limits, Proxy
from only1mcp.process.descriptors import allow, wanted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit on Windows")

SCRIPT = """
import resource, sys
soft, hard, number = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from only1mcp.process.descriptors import allow
print(allow(number), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after(soft: int, hard: int, number: int) -> list[int]:
    """Return what `allow` says in a process with these limits, and the limits that it then has."""
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return [int(word) for word in done.stdout.split()]


def test_the_soft_limit_is_raised_to_what_is_wanted() -> None:
    assert limits_after(100, 500, 300) == [300, 300, 500]


def test_the_hard_limit_stays() -> None:
    assert limits_after(100, 200, 300) == [200, 200, 200]


def test_a_higher_limit_is_not_lowered() -> None:
    assert limits_after(400, 500, 300) == [400, 400, 500]


def test_too_few_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with caplog.at_level(logging.WARNING):
            assert allow(hard + 1) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    (record,) = caplog.records
    assert record.message == "process.few_descriptors"


def test_what_the_limits_may_take() -> None:
    servers = (BackendConfig(id="a", transport="stdio", command="x"),)
    small = Config(version="1.0", proxy=Proxy(limits=Limits(max_connections=100, max_in_flight=10)))
    large = Config(version="1.0", proxy=Proxy(limits=Limits(max_connections=1100, max_in_flight=10)), servers=servers)
    assert 110 < wanted(small) < 1000
    assert wanted(large) > wanted(small) + 1000
