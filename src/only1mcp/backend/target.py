"""Where a configured HTTP backend is and what every request to it carries: its URL and headers, checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from only1mcp import __version__
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import ConfigError
from only1mcp.wire.http1_events import Headers

# Fields that frame the message, belong to the connection or are MCP's own: we write them, nobody overrides them.
# Accept-Encoding is one of them because we decode nothing, so that no compressed answer can grow beyond its limit.
RESERVED: Final = frozenset(
    {"accept", "accept-encoding", "content-encoding", "content-type", "host", "last-event-id"}
    | {"connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
    | {"mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "upgrade"}
)
RESERVED_PREFIX: Final = "mcp-param-"

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
# RFC 3986: everything a path or query may hold unencoded, and the percent sign of what is encoded already.
_TARGET_SAFE: Final = "/:@!$&'()*+,;=-._~%?"


@dataclass(frozen=True, slots=True)
class Target:
    """An http or https URL taken apart: whom to connect to, and how the request names it (RFC 9112 section 3.2.1)."""

    host: str
    port: int
    tls: bool
    authority: bytes
    path: bytes


def parse_target(url: str) -> Target:
    """Return the parts of `url`; raise `ValueError` saying what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"expected a URL with http or https, got scheme {parts.scheme!r}")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong into the URL: use auth or headers")
    host = parts.hostname
    if not host:
        raise ValueError(f"expected a URL with a host, got {url!r}")
    tls = parts.scheme == "https"
    default = 443 if tls else 80
    port = parts.port if parts.port is not None else default
    if port == 0:
        raise ValueError("expected a port from 1 to 65535, got 0")
    if ":" not in host:
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"expected a host name, got {host!r}") from None
    shown = f"[{host}]" if ":" in host else host
    if re.fullmatch(r"[A-Za-z0-9\-._~\[\]:]+", shown) is None:
        raise ValueError(f"expected a host name or address, got {host!r}")
    authority = shown if port == default else f"{shown}:{port}"
    path = quote(parts.path or "/", safe=_TARGET_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_TARGET_SAFE)
    return Target(host, port, tls, authority.encode(), path.encode())


def constant_headers(config: BackendConfig, target: Target) -> Headers:
    """Return what every request to this backend carries; raise `ConfigError` for headers that may not be configured."""
    path = f"servers[{config.id}].headers"
    problems = []
    headers: Headers = [(b"host", target.authority)]
    configured = {name.lower() for name in config.headers}
    if "user-agent" not in configured:
        headers.append((b"user-agent", f"only1mcp/{__version__}".encode()))
    if config.auth is not None and config.auth.token is not None:
        token = config.auth.token.reveal()
        if not token or re.fullmatch(r"[\x21-\x7e]+", token) is None:
            problems.append(f"servers[{config.id}].auth: expected a token of visible ASCII characters")
        elif "authorization" in configured:
            problems.append(f"{path}.authorization: auth sets this header already: keep one of the two")
        else:
            headers.append((b"authorization", b"Bearer " + token.encode()))
    for name, value in config.headers.items():
        key = name.lower()
        if _TOKEN.fullmatch(name) is None:
            problems.append(f"{path}: expected a header name, got {name!r}")
        elif key in RESERVED or key.startswith(RESERVED_PREFIX):
            problems.append(f"{path}.{name}: the proxy sets this header itself")
        elif _VALUE.fullmatch(value) is None:
            # The value may be a credential: it is not repeated.
            problems.append(f"{path}.{name}: expected visible ASCII characters, spaces and tabs between them")
        else:
            headers.append((key.encode(), value.encode()))
    if len(configured) != len(config.headers):
        problems.append(f"{path}: a header is given twice in different case")
    if problems:
        raise ConfigError(problems)
    return headers
