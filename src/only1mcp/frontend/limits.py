"""What a listener lets its clients have: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Above this many unsent bytes producers wait in `drain`; they go on below a quarter of it.
WRITE_BUFFER_BYTES: Final = 64 * 1024
# A reader that takes less than this in `request_s` holds an answer in our memory on purpose.
MIN_PROGRESS_BYTES: Final = 16 * 1024
# Pipelined requests that wait for the one before; with more we stop reading from the socket.
PIPELINE_BYTES: Final = 64 * 1024
# Events handled before other connections get their turn: pipelined requests answered at once never give way otherwise.
EVENTS_PER_TURN: Final = 64
# A body that nobody wants any more is read up to here, to keep the connection; beyond it, closing is cheaper.
DISCARD_BYTES: Final = 64 * 1024
# After our last byte we read on for a while: closing on unread bytes sends a reset, which takes the answer away from
# the client (RFC 9112 section 9.6).
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
# A client that closed its side may be gone or may be waiting. An interim response tells: a closed socket answers it
# with a reset, which the next one reports. Answers that come sooner are never preceded by one.
PROBE_S: Final = 0.25
QUICK_PROBES: Final = 3
SLOW_PROBE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_header_bytes` bounds a head and a trailer section, `max_body_bytes` a decoded request body."""

    max_header_bytes: int
    max_body_bytes: int
    max_connections: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`header_s`: for a whole head; `request_s`: without progress in a body, either way; `idle_s`: between requests."""

    header_s: float
    request_s: float
    idle_s: float
