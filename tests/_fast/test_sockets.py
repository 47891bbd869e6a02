"""Both twins tell what waits in a socket, and wait for nothing themselves."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from only1mcp._fast import readable as chosen
from only1mcp._fast import sockets_reference

TWINS = pytest.mark.parametrize("readable", [chosen, sockets_reference.readable], ids=["chosen", "reference"])


@TWINS
def test_octets_and_the_end_can_be_read(readable: Callable[[int], bool]) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not readable(one.fileno())
        other.send(b"x")
        assert readable(one.fileno())
        one.recv(1)
        assert not readable(one.fileno())
        other.shutdown(socket.SHUT_WR)
        assert readable(one.fileno())


@TWINS
def test_a_socket_that_is_gone_is_no_idle_one(readable: Callable[[int], bool]) -> None:
    one, other = socket.socketpair()
    other.close()
    number = one.fileno()
    one.close()
    assert readable(number)
