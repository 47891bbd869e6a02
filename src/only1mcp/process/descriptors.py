"""Raises the number of files that this process may have open to what its configuration promises its clients."""

from __future__ import annotations

import logging
import sys
from typing import Final

from only1mcp.config.schema import Config
from only1mcp.errors import Only1MCPError

if sys.platform != "win32":
    import resource

log = logging.getLogger("only1mcp.process")

# What there is besides connections: listeners, logs, the event loop, modules being imported, a scrape.
SPARE: Final = 128
# What a proxy opens that has a backend or two and nobody to serve: below that the event loop may end the process.
LEAST: Final = 32
# Pipes of a child and its guard; the streams, probes and lists of an HTTP backend.
PER_BACKEND: Final = 8


def wanted(config: Config) -> int:
    """Return how many descriptors the limits of the configuration may take: each call has two ends."""
    limits = config.proxy.limits
    return limits.max_connections + limits.max_in_flight + PER_BACKEND * _connections(config) + SPARE


def _connections(config: Config) -> int:
    own = (backend.instances for backend in config.servers if backend.instances.mode == "per_session")
    return len(config.servers) + sum(instances.max for instances in own)


def require() -> None:
    """Raise `Only1MCPError` where so few files may be open that nothing could be started."""
    in_force = _raised(LEAST)
    if in_force is not None and in_force < LEAST:
        raise Only1MCPError(
            f"no more than {in_force} files may be open, expected at least {LEAST}: raise the limit (ulimit -n)"
        )


def allow(number: int) -> int | None:
    """Raise the soft limit to `number`, or as near as the system lets us; return what is in force, None for no limit.

    Out of descriptors, a listener can neither accept a connection nor refuse it.
    """
    in_force = _raised(number)
    if in_force is not None and in_force < number:
        fields = {"limit": in_force, "wanted": number, "hint": "raise ulimit -n, or lower proxy.limits.max_connections"}
        log.warning("process.few_descriptors", extra={"fields": fields})
    return in_force


def _raised(number: int) -> int | None:
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    best = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if best > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
        except (OSError, ValueError):  # macOS has another limit below the hard one
            best = soft
    return max(soft, best)
