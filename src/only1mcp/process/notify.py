"""Tells the service manager how far this process is, where there is one that asks: sd_notify(3)."""

from __future__ import annotations

import os
import socket
from typing import Final

READY: Final = b"READY=1"
STOPPING: Final = b"STOPPING=1"


def notify(state: bytes) -> bool:
    """Send the state to the socket of $NOTIFY_SOCKET; return whether it was taken.

    A manager that cannot be told is no reason not to serve.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):  # of the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(state, address)
    except OSError:
        return False
    return True
