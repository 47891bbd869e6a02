"""Keys that are accepted but change nothing yet: `validate` and `start` say so, line by line."""

from __future__ import annotations

from collections.abc import Iterator

from only1mcp.config.schema import Config
from only1mcp.config.source import Node

_NO_ACTIVE_CHECKS = "backends are not checked actively, only by the calls that they get"
_NO_ADMIN_LISTENER = "the admin API is served on the clients' listener"
_SECTIONS = (
    (("proxy", "health"), _NO_ACTIVE_CHECKS),
    (("proxy", "circuit_breaker"), "endpoints that fail calls are not taken out"),
    (("auth", "jwt", "expiry_hours"), "no tokens are made here; a token is good until its own exp"),
    (("admin", "host"), _NO_ADMIN_LISTENER),
    (("admin", "port"), _NO_ADMIN_LISTENER),
    (("admin", "allow_commands"), "no backend can be added while the proxy runs"),
)


def notices(root: Node, config: Config, servers: list[Node]) -> list[str]:
    """Return a line for each key in force without effect; `root` is the tree with profile and environment applied."""
    return list(_lines(root, config, servers))


def _lines(root: Node, config: Config, servers: list[Node]) -> Iterator[str]:
    if config.proxy.workers != 1:
        yield _line(root.nearest("proxy", "workers"), root, "one worker serves everything")
    for steps, what in _SECTIONS:
        node = root.get(*steps)
        if node is not None and node.value:
            yield _line(node, root, what)
    if config.state.url is not None:
        yield _line(root.nearest("state", "url"), root, "state is kept in this process, nothing is shared with others")
    keys = root.get("auth", "api_keys")
    for key in keys.value if keys is not None and isinstance(keys.value, list) else []:
        scopes = key.get("scopes")
        if scopes is not None and scopes.value:
            yield _line(scopes, root, "a key's scopes are not checked")
    for node in servers:
        yield from _server(node, root)


def _server(node: Node, root: Node) -> Iterator[str]:
    retries = node.get("retries")
    if retries is not None and retries.value:
        yield _line(retries, root, "a call that failed is not sent again")
    check = node.get("health_check_url")
    if check is not None and check.value:
        yield _line(check, root, _NO_ACTIVE_CHECKS)


def _line(node: Node, root: Node, what: str) -> str:
    mark = node.mark
    if not mark.line:
        where = f"{mark.file}: {node.path}"
    else:
        where = node.path if mark.file == root.mark.file else f"{mark.file}: {node.path}"
    return f"{where}: accepted, but has no effect in this version: {what}"
