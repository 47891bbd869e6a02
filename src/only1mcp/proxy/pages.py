"""Answers made from one catalog and kept while it lives: pages of the lists, and `server/discover`.

A page is rendered once for everybody who may see the same of it. What differs from answer to answer, the id and how
long the list is still fresh, is put in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import orjson

from only1mcp._fast import Envelope, members
from only1mcp.config.schema import Cache
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.metrics import Metrics
from only1mcp.proxy import local
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.group import Group
from only1mcp.wire.mcp import HANDSHAKE, Era

# Of `proxy.cache.max_size_mb`; the rest is for results of backends.
PAGES_SHARE: Final = 4
# What a page takes beside its bytes.
_PAGE_OVERHEAD: Final = 400
# A backend that is away or slow is not told again on every request that its lists have aged.
ASK_AGAIN_S: Final = 5.0

# Which page a request asks for: method, whether by the handshake era, the tools that its sender may see (None: all),
# cursor. Nothing in it takes Python code to hash, as a member of an Enum does.
Wanted: TypeAlias = "tuple[str, bool, tuple[str, ...] | None, str | None]"
DISCOVER: Final[Wanted] = ("server/discover", False, None, None)


class Page:
    """A result up to and after the value of `ttlMs`; there is no second part where there is no such value."""

    __slots__ = ("head", "tail")

    def __init__(self, head: bytes, tail: bytes | None) -> None:
        self.head = head
        self.tail = tail

    def answer(self, id: bytes, fresh_ms: int) -> bytes:
        """Return the whole answer to the request with this id."""
        if self.tail is None:
            return b"".join((b'{"jsonrpc":"2.0","id":', id, b',"result":', self.head, b"}"))
        return b"".join((b'{"jsonrpc":"2.0","id":', id, b',"result":', self.head, b"%d" % fresh_ms, self.tail, b"}"))


class Pages:
    """The pages of one catalog. `settings` are those of `proxy.cache`; where it is off, no page is kept.

    Lists that have aged are read again all the same: a backend that never tells of changes may have others by now.
    """

    def __init__(self, catalog: Catalog, groups: Mapping[str, Group], settings: Cache) -> None:
        self._catalog = catalog
        self._groups = groups
        self._age_s = settings.ttl_seconds
        self._lifetime_s = settings.ttl_seconds if settings.enabled else 0.0
        self._limit_bytes = (settings.max_size_mb << 20) // PAGES_SHARE if settings.enabled else 0
        self._pages: dict[Wanted, Page] = {}
        # Where a kept page left off. Any item's cursor begins a page, but only these begin one that others ask for.
        self._continued: set[Wanted] = set()
        # By list method: until when it is fresh, and when its backends should be asked again; the event loop's time.
        self._fresh: dict[str, tuple[float, float]] = {}
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._pages)

    def discover(self, id: bytes, metrics: Metrics) -> bytes:
        """Return the answer to `server/discover`."""
        page = self._pages.get(DISCOVER)
        if page is not None:
            metrics.cache_hit()
        else:
            metrics.cache_miss()
            page = Page(local.discover(self._catalog), None)
            if self._room(page):
                self._pages[DISCOVER] = page
        return page.answer(id, 0)

    def list(self, message: Envelope, era: Era, principal: Principal, now_s: float, metrics: Metrics) -> bytes:
        """Return the answer to a list request; `now_s` is the event loop's time.

        Raise `RequestRefused`: -32601 where no backend has the capability, -32602 for a cursor that we did not give.
        """
        wanted = wanted_by(message, era, principal)
        page = self._pages.get(wanted)
        if page is not None:
            metrics.cache_hit()
        else:
            page = self._render(wanted, era, principal)
            metrics.cache_miss()
        assert message.id is not None
        return page.answer(message.id, self._fresh_ms(wanted[0], now_s))

    def has(self, wanted: Wanted) -> bool:
        """Return whether a page is kept."""
        return wanted in self._pages

    def again(self, wanted: Wanted, id: bytes, now_s: float, metrics: Metrics) -> bytes:
        """Return the answer that a page which is kept (`has`) gives to the request with this id."""
        metrics.cache_hit()
        method = wanted[0]
        page = self._pages[wanted]
        return page.answer(id, 0 if method == "server/discover" else self._fresh_ms(method, now_s))

    def clear(self) -> int:
        """Forget every page; return how many there were."""
        count = len(self)
        self._pages.clear()
        self._continued.clear()
        self.used_bytes = 0
        return count

    def _render(self, wanted: Wanted, era: Era, principal: Principal) -> Page:
        method, handshake, tools, cursor = wanted
        only = None if tools is None else principal.may_call
        head, tail, following = local.list_page(self._catalog, method, era, only, cursor)
        page = Page(head, tail)
        if (cursor is None or wanted in self._continued) and self._room(page):
            self._pages[wanted] = page
            if following is not None:
                self._continued.add((method, handshake, tools, following))
        return page

    def _room(self, page: Page) -> bool:
        """Make room for a page, and count it; False where it would take all there is."""
        size = len(page.head) + len(page.tail or b"") + _PAGE_OVERHEAD
        if size > self._limit_bytes:
            return False
        if self.used_bytes + size > self._limit_bytes:
            self.clear()
        self.used_bytes += size
        return True

    def _fresh_ms(self, method: str, now_s: float) -> int:
        """Return how long the list is still true by what its backends said; have those read again that it is not."""
        until, due = self._fresh.get(method, (0.0, 0.0))
        if now_s >= due:
            until, due = self._fresh[method] = self._look(method, now_s)
        return max(0, int((until - now_s) * 1000))

    def _look(self, method: str, now_s: float) -> tuple[float, float]:
        until = due = float("inf")
        for group in self._groups.values():
            endpoint = group.source
            ttl_ms = None if endpoint is None else endpoint.ttl_ms.get(method)
            if endpoint is None or ttl_ms is None:
                continue
            hint_s = min(ttl_ms / 1000, self._lifetime_s)
            again = endpoint.read_at + (min(ttl_ms / 1000, self._age_s) or self._age_s)
            if again <= now_s:
                endpoint.reread()
                again = now_s + ASK_AGAIN_S
            due = min(due, again)
            until = min(until, endpoint.read_at + hint_s)
        return (0.0 if due == float("inf") else until), due


def wanted_by(message: Envelope, era: Era, principal: Principal) -> Wanted:
    """Return which page a list request asks for; raise `ProtocolError` (-32602) for a cursor that is no string."""
    method = message.method or ""
    return method, era is HANDSHAKE, principal.tools if method == "tools/list" else None, _cursor(message)


def _cursor(message: Envelope) -> str | None:
    if message.params is None:
        return None
    span = members(message.data, *message.params).get("cursor")
    if span is None:
        return None
    value = orjson.loads(message.data[slice(*span)])
    if not isinstance(value, str):
        raise ProtocolError("params.cursor must be a string", code=INVALID_PARAMS)
    return value
