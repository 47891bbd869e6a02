"""What each client sees of the merged lists, as digests: two that are equal need not be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import xxhash

from only1mcp.wire.listen import KINDS

if TYPE_CHECKING:
    from only1mcp.proxy.auth import Principal
    from only1mcp.proxy.catalog import Catalog
    from only1mcp.wire.mcp import Era

# The lists that one notification stands for.
_LISTS: Final = {
    "tools": ("tools/list",),
    "prompts": ("prompts/list",),
    "resources": ("resources/list", "resources/templates/list"),
}
# Principals with lists of tools of their own have views of their own; beyond this many they are made anew.
MAX_VIEWS: Final = 1024

# Digests by kind of list.
View = dict[str, str]


class Views:
    """The digests of one catalog, made when they are first asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._digests: dict[tuple[str, tuple[str, ...] | None, Era], str] = {}

    def view(self, principal: Principal, era: Era) -> View:
        """Return what this client sees now."""
        return {kind: self.digest(kind, principal, era) for kind in KINDS}

    def digest(self, kind: str, principal: Principal, era: Era) -> str:
        """Return 16 hexadecimal digits that are the same for the same items, in whatever order they are listed."""
        tools = principal.tools if kind == "tools" else None
        key = (kind, tools, era)
        digest = self._digests.get(key)
        if digest is None:
            if len(self._digests) >= MAX_VIEWS:
                self._digests.clear()
            digest = self._digests[key] = self._make(kind, None if tools is None else principal, era)
        return digest

    def _make(self, kind: str, principal: Principal | None, era: Era) -> str:
        hasher = xxhash.xxh3_64()
        for method in _LISTS[kind]:
            for key, item in sorted(self._catalog.lists[method].by_key.items()):
                if principal is None or principal.may_call(key):
                    text = item.text(era)
                    hasher.update(len(text).to_bytes(8, "big") + text)
            hasher.update(b"|")
        return hasher.hexdigest()
