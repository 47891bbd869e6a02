"""One run as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from only1mcp.backend.target import Target
from only1mcp.loadgen.mix import DEFAULT_MIX, Operation
from only1mcp.loadgen.schedule import ClosedLoop, OpenLoop, Schedule


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to, what, how much. `rate` makes it an open loop; `duration_s` and `requests` end it, whichever is first.

    `era` is `auto`, `stateless` or `handshake`; `unlisted` allows tools that the target does not list.
    """

    url: str
    target: Target
    token: str | None = None
    insecure: bool = False
    operations: tuple[Operation, ...] = DEFAULT_MIX
    connections: int = 10
    rate: float | None = None
    duration_s: float | None = 10.0
    requests: int | None = None
    warmup_s: float = 0.0
    timeout_s: float = 30.0
    era: str = "auto"
    unlisted: bool = False

    def schedule(self) -> Schedule:
        """Return a new schedule of this plan."""
        if self.rate is None:
            return ClosedLoop(duration_s=self.duration_s, requests=self.requests, warmup_s=self.warmup_s)
        return OpenLoop(self.rate, duration_s=self.duration_s, requests=self.requests, warmup_s=self.warmup_s)
