"""The merged tools, resources, templates and prompts of all groups, with their owners; immutable once made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import orjson
import xxhash

from only1mcp._fast import members
from only1mcp.backend.inventory import Inventory, ItemList
from only1mcp.config.schema import Cache
from only1mcp.errors import ProtocolError
from only1mcp.proxy import apps, names
from only1mcp.proxy.capabilities import makes_tasks, merged
from only1mcp.proxy.group import Group
from only1mcp.proxy.names import Patterns, UriTemplate
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import LIST_METHODS, Era
from only1mcp.wire.mirror import Annotation, header_params

log = logging.getLogger("only1mcp.catalog")

# Which member of an item is its key, by list method.
_KEY = {
    "tools/list": "name",
    "prompts/list": "name",
    "resources/list": "uri",
    "resources/templates/list": "uriTemplate",
}
# A client that wants pages gets this many items in one; few clients ever meet a second.
PAGE_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a merged list.

    `key` is how clients know it, `local` how its group would name it alone (after the operator's renames), `original`
    how the backend knows it; `raw` is its JSON text under `key`. `kept_ms` is how long the operator lets results of
    this tool or prompt be kept, None where nothing is said of it, or it is a tool that is not read-only.
    """

    key: str
    group: str
    local: str
    original: str
    raw: bytes
    stateless: bool
    annotations: tuple[Annotation, ...] = ()
    kept_ms: int | None = None

    def text(self, era: Era) -> bytes:
        """Return the item without members that a client of `era` has no meaning for."""
        drop = () if self.stateless is (era is Era.STATELESS) else _foreign_members(self.raw, self.stateless)
        return jsonrpc.edit_object(self.raw, (0, len(self.raw)), put={}, drop=drop) if drop else self.raw


@dataclass(slots=True)
class MergedList:
    """One list of the catalog in its order: configuration first, then as the backend lists."""

    items: tuple[Item, ...] = ()
    by_key: dict[str, Item] = field(default_factory=dict)
    public: bool = False
    _cursors: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def replace(self, change: Callable[[Item], Item]) -> None:
        """Put what `change` returns in the place of each item; keys stay what they are."""
        self.items = tuple(change(item) for item in self.items)
        self.by_key = {item.key: item for item in self.items}

    def after(self, cursor: str) -> int | None:
        """Return the index that follows the item a cursor names, None for a cursor that we did not give."""
        if self._cursors is None:
            self._cursors = {_cursor(item): index + 1 for index, item in enumerate(self.items)}
        return self._cursors.get(cursor)

    def page(self, start: int, only: Callable[[str], bool] | None) -> tuple[list[Item], str | None]:
        """Return up to `PAGE_ITEMS` items from `start`, only those whose key passes `only`, and the next cursor."""
        page: list[Item] = []
        for index in range(start, len(self.items)):
            item = self.items[index]
            if only is None or only(item.key):
                if len(page) == PAGE_ITEMS:
                    return page, _cursor(page[-1])
                page.append(item)
        return page, None


def _cursor(item: Item) -> str:
    # Names the last item of a page, so that it stays right on any worker and while other items come and go.
    return xxhash.xxh3_64_hexdigest(item.key.encode())


class Catalog:
    """What clients can list and call; `naming` as in the configuration.

    `collisions` tells of items that bare naming left out because an earlier group has their name. `cache` names the
    tools and prompts whose results may be kept.
    """

    def __init__(self, groups: Mapping[str, Group], naming: str, cache: Cache | None = None) -> None:
        self.collisions: list[str] = []
        self._cache = Cache(enabled=False) if cache is None else cache
        self._naming = naming
        self._groups = tuple(groups)
        # A group that has been away for long offers nothing, but keeps its names: what a client (or a key's list of
        # tools) knows by a name must not become another backend's because the first one is down.
        known = [(group, inventory) for group in groups.values() if (inventory := group.inventory or group.former)]
        found = [(group, inventory) for group, inventory in known if group.inventory is not None]
        self.lists = {method: self._merge(method, known) for method in LIST_METHODS}
        self._resource_groups = tuple(group.id for group, inventory in found if inventory.peer.offers("resources"))
        # A template that leaves the scheme open would draw every URI to its group that nobody lists.
        self._templates = [
            (UriTemplate(item.original), item.group)
            for item in self.lists["resources/templates/list"].items
            if ":" in item.original.partition("{")[0]
        ]
        self._schemes = _scheme_owners(self.lists)
        self._views = apps.owners(self.lists["tools/list"].items)
        if self._views:
            self.lists["tools/list"].replace(self._with_public_view)
        self._qualified: dict[str, dict[str, Item]] = {"tools/list": {}, "prompts/list": {}}
        for method, by_name in self._qualified.items():
            for item in self.lists[method].items:
                # Like bare names: who comes later changes nothing for those before.
                by_name.setdefault(names.qualified(item.group, item.local), item)
        self.capabilities = merged(inventory for _, inventory in known)
        self.instructions = _merged_instructions(found)

    def find(self, method: str, name: str) -> Item | None:
        """Return the tool (`tools/list`) or prompt (`prompts/list`) with this public or qualified name."""
        return self.lists[method].by_key.get(name) or self._qualified[method].get(name)

    def resource_owner(self, uri: str) -> tuple[str, str] | None:
        """Return group and original URI that a client's URI stands for, None when nobody can own it.

        In this order: a qualified URI, a listed resource, the view of a tool, a template, the one group that uses the
        scheme, the first group that has resources.
        """
        split = names.split_uri(uri)
        if split is not None and split[0] in self._groups:
            return split
        item = self.lists["resources/list"].by_key.get(uri) or self.lists["resources/templates/list"].by_key.get(uri)
        if item is not None:
            return item.group, item.original
        if uri in self._views:
            return self._views[uri], uri
        for template, group in self._templates:
            if template.match(uri):
                return group, uri
        owner = self._schemes.get(uri.partition(":")[0])
        if owner is None and self._resource_groups:
            owner = self._resource_groups[0]
        return None if owner is None else (owner, uri)

    def public_uri(self, group: str, uri: str) -> str:
        """Return what a client must be given for a URI of this group, so that reading it comes back to this group."""
        split = names.split_uri(uri)
        if split is not None and split[0] in self._groups:
            return names.qualified_uri(group, uri)  # of a gateway behind us, or made to look like another group's
        if len(self._resource_groups) < 2 or uri.startswith(("https:", "http:")):
            return uri  # nothing to confuse, or a URI that clients may fetch themselves
        return uri if self.resource_owner(uri) == (group, uri) else names.qualified_uri(group, uri)

    @property
    def rewrites_uris(self) -> bool:
        """Whether results may hold URIs that another group would answer to."""
        return len(self._resource_groups) > 1

    def _with_public_view(self, item: Item) -> Item:
        """Return the tool with the URI under which clients can read its view."""
        raw = apps.with_view(item.raw, lambda uri: self.public_uri(item.group, uri))
        return item if raw is item.raw else replace(item, raw=raw)

    def _merge(self, method: str, known: list[tuple[Group, Inventory]]) -> MergedList:
        merged = MergedList()
        taken: dict[str, Item] = {}
        contributors: list[ItemList] = []
        for group, inventory in known:
            offered = inventory.lists.get(method)
            if offered is None:
                continue
            here = group.inventory is not None
            if here:
                contributors.append(offered)
            seen: set[str] = set()
            for raw in offered.items:
                item = self._item(method, group, inventory, raw, taken, seen)
                if item is not None:
                    taken[item.key] = item
                    if here:
                        merged.by_key[item.key] = item
            if here and method == "tools/list":
                _check_rules(group, seen)
        merged.items = tuple(merged.by_key.values())
        merged.public = bool(contributors) and all(offered.public for offered in contributors)
        return merged

    def _item(
        self, method: str, group: Group, inventory: Inventory, raw: bytes, taken: dict[str, Item], seen: set[str]
    ) -> Item | None:
        """Return the item under its public key, None (with a log line) when it cannot be offered."""
        key = _KEY[method]
        try:
            span = members(raw, 0, len(raw))[key]
            original = jsonrpc.decode_string(raw, span)
            annotations = annotations_of(raw) if method == "tools/list" else ()
        except (KeyError, ProtocolError, ValueError) as error:
            reason = f"no {key!r}" if isinstance(error, KeyError) else str(error)
            _left_out(group, method, raw, reason)
            return None
        if original in seen:
            _left_out(group, method, raw, "listed twice")
            return None
        seen.add(original)
        local = original
        if method == "tools/list":
            if not _offered(group, original):
                return None
            local = group.rules.rename.get(original, original)
        public = self._public(key, group.id, local, original, taken)
        if public in taken:
            self.collisions.append(f"{public!r} of {group.id!r}, already offered by {taken[public].group!r}")
            _left_out(group, method, raw, f"the name {public!r} is taken by {taken[public].group!r}")
            return None
        if public != original:
            raw = jsonrpc.splice(raw, [(*span, orjson.dumps(public))])
        stateless = inventory.peer.era is Era.STATELESS
        if not stateless and b'"execution"' in raw and not makes_tasks(inventory.peer):
            # Its `taskSupport` means nothing by itself; beside backends that do make tasks it would be believed.
            raw = jsonrpc.edit_object(raw, (0, len(raw)), put={}, drop=("execution",))
        kept_ms = self._kept_ms(method, group, public, local, raw)
        return Item(public, group.id, local, original, raw, stateless, annotations, kept_ms)

    def _kept_ms(self, method: str, group: Group, public: str, local: str, raw: bytes) -> int | None:
        cache = self._cache
        named = {"tools/list": cache.tools, "prompts/list": cache.prompts}.get(method)
        if not named or not cache.enabled:
            return None
        settings = named.get(public) or named.get(names.qualified(group.id, local))
        if settings is None:
            return None
        if method == "tools/list" and not _read_only(raw):
            # The operator's word alone is not enough: a repeated call must do what it did the first time.
            log.warning("catalog.cached_tool_not_read_only", extra={"fields": {"backend": group.id, "tool": public}})
            return None
        return int((settings.ttl_seconds or cache.ttl_seconds) * 1000)

    def _public(self, key: str, group: str, local: str, original: str, taken: dict[str, Item]) -> str:
        """Return the key clients shall use; it may be taken, where no rule gives a free one."""
        if key != "name":
            split = names.split_uri(local)
            foreign = split is not None and split[0] in self._groups
            return names.qualified_uri(group, local) if foreign or local in taken else local
        public = names.fitting(local)
        if self._naming == "prefixed" or (self._naming == "auto" and public in taken):
            public = names.qualified(group, local)
            if public in taken:
                public = names.apart(group, original)
        return public


def annotations_of(raw: bytes) -> tuple[Annotation, ...]:
    if b"x-mcp-header" not in raw and b"\\u" not in raw:  # keys may be spelled with escapes
        return ()
    schema = orjson.loads(raw).get("inputSchema")
    return tuple(header_params(schema)) if isinstance(schema, dict) else ()


def _read_only(raw: bytes) -> bool:
    annotations = orjson.loads(raw).get("annotations")
    return isinstance(annotations, dict) and annotations.get("readOnlyHint") is True


def _check_rules(group: Group, offered: set[str]) -> None:
    """Warn of rules that meet no tool: a slip of the pen in `deny` would leave open what it was to close."""
    rules = group.rules
    for key, patterns in (("allow", rules.allow), ("deny", rules.deny), ("rename", tuple(rules.rename))):
        for pattern in patterns:
            if not any(map(Patterns([pattern]).match, offered)):
                fields = {"backend": group.id, "rule": f"tools.{key}", "name": pattern}
                log.warning("catalog.rule_meets_no_tool", extra={"fields": fields})


def _offered(group: Group, name: str) -> bool:
    rules = group.rules
    return (not rules.allow or Patterns(rules.allow).match(name)) and not Patterns(rules.deny).match(name)


def _foreign_members(raw: bytes, stateless: bool) -> tuple[str, ...]:
    """Return the members to drop from an item of one era for a client of the other."""
    if not stateless:
        return ("execution",) if b'"execution"' in raw else ()
    drop: tuple[str, ...] = ("execution",) if b'"execution"' in raw else ()
    if b'"outputSchema"' in raw:
        schema = orjson.loads(raw).get("outputSchema")
        # Before 2026-07-28 the root of an output schema is an object type.
        if not isinstance(schema, dict) or schema.get("type") != "object":
            drop += ("outputSchema",)
    return drop


def _left_out(group: Group, method: str, raw: bytes, reason: str) -> None:
    fields = {"backend": group.id, "list": method, "item": raw[:100].decode(errors="replace"), "reason": reason}
    log.warning("catalog.item_left_out", extra={"fields": fields})


def _scheme_owners(lists: Mapping[str, MergedList]) -> dict[str, str]:
    owners: dict[str, set[str]] = {}
    for method in ("resources/list", "resources/templates/list"):
        for item in lists[method].items:
            owners.setdefault(item.original.partition(":")[0], set()).add(item.group)
    return {scheme: next(iter(groups)) for scheme, groups in owners.items() if len(groups) == 1}


def _merged_instructions(found: Iterable[tuple[Group, Inventory]]) -> str | None:
    def texts() -> Iterator[str]:
        for group, inventory in found:
            if inventory.peer.instructions:
                yield f"[{group.id}] {inventory.peer.instructions}"

    return "\n\n".join(texts()) or None
