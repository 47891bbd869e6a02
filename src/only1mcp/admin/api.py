"""The admin API on the clients' listener: who may use it, and what it does with the cache.

It needs its key. Where no key is configured it answers programs on this machine and nobody else: web pages reach
loopback addresses too, by a form, a script or a name that resolves there, and so does whoever is behind a proxy.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Callable
from typing import Any, Final

import orjson

from only1mcp.config.secret import Secret
from only1mcp.errors import INVALID_REQUEST, NotAllowed, NotAuthenticated, RequestRefused
from only1mcp.metrics import Metrics
from only1mcp.proxy.cache import ResponseCache
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.pages import Pages
from only1mcp.wire.http1_events import RequestHead

log = logging.getLogger("only1mcp.admin")

_CHALLENGE: Final = b'Bearer realm="only1mcp admin"'
_LOOPBACK_NAMES: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
# Only pages send the first ones, only proxies the others; a program on this machine that asks for itself sends none.
_OF_OTHERS: Final = (
    *(b"origin", b"referer", b"cookie", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"),
    *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"),
)


class AdminApi:
    """Answers requests below `/api/v1/admin/`.

    `pages` gives those of the catalog in force; `limit_bytes` is what they and the cache may take together.
    """

    def __init__(
        self,
        key: Secret | None,
        *,
        cache: ResponseCache | None,
        pages: Callable[[], Pages],
        metrics: Metrics,
        limit_bytes: int,
    ) -> None:
        self._key = None if key is None else hashlib.sha256(key.reveal().encode()).digest()
        self._cache = cache
        self._pages = pages
        self._metrics = metrics
        self._limit_bytes = limit_bytes
        # By the path as it is written: nothing is decoded or shortened, so that no other spelling leads here.
        self._routes: dict[bytes, tuple[bytes, Callable[[Exchange], Any]]] = {
            b"/api/v1/admin/cache/stats": (b"GET", self._cache_stats),
            b"/api/v1/admin/cache/clear": (b"POST", self._clear_cache),
        }

    def answer(self, exchange: Exchange) -> None:
        """Answer a request whose head has arrived; raise `Only1MCPError` for what is refused."""
        head = exchange.http.head
        exchange.cors = []  # nothing here is for pages, whichever site they are of
        self._authenticate(head, exchange.http.peer)
        route = self._routes.get(head.target.partition(b"?")[0])
        if route is None:
            raise RequestRefused("there is nothing at this path", code=INVALID_REQUEST, http_status=404)
        method, action = route
        if head.method != method:
            exchange.empty(405, [(b"allow", method)])
            return
        if head.get(b"transfer-encoding") is not None or (head.get(b"content-length") or b"0") != b"0":
            # Whoever sends one means to clear a part.
            raise RequestRefused("expected no body: the cache is cleared as a whole", code=INVALID_REQUEST)
        exchange.reply(200, orjson.dumps(action(exchange)), [(b"cache-control", b"no-store")])

    def _authenticate(self, head: RequestHead, peer: str) -> None:
        if self._key is None:
            host = (head.get(b"host") or b"").lower()
            name = host if host.endswith(b"]") else host.rpartition(b":")[0] or host
            if (
                not _is_loopback(peer)
                or name not in _LOOPBACK_NAMES
                or any(head.get(other) is not None for other in _OF_OTHERS)
            ):
                raise NotAllowed(
                    "the admin API needs its key here", data={"hint": "set admin.api_key_env, and send the key"}
                )
            return
        credentials = [_bearer(value) for value in head.get_all(b"authorization")] + head.get_all(b"x-api-key")
        given = hashlib.sha256(credentials[0] if len(credentials) == 1 else b"").digest()
        if not hmac.compare_digest(given, self._key):
            self._metrics.auth_failed()
            error = NotAuthenticated("expected the admin key: Authorization: Bearer <key>, or X-API-Key")
            error.challenge = _CHALLENGE
            raise error

    def _cache_stats(self, _exchange: Exchange) -> dict[str, Any]:
        cache, pages = self._cache, self._pages()
        results = {"entries": 0, "bytes": 0} if cache is None else {"entries": len(cache), "bytes": cache.used_bytes}
        hits, misses, coalesced = self._metrics.cache_counts()
        return {
            "enabled": cache is not None,
            "entries": results["entries"] + len(pages),
            "bytes": results["bytes"] + pages.used_bytes,
            "limit_bytes": 0 if cache is None else self._limit_bytes,
            "hits": hits,
            "misses": misses,
            "hit_ratio": round(hits / (hits + misses), 4) if hits + misses else None,
            "coalesced": coalesced,
            "evictions": 0 if cache is None else cache.evictions,
            "results": results,
            "pages": {"entries": len(pages), "bytes": pages.used_bytes},
        }

    def _clear_cache(self, exchange: Exchange) -> dict[str, Any]:
        results = 0 if self._cache is None else self._cache.clear()
        pages = self._pages().clear()
        log.warning("admin.cache_cleared", extra={"fields": {"peer": exchange.http.peer, "entries": results + pages}})
        return {"cleared": results + pages, "results": results, "pages": pages}


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address.is_loopback or (mapped is not None and mapped.is_loopback))


def _bearer(value: bytes) -> bytes:
    """Return the token of an Authorization field, which is empty for any other scheme."""
    scheme, _, token = value.partition(b" ")
    return token.strip(b" ") if scheme.lower() == b"bearer" else b""
