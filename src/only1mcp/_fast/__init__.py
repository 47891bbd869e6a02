"""The compiled parts, or their plain-Python twins where no compiler was at hand; this is the one place that chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from only1mcp._fast.framing_reference import Headers, Index, index_fields
from only1mcp._fast.json_walk import Span
from only1mcp._fast.reference import ERROR, NOTIFICATION, REQUEST, RESULT
from only1mcp._fast.relay_reference import UNFINISHED, UNUSUAL

if TYPE_CHECKING:
    from only1mcp._fast.calls_reference import CallText, maybe_call
    from only1mcp._fast.counters_reference import Counters, Histogram
    from only1mcp._fast.framing_reference import (
        KnownHead,
        finish_message,
        read_chunks,
        read_request,
        read_response,
        write_request,
        write_response,
    )
    from only1mcp._fast.lines_reference import event_line
    from only1mcp._fast.lru_reference import LRU
    from only1mcp._fast.passing_reference import PassingScanner
    from only1mcp._fast.reference import Envelope, elements, members, scan
    from only1mcp._fast.relay_reference import relay_events
    from only1mcp._fast.ring_reference import Ring
    from only1mcp._fast.sockets_reference import readable
    from only1mcp._fast.spans_reference import mentions, pick, says, splice, string_at

    COMPILED: bool
else:
    try:
        from only1mcp._fast.calls import CallText, maybe_call
        from only1mcp._fast.chunks import read_chunks
        from only1mcp._fast.counters import Counters, Histogram
        from only1mcp._fast.envelope import Envelope, elements, members, scan
        from only1mcp._fast.framing import read_request, read_response
        from only1mcp._fast.known import KnownHead
        from only1mcp._fast.lines import event_line
        from only1mcp._fast.lru import LRU
        from only1mcp._fast.passing import PassingScanner
        from only1mcp._fast.relay import relay_events
        from only1mcp._fast.ring import Ring
        from only1mcp._fast.sending import finish_message, write_request, write_response
        from only1mcp._fast.sockets import readable
        from only1mcp._fast.spans import mentions, pick, says, splice, string_at

        COMPILED = True
    except ImportError:
        import warnings

        from only1mcp._fast.calls_reference import CallText, maybe_call
        from only1mcp._fast.counters_reference import Counters, Histogram
        from only1mcp._fast.framing_reference import (
            KnownHead,
            finish_message,
            read_chunks,
            read_request,
            read_response,
            write_request,
            write_response,
        )
        from only1mcp._fast.lines_reference import event_line
        from only1mcp._fast.lru_reference import LRU
        from only1mcp._fast.passing_reference import PassingScanner
        from only1mcp._fast.reference import Envelope, elements, members, scan
        from only1mcp._fast.relay_reference import relay_events
        from only1mcp._fast.ring_reference import Ring
        from only1mcp._fast.sockets_reference import readable
        from only1mcp._fast.spans_reference import mentions, pick, says, splice, string_at

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
    "UNFINISHED",
    "UNUSUAL",
    "CallText",
    "Counters",
    "Envelope",
    "Headers",
    "Histogram",
    "Index",
    "KnownHead",
    "PassingScanner",
    "Ring",
    "Span",
    "elements",
    "finish_message",
    "event_line",
    "index_fields",
    "maybe_call",
    "members",
    "mentions",
    "pick",
    "read_chunks",
    "read_request",
    "read_response",
    "relay_events",
    "readable",
    "says",
    "scan",
    "splice",
    "string_at",
    "write_request",
    "write_response",
]
