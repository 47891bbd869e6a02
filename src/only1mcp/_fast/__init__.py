"""The compiled parts, or their plain-Python twins where no compiler was at hand; this is the one place that chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from only1mcp._fast.json_walk import Span
from only1mcp._fast.reference import ERROR, NOTIFICATION, REQUEST, RESULT

if TYPE_CHECKING:
    from only1mcp._fast.reference import LRU, Counters, Envelope, Ring, elements, members, scan

    COMPILED: bool
else:
    try:
        from only1mcp._fast.counters import Counters
        from only1mcp._fast.envelope import Envelope, elements, members, scan
        from only1mcp._fast.lru import LRU
        from only1mcp._fast.ring import Ring

        COMPILED = True
    except ImportError:
        import warnings

        from only1mcp._fast.reference import LRU, Counters, Envelope, Ring, elements, members, scan

        COMPILED = False
        warnings.warn(
            "only1mcp runs without its compiled parts and will be slow: "
            "install a C compiler and reinstall it with ONLY1MCP_EXTENSIONS=require",
            RuntimeWarning,
            stacklevel=2,
        )

__all__ = [
    "COMPILED",
    "ERROR",
    "LRU",
    "NOTIFICATION",
    "REQUEST",
    "RESULT",
    "Counters",
    "Envelope",
    "Ring",
    "Span",
    "elements",
    "members",
    "scan",
]
