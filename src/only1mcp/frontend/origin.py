"""Which `Host` and `Origin` a request may carry: the defence against DNS rebinding and foreign web pages, and CORS.

MCP "Security Warning" (Streamable HTTP): servers MUST validate `Origin`; RFC 9110 section 7.2 for `Host`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from only1mcp.config import rules
from only1mcp.errors import NotAllowed, RequestRefused
from only1mcp.wire.http1_events import Headers, RequestHead

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS = b"GET, POST, DELETE, OPTIONS"
_REQUEST_HEADERS = (
    b"authorization, content-type, accept, x-api-key, last-event-id, mcp-protocol-version, mcp-session-id, "
    b"mcp-method, mcp-name"
)

# Spellings of Host that are remembered: case and port differ from client to client, but not in a thousand ways.
MAX_PASSED: Final = 1000


def is_loopback(host: str) -> bool:
    """Tell whether an address or name of `proxy.host` can be reached from this machine alone, as its rules do.

    One more name counts here, where it adds checks; there it would take away the need for credentials.
    """
    return host.lower() == "ip6-localhost" or rules.is_loopback(host.strip("[]"))


class OriginPolicy:
    """Checks Host and Origin; `bound_to` is the address of the listener.

    On loopback, `Host` must be a loopback name, `bound_to` or one of `allowed_hosts`. Elsewhere `Host` is only checked
    where `allowed_hosts` says what to expect. An `Origin` must be allowed by name, or be a loopback page while we are
    on loopback ourselves; a request without `Origin` does not come from a page.
    """

    def __init__(self, bound_to: str, allowed_hosts: Iterable[str], allowed_origins: Iterable[str]) -> None:
        self._loopback = is_loopback(bound_to)
        hosts = {host.lower() for host in allowed_hosts}
        self._check_host = self._loopback or bool(hosts)
        self._hosts = hosts | _LOOPBACK_NAMES | {bound_to.lower(), f"[{bound_to.lower()}]"}
        # Values of Host that have passed: clients send the same one with every request.
        self._passed: set[bytes] = set()
        self._origins = {origin.lower().rstrip("/") for origin in allowed_origins}

    def check(self, head: RequestHead) -> None:
        """Raise `NotAllowed` (403) for a foreign Origin, `RequestRefused` (421) for a foreign Host."""
        # Of two lines readers differ which one holds, so neither is believed.
        if head.repeats(b"origin"):
            raise _foreign_origin()
        origin = head.get(b"origin")
        if origin is not None and not self._origin_allowed(origin.decode("latin-1")):
            raise _foreign_origin()
        if self._check_host:
            host = head.get(b"host") or b""
            if host not in self._passed:
                self._check(host)

    def _check(self, value: bytes) -> None:
        host = value.decode("latin-1").lower()
        if host not in self._hosts and _without_port(host) not in self._hosts:
            raise RequestRefused(
                "this host name is not served here",
                code=-32600,
                http_status=421,
                data={"hint": "list it in proxy.allowed_hosts"},
            )
        if len(self._passed) < MAX_PASSED:
            self._passed.add(value)

    def cors_headers(self, head: RequestHead) -> Headers:
        """Return what lets the page of an allowed Origin read the answer; nothing when no page asked."""
        origin = head.get(b"origin")
        if origin is None:
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"mcp-session-id, www-authenticate, retry-after"),
            (b"vary", b"origin"),
        ]

    def preflight_headers(self, head: RequestHead) -> Headers:
        """Return the answer to a CORS preflight of an allowed Origin (Fetch standard, section 3.2)."""
        headers = self.cors_headers(head)
        headers += [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", b"600")]
        asked = head.get(b"access-control-request-headers") or b""
        # Mcp-Param-* names are the tools' own, so they are echoed instead of listed.
        extra = [n for n in asked.lower().replace(b" ", b"").split(b",") if n.startswith(b"mcp-param-")]
        headers.append((b"access-control-allow-headers", b", ".join([_REQUEST_HEADERS, *extra])))
        return headers

    def _origin_allowed(self, origin: str) -> bool:
        origin = origin.lower()
        if origin in self._origins:
            return True
        if not self._loopback:
            return False
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
            port = parts.port
        except ValueError:
            return False
        bracketed = f"[{name}]" if ":" in name else name
        suffix = "" if port is None else f":{port}"
        return (
            parts.scheme in ("http", "https")
            and bracketed in _LOOPBACK_NAMES
            and (origin == f"{parts.scheme}://{bracketed}{suffix}")
        )


def _foreign_origin() -> NotAllowed:
    return NotAllowed("this origin is not allowed", data={"hint": "list it in proxy.allowed_origins"})


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdigit() or not port) else host
