"""Answers kept for a while: results of backends whose hints say that they may be asked for again.

MCP 2026-07-28 "Caching". What is kept is the result as the backend gave it; an entry belongs to one principal whatever
the result's `cacheScope` says, because a hostile backend could declare one user's data public.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Final

from only1mcp._fast import LRU, members
from only1mcp.errors import ProtocolError
from only1mcp.metrics import Metrics
from only1mcp.wire import mcp

# One result may take this part of the cache: a backend with a few huge ones would evict everybody else's.
MAX_SHARE: Final = 16

# A retry carries answers of the user (2026-07-28 "Multi Round-Trip Requests"): never cached, nor answered from here.
_RETRY: Final = frozenset({"inputResponses", "requestState"})
# Members of `_meta` that do not affect a result. Any other one might, and makes a key of its own.
_IRRELEVANT_META: Final = frozenset(
    {"progressToken", "traceparent", "tracestate", "baggage", mcp.META_CLIENT_INFO, mcp.META_LOG_LEVEL}
)
# In front of each value: when the backend's own hint runs out, and where in the result that hint is written.
_STAMP: Final = struct.Struct(">QII")
_INTEGER: Final = re.compile(rb"[0-9]{1,15}")
# Hints are numbers of any length; a day is more than enough, and what SDKs clamp to.
_LONGEST_HINT_MS: Final = 24 * 3600 * 1000


class ResponseCache:
    """Results by principal, group, method and params, in `limit_bytes` of memory.

    `max_ttl_ms` bounds what a hint may ask for; `default_ttl_ms` is for results without a hint, 0 keeps none of them.
    `now_ms` is milliseconds of a clock that does not go back.
    """

    def __init__(self, limit_bytes: int, max_ttl_ms: int, metrics: Metrics, *, default_ttl_ms: int = 0) -> None:
        self._lru = LRU(limit_bytes)
        self._largest = limit_bytes // MAX_SHARE
        self._max_ttl_ms = max_ttl_ms
        self._default_ttl_ms = min(default_ttl_ms, max_ttl_ms)
        self._metrics = metrics
        # A part of each key. To raise it makes every older key unknown at once; the entries behind those age out. It
        # also keeps out an answer that was on its way when its group was invalidated.
        self._generation = 0
        self._generations: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._lru)

    @property
    def used_bytes(self) -> int:
        return self._lru.used_bytes

    def key(self, principal_id: str, group: str, method: str, params: bytes) -> bytes | None:
        """Return the key of a request, or None when its answer is not to be cached.

        `params` is the JSON object as the client sent it or as the backend gets it, the same one for every request. The
        order of its members makes no difference, nor do the progress token and trace context in `_meta`.
        """
        if method not in mcp.CACHEABLE:
            return None
        try:
            found = members(params, 0, len(params))
            if not _RETRY.isdisjoint(found):
                return None
            parts = [(b"", name.encode(), params[slice(*span)]) for name, span in found.items() if name != "_meta"]
            if "_meta" in found:
                meta = members(params, *found["_meta"])
                parts += [
                    (b"_meta", name.encode(), params[slice(*span)])
                    for name, span in meta.items()
                    if name not in _IRRELEVANT_META
                ]
        except ProtocolError:
            return None
        generation = f"{self._generation} {self._generations.get(group, 0)}"
        texts = [principal_id.encode(), group.encode(), generation.encode(), method.encode()]
        texts += [text for part in sorted(parts) for text in part]
        # Not xxhash: who can make two requests with one key reads another's answer. Lengths keep the texts apart.
        digest = hashlib.blake2b(digest_size=32)
        for text in texts:
            digest.update(len(text).to_bytes(8, "big"))
            digest.update(text)
        return digest.digest()

    def lookup(self, key: bytes, now_ms: int) -> bytes | None:
        """Return the result kept under `key`, its `ttlMs` lowered by its age; counts a hit or a miss."""
        value = self._lru.lookup(key, now_ms)
        if value is None:
            self._metrics.cache_miss()
            return None
        self._metrics.cache_hit()
        fresh_until, start, end = _STAMP.unpack_from(value)
        if start == end:
            return value[_STAMP.size :]
        left = b"%d" % max(0, fresh_until - now_ms)
        return value[_STAMP.size : start] + left + value[end:]

    def store(self, key: bytes, result: bytes, now_ms: int) -> bool:
        """Keep a result (the JSON object) as long as its hints allow; return whether it was kept.

        Not kept: a result that is not `complete`, has no time to live, is too large, or cannot be read. `now_ms` is
        when it arrived; `key` was made before its request was sent.
        """
        try:
            found = members(result, 0, len(result))
        except ProtocolError:
            return False
        kind = found.get("resultType")
        if kind is not None and result[slice(*kind)] != b'"complete"':
            return False
        start = end = 0
        ttl_ms = self._default_ttl_ms
        hint = found.get("ttlMs")
        if hint is not None:
            token = result[slice(*hint)]
            hinted_ms = min(int(token), _LONGEST_HINT_MS) if _INTEGER.fullmatch(token) else 0
            ttl_ms = min(hinted_ms, self._max_ttl_ms)
            start, end = hint[0] + _STAMP.size, hint[1] + _STAMP.size
            fresh_until = now_ms + hinted_ms
        else:
            fresh_until = now_ms + ttl_ms
        if ttl_ms <= 0 or len(result) > self._largest:
            return False
        return self._lru.store(key, _STAMP.pack(fresh_until, start, end) + result, ttl_ms, now_ms)

    def invalidate_group(self, group: str) -> None:
        """Forget every answer of a group: its backend says that something changed, or it is no longer the same one."""
        self._generations[group] = self._generations.get(group, 0) + 1

    def clear(self) -> int:
        """Forget everything; return how many entries there were."""
        self._generation += 1
        return self._lru.clear()
