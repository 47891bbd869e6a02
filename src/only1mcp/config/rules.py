"""Rules between keys: what belongs together, what excludes each other, and what is refused because it is not built."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from only1mcp.config.build import Builder
from only1mcp.config.messages import Mark, Problems, listed, shown
from only1mcp.config.schema import HTTP_KEYS, STDIO_KEYS, Auth, BackendConfig, Config, Output, Proxy
from only1mcp.config.source import Node

# Set by us for each message; one from the configuration would contradict the message that it travels with.
_OUR_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "keep-alive", "te", "trailer"}
    | {"upgrade", "expect", "accept", "accept-encoding", "last-event-id"}
    | {"mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name"}
)
_OWN_PATHS = ("/health", "/ready", "/api", "/.well-known", "/sse", "/messages")


class Rules:
    """Checks a built configuration against the tree it came from; `check` notes all problems."""

    def __init__(self, root: Node, builder: Builder, problems: Problems) -> None:
        self._root = root
        self._builder = builder
        self._problems = problems

    def check(self, config: Config) -> None:
        self._proxy(config.proxy)
        self._auth(config.auth)
        self._exposure(config)
        for output in config.logging.outputs:
            self._output(output)
        self._listeners(config)
        self._unique(config.servers, "id")
        self._unique(config.auth.api_keys, "name")
        self._unique(config.auth.api_keys, "key_sha256", "the same key as")
        for backend in config.servers:
            self._backend(backend)

    def _proxy(self, proxy: Proxy) -> None:
        at = self._root.nearest("proxy", "tls")
        tls = proxy.tls
        if (tls.enabled or (tls.cert is None) != (tls.key is None)) and not self._spoilt(at, "enabled", "cert", "key"):
            for name in ("cert", "key"):
                if getattr(tls, name) is None:
                    self._add(at, f"the key {name} is missing: TLS needs cert and key, the names of two PEM files")
        if tls.client_ca is not None:
            self._add(
                at.nearest("client_ca"), "client certificates cannot be checked in this version: remove client_ca"
            )
        path = proxy.path.rstrip("/")
        if not path or any(path == own or path.startswith(own + "/") for own in _OWN_PATHS):
            self._add(
                self._root.nearest("proxy", "path"), f"expected another path, got {shown(proxy.path)}, which is ours"
            )

    def _auth(self, auth: Auth) -> None:
        if auth.jwt is not None and auth.jwt.jwks_url is not None:
            self._add(
                self._root.nearest("auth", "jwt", "jwks_url"),
                "tokens cannot be checked against a JWKS in this version: remove jwks_url and use secret_env",
            )

    def _exposure(self, config: Config) -> None:
        at = self._root.nearest("proxy", "host")
        auth = self._root.get("auth")
        host, rules = config.proxy.host, config.auth
        if is_loopback(host) or rules.allow_anonymous or rules.jwt is not None or rules.api_keys:
            return
        spoilt = auth is not None and (auth.bad or self._spoilt(auth, "jwt", "api_keys", "allow_anonymous"))
        if not spoilt and not (auth is not None and self._keys_spoilt(auth)):
            self._add(
                at,
                f"{shown(host)} is reachable from other machines, and no client has to authenticate: set auth.jwt or "
                "auth.api_keys, or write auth.allow_anonymous: true",
            )

    def _keys_spoilt(self, auth: Node) -> bool:
        keys = auth.get("api_keys")
        return keys is not None and isinstance(keys.value, list) and bool(keys.value)

    def _output(self, output: Output) -> None:
        at = self._builder.node_of(output)
        if at is None:
            return
        if output.type == "audit":
            self._add(at.nearest("type"), "an audit log is not kept in this version: remove this output")
        elif output.type == "stdout" and output.path is not None:
            self._add(at.nearest("path"), "has no meaning for type stdout")
        elif output.type != "stdout" and output.path is None and not self._spoilt(at, "path"):
            self._add(at, f"the key path is missing: type {output.type} needs the name of a file")

    def _listeners(self, config: Config) -> None:
        paths = [output for output in config.logging.outputs if output.path is not None]
        self._unique(paths, "path", "the same file as")
        proxy, metrics = config.proxy, config.metrics
        if metrics.enabled and proxy.port == metrics.port != 0 and proxy.host == metrics.host:
            metrics_port = self._root.nearest("metrics", "port")
            at = metrics_port if metrics_port is not self._root else self._root.nearest("proxy", "port")
            self._add(at, f"expected different ports for proxy and metrics, got {proxy.port} for both")

    def _unique(self, structs: Iterable[object], name: str, text: str = "already taken by") -> None:
        seen: dict[str, Node] = {}
        for one in structs:
            value = getattr(one, name)
            at = self._builder.node_of(one)  # type: ignore[arg-type]
            if at is None or value is None:
                continue
            first = seen.setdefault(value, at)
            if first is not at:
                where = first.path if first.mark.file == at.mark.file else f"{first.mark}"
                self._add(at.nearest(name), f"{text} {where or first.mark}")

    def _backend(self, backend: BackendConfig) -> None:
        at = self._builder.node_of(backend)
        if at is None:
            return
        stdio = backend.transport == "stdio"
        needed = "command" if stdio else "url"
        if getattr(backend, needed) is None and not self._spoilt(at, needed):
            self._add(at, f"the key {needed} is missing: transport {backend.transport} needs it")
        for key in HTTP_KEYS if stdio else STDIO_KEYS:
            given = at.get(key)
            if given is not None and given.value:
                others = "http and sse" if stdio else "stdio"
                self._add(given, f"has no meaning for transport {backend.transport}, only for {others}")
        if backend.url is not None:
            self._url(at.nearest("url"), backend.url)
        if backend.health_check_url is not None and not backend.health_check_url.startswith("internal:"):
            self._url(at.nearest("health_check_url"), backend.health_check_url)
        self._headers(backend, at)
        self._tools(backend, at)

    def _url(self, at: Node, url: str) -> None:
        problem = url_problem(url)
        if problem is not None:
            self._add(at, problem)

    def _headers(self, backend: BackendConfig, at: Node) -> None:
        seen: set[str] = set()
        for name, value in backend.headers.items():
            here = at.nearest("headers", name)
            lower = name.lower()
            if lower in seen:
                self._add(here, "given twice: header names are the same in upper and lower case")
            seen.add(lower)
            if lower in _OUR_HEADERS or lower.startswith("mcp-param-"):
                self._add(here, "this header is set by the proxy itself")
            elif lower == "authorization" and backend.auth is not None:
                self._add(here, "expected either this header or auth, got both")
            # RFC 9110 section 5.5; a line feed would end the header and begin another.
            elif re.fullmatch(r"[\t\x20-\x7e]*", value) is None or value != value.strip():
                self._add(here, "expected visible ASCII characters without blanks at the ends")

    def _tools(self, backend: BackendConfig, at: Node) -> None:
        names: dict[str, str] = {}
        for old, new in backend.tools.rename.items():
            if new in names:
                self._add(at.nearest("tools", "rename", old), f"expected a name of its own, got that of {names[new]}")
            names[new] = shown(old)

    def _spoilt(self, at: Node, *keys: str) -> bool:
        return any(self._builder.unusable(at.get(key)) or self._builder.was_meant(at, key) for key in keys)

    def _add(self, at: Node, text: str) -> None:
        # What is written in a variable or flag has no line; what is missing stands where its section begins.
        mark = at.mark if at.mark.line or at is not self._root else Mark(self._root.mark.file)
        self._problems.add(mark, at.path, text)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_problem(url: str) -> str | None:
    """Return what is wrong with a backend's URL; the URL itself is not repeated, it may carry a credential."""
    if re.fullmatch(r"[!-~]+", url) is None or "\\" in url:
        return "expected a URL of visible ASCII characters (percent-encode the others)"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"expected a valid URL: {str(error).lower()}"
    if parts.scheme not in ("http", "https"):
        return f"expected an {listed(['http://', 'https://'])} URL"
    if not parts.hostname or port == 0:
        return "expected a URL with a host" + ("" if port != 0 else " and a port above 0")
    if parts.username is not None or parts.password is not None:
        return "expected a URL without user name and password: use auth or headers"
    if parts.fragment or url.endswith("#"):
        return "expected a URL without a fragment ('#...')"
    return None
