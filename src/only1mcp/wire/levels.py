"""The levels of log messages (RFC 5424, as MCP "Logging" names them), and which messages they let pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from only1mcp._fast import members
from only1mcp.errors import ProtocolError
from only1mcp.wire import jsonrpc

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.wire.jsonrpc import Span

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
RANK: Final = {level: rank for rank, level in enumerate(LEVELS)}
# What a client that never set a level is given once another client has made a shared backend more talkative.
DEFAULT_RANK: Final = RANK["info"]


def rank_of(message: Envelope) -> int:
    """Return the rank of a `notifications/message`; one without a level we know passes every filter."""
    try:
        span = None if message.params is None else members(message.data, *message.params).get("level")
    except ProtocolError:
        return len(LEVELS)
    return len(LEVELS) if span is None else rank_at(message.data, span, len(LEVELS))


def rank_at(data: bytes, span: Span, default: int) -> int:
    """Return the rank of the level at `span`, `default` for what is no level that we know."""
    try:
        value = jsonrpc.decode(data, span)
    except orjson.JSONDecodeError:
        return default
    return RANK.get(value, default) if isinstance(value, str) else default
