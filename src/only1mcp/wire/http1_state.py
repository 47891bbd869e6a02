"""How far a message has come, in either direction of a connection."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What comes next of a message."""

    HEAD = "head"  # waiting for a head, or inside one
    BODY = "body"
    DONE = "done"  # the message is complete
    CLOSED = "closed"
    ERROR = "error"
