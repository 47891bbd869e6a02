"""Where a client connection stands."""

from __future__ import annotations

import enum
from typing import Final


class Phase(enum.Enum):
    """What the next octets of the client are."""

    HEAD = "head"  # between two exchanges, or inside a head
    BODY = "body"  # inside a request body, wanted or not
    BUSY = "busy"  # the request is complete, its answer is not
    LINGER = "linger"  # our last byte is written
    LOST = "lost"


# A member costs more to look up in its class than the comparison with it.
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY
BUSY: Final = Phase.BUSY
LINGER: Final = Phase.LINGER
LOST: Final = Phase.LOST
