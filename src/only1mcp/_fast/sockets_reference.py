"""What `sockets.pyx` does, in plain Python."""

from __future__ import annotations

import select


def readable(fd: int) -> bool:
    """Return whether anything waits to be read from a socket: octets, its end, or an error. Never blocks."""
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], 0)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
