"""Who serves a request: the tool, resource or prompt it names, the group that owns it, and its name there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from only1mcp._fast import members
from only1mcp.errors import INVALID_PARAMS, ProtocolError, RequestRefused
from only1mcp.proxy.catalog import Item
from only1mcp.proxy.exchange import Exchange, Snapshot
from only1mcp.proxy.group import Group
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.jsonrpc import Edit, Span, decode_string
from only1mcp.wire.mcp import STATELESS
from only1mcp.wire.mirror import Annotation, annotated_arguments, check_params

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope


class Target:
    """Where a request goes: its group, the name or URI the backend knows, and the edit that puts it in place."""

    __slots__ = ("group", "hash_key", "item", "original", "replace")

    def __init__(
        self, group: Group, original: str | None, replace: Edit | None, item: Item | None, hash_key: bytes | None
    ) -> None:
        self.group = group
        self.original = original
        self.replace = replace
        self.item = item
        self.hash_key = hash_key


class Route:
    """What every request for one name finds; `renamed` is the JSON of its name at the backend, where that is another.

    `target` is the target of all of them where nothing depends on the request.
    """

    __slots__ = ("annotated", "group", "item", "renamed", "target")

    def __init__(self, group: Group, item: Item, name: str) -> None:
        self.group = group
        self.item = item
        self.renamed = None if item.original == name else orjson.dumps(item.original)
        self.annotated = bool(item.annotations)
        plain = self.renamed is None and not group.balances
        self.target = Target(group, item.original, None, item, None) if plain else None


def find_target(exchange: Exchange, message: Envelope, method: str) -> Target:
    """Find who serves this request and what it is called there.

    Raise `RequestRefused` for what nobody offers (-32602; resources in the handshake era -32002) and `ProtocolError`
    for params that name nothing.
    """
    if method == "completion/complete":
        return _completion_target(exchange, message)
    key = mcp.NAMED_BY[method]
    span = message.name if key == "name" else message.uri
    if span is None:
        raise ProtocolError(f"params.{key} must be a string", code=INVALID_PARAMS)
    name = decode_string(message.data, span)
    if method == "resources/read":
        return _resource_target(exchange, name, span)
    is_tool = method == "tools/call"
    routes = exchange.snapshot.tools if is_tool else exchange.snapshot.prompts
    route = routes.get(name)
    if route is None:
        route = routes[name] = _route(exchange, "tools/list" if is_tool else "prompts/list", name)
    item, principal = route.item, exchange.principal
    assert principal is not None
    if is_tool and principal.tools is not None and not principal.may_call(item.key):
        raise _unknown("tool", name)
    if route.annotated and exchange.era is STATELESS and exchange.http.vouched is None:
        check_params(item.annotations, mirrored_of(message, item.annotations), exchange.http.head.headers)
    return to_item(exchange, route, name, span)


def plain_route(snapshot: Snapshot, name: bytes, caches: bool) -> Route | None:
    """Return where plain calls of that tool go; None where there are none, or no call has gone there yet."""
    try:
        return snapshot.plain[name]
    except KeyError:
        route = snapshot.tools.get(name.decode())
    if route is None:
        return None
    by_arguments = route.group.balances and snapshot.config.proxy.load_balancer.hash_key == "arguments"
    plain = not (route.annotated or by_arguments or (caches and route.item.kept_ms is not None))
    snapshot.plain[name] = route if plain else None
    return snapshot.plain[name]


def _route(exchange: Exchange, method: str, name: str) -> Route:
    item = exchange.snapshot.catalog.find(method, name)
    if item is None:
        raise _unknown("tool" if method == "tools/list" else "prompt", name)
    return Route(exchange.snapshot.groups[item.group], item, name)


def _unknown(kind: str, name: str) -> RequestRefused:
    return RequestRefused(f"unknown {kind}: {name[:100]!r}", data={"name": name[:100]})


def to_item(exchange: Exchange, route: Route, name: str, span: Span) -> Target:
    if route.target is not None:
        return route.target
    replace = None if route.renamed is None else (*span, route.renamed)
    hash_key = hash_key_of(exchange, name) if route.group.balances else None
    return Target(route.group, route.item.original, replace, route.item, hash_key)


def _resource_target(exchange: Exchange, uri: str, span: Span) -> Target:
    owner = exchange.snapshot.catalog.resource_owner(uri)
    if owner is None:
        code = INVALID_PARAMS if exchange.era is STATELESS else mcp.RESOURCE_NOT_FOUND
        raise RequestRefused(f"unknown resource: {uri[:200]}", code=code, data={"uri": uri})
    group, original = owner
    replace = None if original == uri else (*span, orjson.dumps(original))
    return Target(exchange.snapshot.groups[group], original, replace, None, hash_key_of(exchange, uri))


def _completion_target(exchange: Exchange, message: Envelope) -> Target:
    data = message.data
    fields = {} if message.params is None else members(data, *message.params)
    if "ref" not in fields or data[fields["ref"][0] : fields["ref"][0] + 1] != b"{":
        raise ProtocolError("params.ref must be an object", code=INVALID_PARAMS)
    ref = members(data, *fields["ref"])
    kind = jsonrpc.decode(data, ref["type"]) if "type" in ref else None
    key = {"ref/prompt": "name", "ref/resource": "uri"}.get(kind) if isinstance(kind, str) else None
    if key is None or key not in ref:
        raise ProtocolError(
            "params.ref must be a ref/prompt with a name or a ref/resource with a uri",
            code=INVALID_PARAMS,
        )
    name = decode_string(data, ref[key])
    if key == "uri":
        return _resource_target(exchange, name, ref[key])
    return to_item(exchange, _route(exchange, "prompts/list", name), name, ref[key])


def hash_key_of(exchange: Exchange, name: str) -> bytes:
    """Return what consistent hashing keeps together, by `proxy.load_balancer.hash_key`."""
    kind = exchange.snapshot.config.proxy.load_balancer.hash_key
    if kind == "tool":
        return name.encode()
    if kind == "arguments":
        message = exchange.message
        assert message is not None
        return b"" if message.params is None else message.data[slice(*message.params)]
    if exchange.session is not None and kind in ("auto", "session"):
        return exchange.session.id.encode()
    principal = exchange.principal
    assert principal is not None
    return (principal.id if principal.kind != "anonymous" else exchange.http.peer).encode()


def mirrored_of(message: Envelope, annotations: tuple[Annotation, ...]) -> dict[str, Any]:
    """Return those of `params.arguments` that headers say again; raise as `annotated_arguments`."""
    span = None if message.params is None else members(message.data, *message.params).get("arguments")
    return {} if span is None else annotated_arguments(message.data, span, annotations)
