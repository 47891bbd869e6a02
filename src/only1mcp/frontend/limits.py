"""What a listener lets its clients have: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass


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
