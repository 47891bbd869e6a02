"""The protocol tables agree with each other."""

from __future__ import annotations

import pytest

from only1mcp.wire import mcp
from only1mcp.wire.mcp import Era


@pytest.mark.parametrize(
    ("revision", "era"),
    [
        ("2024-11-05", Era.HANDSHAKE),
        ("2025-03-26", Era.HANDSHAKE),
        ("2025-06-18", Era.HANDSHAKE),
        ("2025-11-25", Era.HANDSHAKE),
        ("2026-07-28", Era.STATELESS),
        ("2099-01-01", Era.STATELESS),
        ("2025-11-25 ", Era.STATELESS),
        ("", Era.STATELESS),
    ],
)
def test_era_of_a_revision(revision: str, era: Era) -> None:
    assert mcp.era_of(revision) is era


@pytest.mark.parametrize(
    ("requested", "answered"),
    [
        *((revision, revision) for revision in mcp.HANDSHAKE_REVISIONS),
        ("2026-07-28", "2025-11-25"),  # no handshake leads into the stateless era
        ("1.0", "2025-11-25"),
        ("", "2025-11-25"),
    ],
)
def test_negotiates(requested: str, answered: str) -> None:
    assert mcp.negotiate(requested) == answered


def test_every_routed_method_has_a_capability() -> None:
    assert set(mcp.LIST_METHODS) | set(mcp.NAMED_BY) | {"completion/complete"} == (
        set(mcp.CAPABILITY_OF) | mcp.TASK_METHODS
    )
    assert not set(mcp.CAPABILITY_OF) & mcp.HANDSHAKE_ONLY


def test_header_names_are_lower_case_as_heads_keep_them() -> None:
    names = [value for name, value in vars(mcp).items() if name.startswith("HEADER_") and isinstance(value, bytes)]
    assert len(names) == 5
    assert all(name == name.lower() for name in names)
