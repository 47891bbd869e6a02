"""Answers kept for a while: results of backends whose hints, or the operator, say that they may be given again.

MCP 2026-07-28 "Caching". What is kept is the result as the backend gave it. An entry belongs to one principal and the
credential it came with; only where the operator trusts a backend with it, `cacheScope: public` makes one for everybody.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

import xxhash

from only1mcp._fast import LRU, members
from only1mcp.errors import ProtocolError
from only1mcp.metrics import Metrics
from only1mcp.proxy.auth import Principal
from only1mcp.wire import mcp
from only1mcp.wire.mcp import Era

# One result may take this part of the cache: a backend with a few huge ones would evict everybody else's.
MAX_SHARE: Final = 16
# Resources that a backend has told to be changed are remembered one by one up to this many, then forgotten together:
# it may tell of any number that nobody has ever read.
MAX_UPDATED: Final = 10_000
# Keys are made anew for longer params, and when there are more requests than this.
MAX_REMEMBERED: Final = 4096
MAX_REMEMBERED_BYTES: Final = 2048

# What a method's results are forgotten with when lists change.
_KIND: Final = {"tools/call": "tools", "prompts/get": "prompts", "resources/read": "resources"}
KINDS: Final = tuple(_KIND.values())
# A retry carries answers of the user (2026-07-28 "Multi Round-Trip Requests"): never cached, nor answered from here.
_RETRY: Final = frozenset({"inputResponses", "requestState"})
# Members of `_meta` that ask for messages before the answer; a request with one has its call for itself.
_TOLD_BEFORE: Final = frozenset({"progressToken", mcp.META_LOG_LEVEL})
# Members of `_meta` that do not affect a result. Any other one might, and makes a key of its own.
_TRACING: Final = frozenset({"traceparent", "tracestate"})
# The same, as far as one principal is concerned; between two they might tell them apart.
_SENDER: Final = frozenset({"baggage", mcp.META_CLIENT_INFO})
# In front of each value: when the backend's own hint runs out, where in the result that hint is written, and whether
# the backend is one of the stateless era.
_STAMP: Final = struct.Struct(">QIIB")
_INTEGER: Final = re.compile(rb"[0-9]{1,15}")
# Hints are numbers of any length; a day is more than enough, and what SDKs clamp to.
_LONGEST_HINT_MS: Final = 24 * 3600 * 1000


class Asked(NamedTuple):
    """A request that has a key: what its answer depends on.

    `original` is the backend's own name or URI for what is asked for, `params` the JSON object as the client sent it,
    `revision` the client's. `ttl_ms` is what the operator gives to results of this tool or prompt, None where only
    hints count; `shared` whether the group's word is taken for what is public.
    """

    principal: Principal
    group: str
    method: str
    original: str
    params: bytes
    revision: str = ""
    ttl_ms: int | None = None
    shared: bool = False


class Key(NamedTuple):
    """Under what an answer may be found; `public` is None where it cannot be everybody's.

    `alone` is a request that must not wait for the call of another. `tool` and `ttl_ms` are what `hints` goes by.
    """

    private: bytes
    public: bytes | None
    alone: bool
    tool: bool
    ttl_ms: int | None


class Hints(NamedTuple):
    """How long a result may be kept and how long it says itself that it is fresh; where that is written in it."""

    ttl_ms: int
    fresh_ms: int
    start: int
    end: int
    public: bool


class Kept(NamedTuple):
    """A result from the cache, and the era of the backend that gave it."""

    result: bytes
    era: Era


class ResponseCache:
    """Results by principal, group, method and params, in `limit_bytes` of memory.

    `max_ttl_ms` bounds what a hint may ask for. `now_ms` is milliseconds of a clock that does not go back.
    """

    def __init__(self, limit_bytes: int, max_ttl_ms: int, metrics: Metrics) -> None:
        self._lru = LRU(limit_bytes)
        self._largest = limit_bytes // MAX_SHARE
        self._max_ttl_ms = max_ttl_ms
        self._metrics = metrics
        # Parts of each key. To raise one makes every older key unknown at once; the entries behind those age out. It
        # also keeps out an answer that was on its way when its group was invalidated.
        self._generation = 0
        self._generations: dict[tuple[str, str], int] = {}
        self._updated: dict[tuple[str, int], int] = {}
        # Keys made since the last of those changes, by request: most requests that are asked again are the same bytes.
        self._keys: dict[tuple[object, ...], Key] = {}

    def __len__(self) -> int:
        return len(self._lru)

    @property
    def used_bytes(self) -> int:
        return self._lru.used_bytes

    @property
    def limit_bytes(self) -> int:
        return self._lru.limit_bytes

    @property
    def evictions(self) -> int:
        return self._lru.evictions

    def key(self, asked: Asked) -> Key | None:
        """Return the key of a request, or None when its answer is not to be cached.

        The order of the members of its params makes no difference, nor do progress token and trace context in `_meta`.
        """
        principal = asked.principal
        # Of a principal these two: principals that differ in their credentials alone are equal.
        request = (principal.id, principal.credential, *asked[1:])
        key = self._keys.get(request)
        if key is None:
            key = self._make_key(asked)
            if key is not None and len(asked.params) <= MAX_REMEMBERED_BYTES:
                if len(self._keys) >= MAX_REMEMBERED:
                    self._keys.clear()
                self._keys[request] = key
        return key

    def lookup(self, key: Key, now_ms: int) -> Kept | None:
        """Return the result kept under `key`, its `ttlMs` lowered by its age; counts a hit or a miss."""
        value = self._lru.lookup(key.private, now_ms)
        if value is None and key.public is not None:
            value = self._lru.lookup(key.public, now_ms)
        if value is None:
            self._metrics.cache_miss()
            return None
        self._metrics.cache_hit()
        fresh_until, start, end, stateless = _STAMP.unpack_from(value)
        era = Era.STATELESS if stateless else Era.HANDSHAKE
        if start == end:
            return Kept(value[_STAMP.size :], era)
        left = b"%d" % max(0, fresh_until - now_ms)
        return Kept(b"".join((value[_STAMP.size : start], left, value[end:])), era)

    def hints(self, key: Key, result: bytes, era: Era) -> Hints | None:
        """Return how long the result (the JSON object) of a backend of `era` may answer others, None for not at all.

        Not at all: a result that is not `complete`, is a tool's error, has no time to live, or cannot be read.
        """
        try:
            found = members(result, 0, len(result))
        except ProtocolError:
            return None
        if _text(result, found, "resultType") not in (None, b'"complete"'):
            return None
        if key.tool and _text(result, found, "isError") not in (None, b"false"):
            return None
        limit_ms = self._max_ttl_ms if key.ttl_ms is None else key.ttl_ms
        hint = found.get("ttlMs") if era is Era.STATELESS else None
        if hint is None:
            ttl_ms = fresh_ms = key.ttl_ms or 0
            start = end = 0
        else:
            start, end = hint
            token = result[start:end]
            fresh_ms = min(int(token), _LONGEST_HINT_MS) if _INTEGER.fullmatch(token) else 0
            ttl_ms = min(fresh_ms, limit_ms)
        if ttl_ms <= 0:
            return None
        return Hints(ttl_ms, fresh_ms, start, end, _text(result, found, "cacheScope") == b'"public"')

    def store(self, key: Key, result: bytes, era: Era, hints: Hints, now_ms: int) -> bool:
        """Keep a result as its `hints` allow, if it is not too large; return whether it was kept.

        `now_ms` is when it arrived; `key` was made before its request was sent.
        """
        if len(result) > self._largest:
            return False
        to, shift = (key.public if hints.public else None), _STAMP.size if hints.end else 0
        stamp = _STAMP.pack(now_ms + hints.fresh_ms, hints.start + shift, hints.end + shift, era is Era.STATELESS)
        return self._lru.store(to or key.private, stamp + result, hints.ttl_ms, now_ms)

    def invalidate(self, group: str, kind: str | None = None, uri: str | None = None) -> None:
        """Forget the answers of a group: of one of KINDS, where only that has changed, or of one resource alone.

        An answer that is still on its way is not kept for those who ask from now on.
        """
        self._keys.clear()
        if uri is None:
            for each in KINDS if kind is None else (kind,):
                self._generations[group, each] = self._generations.get((group, each), 0) + 1
            return
        if len(self._updated) >= MAX_UPDATED:
            self._forget_updated()
        updated = (group, _short(uri))
        self._updated[updated] = self._updated.get(updated, 0) + 1

    def clear(self) -> int:
        """Forget everything; return how many entries there were."""
        self._generation += 1
        self._keys.clear()
        return self._lru.clear()

    def _make_key(self, asked: Asked) -> Key | None:
        principal, group, method, original, params, revision, ttl_ms, shared = asked
        kind, named_by = _KIND[method], mcp.NAMED_BY[method]
        alone = False
        sender: list[tuple[bytes, bytes, bytes]] = []
        try:
            found = members(params, 0, len(params))
            if not _RETRY.isdisjoint(found):
                return None
            meta = found.pop("_meta", None)
            found.pop(named_by, None)
            parts = [(b"", name.encode(), params[slice(*span)]) for name, span in found.items()]
            for name, span in () if meta is None else members(params, *meta).items():
                if name in _TOLD_BEFORE:
                    alone = True
                elif name in _SENDER:
                    sender.append((b"_meta", name.encode(), params[slice(*span)]))
                elif name not in _TRACING:
                    parts.append((b"_meta", name.encode(), params[slice(*span)]))
        except ProtocolError:
            return None
        generations = (
            self._generation,
            self._generations.get((group, kind), 0),
            self._updated.get((group, _short(original)), 0) if kind == "resources" and self._updated else 0,
        )
        texts = [b"%d %d %d" % generations, group.encode(), method.encode(), original.encode(), revision.encode()]
        texts += [text for part in sorted(parts) for text in part]
        private = _digest([b"private", principal.id.encode(), principal.credential, *texts])
        public = None
        if shared and method in mcp.CACHEABLE:
            said = [text for part in sorted(sender) for text in part]
            public = _digest([b"public", b"%d" % len(said), *said, *texts])
        return Key(private, public, alone, kind == "tools", ttl_ms)

    def _forget_updated(self) -> None:
        """Begin to count anew; what counts from before stand for must then be forgotten, whosever it is."""
        for group, _ in self._updated:
            self._generations[group, "resources"] = self._generations.get((group, "resources"), 0) + 1
        self._updated.clear()


def _short(uri: str) -> int:
    # What backends tell of can be of any length; two URIs that share a count are only forgotten together.
    return xxhash.xxh3_64_intdigest(uri.encode())


def failed(key: Key, result: bytes) -> bool:
    """Return whether the result (the JSON object) of a tool says that the tool has failed."""
    try:
        found = members(result, 0, len(result))
    except ProtocolError:
        return False
    complete = _text(result, found, "resultType") in (None, b'"complete"')
    return key.tool and complete and _text(result, found, "isError") == b"true"


def _text(data: bytes, found: dict[str, tuple[int, int]], name: str) -> bytes | None:
    span = found.get(name)
    return None if span is None else data[slice(*span)]


def _digest(texts: Iterable[bytes]) -> bytes:
    # Not xxhash: who can make two requests with one key reads another's answer. Lengths keep the texts apart.
    joined = b"".join([part for text in texts for part in (len(text).to_bytes(8, "big"), text)])
    return hashlib.blake2b(joined, digest_size=32).digest()
