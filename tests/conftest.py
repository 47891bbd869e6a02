"""Refuses to test compiled modules that are older than their sources; has every message held against its schema.

What a test makes of logging ends with it. How long an example of Hypothesis takes is no reason to fail.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests import validity

PACKAGE = Path(__file__).parents[1] / "src" / "only1mcp"

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_sessionstart(session: pytest.Session) -> None:
    stale = [str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("**/*.so") if _is_stale(path)]
    if stale:
        pytest.exit(f"older than their sources, run make build: {', '.join(sorted(stale))}", returncode=4)


@pytest.fixture(autouse=True)
def _valid_messages(request: pytest.FixtureRequest) -> Iterator[None]:
    with validity.watched(checking=request.node.get_closest_marker("unchecked") is None):
        yield


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    loggers = [logging.getLogger(name) for name in ("only1mcp", "asyncio", "only1mcp.access")]
    levels = [(logger, logger.level, logger.propagate) for logger in loggers]
    yield
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags
    for logger, level, propagate in levels:
        logger.setLevel(level)
        logger.propagate = propagate


def _is_stale(library: Path) -> bool:
    stem = library.name.partition(".")[0]
    sources = [library.with_name(stem + suffix) for suffix in (".pyx", ".py", ".pxd")]
    return any(source.exists() and source.stat().st_mtime > library.stat().st_mtime for source in sources)
