"""Refuses to test compiled modules that are older than their sources; has every message held against its schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import validity

PACKAGE = Path(__file__).parents[1] / "src" / "only1mcp"


def pytest_sessionstart(session: pytest.Session) -> None:
    stale = [str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("**/*.so") if _is_stale(path)]
    if stale:
        pytest.exit(f"older than their sources, run make build: {', '.join(sorted(stale))}", returncode=4)


@pytest.fixture(autouse=True)
def _valid_messages(request: pytest.FixtureRequest) -> Iterator[None]:
    with validity.watched(checking=request.node.get_closest_marker("unchecked") is None):
        yield


def _is_stale(library: Path) -> bool:
    stem = library.name.partition(".")[0]
    sources = [library.with_name(stem + suffix) for suffix in (".pyx", ".py", ".pxd")]
    return any(source.exists() and source.stat().st_mtime > library.stat().st_mtime for source in sources)
