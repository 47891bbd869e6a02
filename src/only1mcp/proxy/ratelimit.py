"""How often one client may call: the generic cell rate algorithm, one number for each client."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from only1mcp.proxy.auth import Principal

# A client that calls from ever new addresses adds an entry each time, some 200 bytes. When the table is full of entries
# that still count, the one longest unused makes room: its owner gets a new burst, while to refuse newcomers would
# let the attacker lock everybody else out.
MAX_KEYS: Final = 100_000
# Entries looked at for each one added: more than one, so that the table shrinks after a flood.
_SWEEP: Final = 2


class RateLimiter:
    """Admits `burst` requests of one key at once, and then one each 60 / `requests_per_minute` seconds.

    `now` is seconds of a clock that does not go back. What a key has used is forgotten when it counts no longer.
    """

    def __init__(self, requests_per_minute: float, burst: int, max_keys: int = MAX_KEYS) -> None:
        if requests_per_minute <= 0 or burst < 1 or max_keys < 1:
            raise ValueError("requests_per_minute, burst and max_keys must be positive")
        self.interval_s = 60.0 / requests_per_minute
        self._tolerance_s = (burst - 1) * self.interval_s
        self._max_keys = max_keys
        # Key -> theoretical arrival time: when its next request would be due if it kept exactly to the rate. In the
        # order of their last admission, so the entries that have expired gather at the front.
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def check(self, key: str, now: float) -> float:
        """Return 0.0 and count the request when it is admitted, else the seconds until it would be.

        A refused request counts for nothing: who keeps calling too fast still gets the configured rate.
        """
        due = self._due.get(key)
        if due is None:
            self._make_room(now)
            due = now
        elif due < now:
            due = now
        wait = due - self._tolerance_s - now
        # A request that comes exactly when it was told to must not fail by the rounding of the subtraction.
        if wait > 1e-6:
            return wait
        self._due[key] = due + self.interval_s
        self._due.move_to_end(key)
        return 0.0

    def _make_room(self, now: float) -> None:
        for _ in range(_SWEEP):
            if not self._due:
                return
            key, due = next(iter(self._due.items()))
            if due > now and len(self._due) < self._max_keys:
                return
            del self._due[key]


def caller_key(principal: Principal, peer: str) -> str:
    """Return the key of whoever calls: the principal, or the address of one that is nobody in particular."""
    return principal.id if principal.kind != "anonymous" else address_key(peer)


def address_key(address: str) -> str:
    """Return the key of a client that is known only by its address.

    An IPv6 subscriber has a whole /64 to call from (RFC 6177), so that counts as one client; IPv4 written as IPv6
    counts as the IPv4 it is.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64)) + "/64"
