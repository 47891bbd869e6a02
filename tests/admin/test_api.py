"""The admin API: what it tells of the cache and does to it, and everybody who is turned away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.in_process import configured, running
from tests.mcp_backend import Backend, Call, Outcome
from tests.mcp_caller import Caller, Fields, Reply
from tests.proxy.exchanges import exchange_of, snapshot_of

from only1mcp.admin.api import AdminApi
from only1mcp.config.schema import Admin, Cache
from only1mcp.config.secret import Secret
from only1mcp.errors import NotAllowed
from only1mcp.metrics import Metrics
from only1mcp.proxy.exchange import Exchange

KEY = "k" * 32
CLEAR, STATS = "/api/v1/admin/cache/clear", "/api/v1/admin/cache/stats"


async def read(call: Call) -> Outcome:
    return {"contents": [], "ttlMs": 60_000, "cacheScope": "private"}


@asynccontextmanager
async def proxied(key: str | None = None, **proxy: Any) -> AsyncIterator[Caller]:
    """Give a caller of a proxy that has two things to remember."""
    resources = [{"uri": "test://one", "name": "one"}]
    async with Backend(resources=resources, scripts={"resources/read": read}) as backend:
        admin = Admin(api_key=None if key is None else Secret(key))
        config = msgspec.structs.replace(configured(backend, **proxy), admin=admin)
        async with running(config) as worker:
            assert worker.listener is not None
            async with Caller(worker.listener.port) as caller:
                for _ in range(2):
                    await caller.ask("resources/read", uri="test://one")
                    await caller.ask("resources/list")
                yield caller


async def ask(caller: Caller, path: str, fields: Fields | None = None, body: bytes = b"") -> Reply:
    plain: Fields = {"content-type": None, "accept": "*/*"}
    method = "GET" if path == STATS else "POST"
    return await caller.send(body, {**plain, **(fields or {})}, method=method, path=path)


async def entries(caller: Caller, fields: Fields | None = None) -> int:
    (stats,) = (await ask(caller, STATS, fields)).messages
    count: int = stats["entries"]
    return count


async def test_stats_and_clear_as_the_runbook_has_them() -> None:
    async with proxied() as caller:
        reply = await ask(caller, STATS)
        assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
        (stats,) = reply.messages
        assert stats["bytes"] == stats["results"]["bytes"] + stats["pages"]["bytes"] > 0
        assert stats == {
            "enabled": True,
            "entries": 2,
            "bytes": stats["bytes"],
            "limit_bytes": 1 << 30,
            "hits": 2,
            "misses": 2,
            "hit_ratio": 0.5,
            "coalesced": 0,
            "evictions": 0,
            "results": {"entries": 1, "bytes": stats["results"]["bytes"]},
            "pages": {"entries": 1, "bytes": stats["pages"]["bytes"]},
        }
        # `curl -X POST` sends no length at all, other clients that of nothing.
        reply = await ask(caller, CLEAR, {"content-length": None})
        assert (reply.status, reply.messages) == (200, [{"cleared": 2, "results": 1, "pages": 1}])
        assert (await ask(caller, CLEAR)).messages == [{"cleared": 0, "results": 0, "pages": 0}]
        assert await entries(caller) == 0
        await caller.ask("resources/read", uri="test://one")
        assert await entries(caller) == 1


async def test_where_the_cache_is_off() -> None:
    async with proxied(cache=Cache(enabled=False)) as caller:
        (stats,) = (await ask(caller, STATS)).messages
        assert (stats["enabled"], stats["entries"], stats["bytes"], stats["limit_bytes"]) == (False, 0, 0, 0)
        assert (await ask(caller, CLEAR)).messages == [{"cleared": 0, "results": 0, "pages": 0}]


@pytest.mark.parametrize("fields", [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}])
async def test_with_the_key(fields: Fields) -> None:
    async with proxied(KEY) as caller:
        assert await entries(caller, fields) == 2
        assert (await ask(caller, CLEAR, fields)).messages[0]["cleared"] == 2
        # Pages may hold the key as well; whose page it is, is checked as for any request.
        assert (await ask(caller, CLEAR, {**fields, "origin": "http://localhost:3000"})).status == 200
        assert (await ask(caller, CLEAR, {**fields, "origin": "https://evil.example"})).status == 403


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[1:]}"},
        {"authorization": [f"Bearer {KEY}", f"Bearer {KEY}"]},
        {"authorization": f"Bearer {KEY}", "x-api-key": KEY},
        {"x-api-key": ""},
        {"x-api-key": [KEY, KEY]},
        {"x-admin-key": KEY},
        {"cookie": f"key={KEY}"},
    ],
)
async def test_without_the_key_there_is_nothing(fields: Fields) -> None:
    async with proxied(KEY) as caller:
        for path in (CLEAR, STATS, "/api/v1/admin/", "/api/v1/admin/nothing"):
            reply = await ask(caller, path, fields)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer realm="only1mcp admin"')
        assert await entries(caller, {"x-api-key": KEY}) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"referer": "http://localhost:3000/"},
        {"cookie": "a=b"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-mode": "no-cors"},
        {"x-forwarded-for": "192.0.2.1"},
        {"forwarded": "for=192.0.2.1"},
        {"via": "1.1 proxy"},
        {"x-real-ip": "192.0.2.1"},
    ],
)
async def test_without_a_key_pages_and_proxies_are_turned_away(fields: Fields) -> None:
    async with proxied() as caller:
        for path in (CLEAR, STATS):
            reply = await ask(caller, path, fields)
            assert reply.status == 403
            assert "access-control-allow-origin" not in reply.headers
        assert await entries(caller) == 2


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "[::1]", "LOCALHOST"])
def test_without_a_key_only_this_machine_is_served(peer: str, allowed: bool, host: str) -> None:
    assert served(peer, host) is allowed


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1:8080"])
def test_without_a_key_a_name_that_only_resolves_to_this_machine_is_none_of_ours(host: str) -> None:
    assert not served("127.0.0.1", host)


def served(peer: str, host: str) -> bool:
    snapshot = snapshot_of()
    api = AdminApi(None, cache=None, pages=lambda: snapshot.pages, metrics=Metrics(), limit_bytes=0)
    exchange: Exchange
    exchange, channel = exchange_of(snapshot, headers=[(b"host", host.encode())])
    exchange.http.peer = peer
    exchange.http.head.target = CLEAR.encode()
    try:
        api.answer(exchange)
    except NotAllowed:
        return False
    assert channel.status == 200
    return True


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/admin/cache/clear/",
        "/api/v1/admin/cache//clear",
        "/api/v1/admin/cache/./clear",
        "/api/v1/admin/x/../cache/clear",
        "/api/v1/admin/cache/cle%61r",
        "/API/v1/admin/cache/clear",
        "/api/v1/admin",
        "/mcp/../api/v1/admin/cache/clear",
    ],
)
async def test_there_is_one_spelling_of_a_path(path: str) -> None:
    async with proxied() as caller:
        assert (await ask(caller, path)).status == 404
        assert await entries(caller) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_but_a_post_clears(method: str) -> None:
    async with proxied() as caller:
        reply = await caller.send(fields={"content-type": None}, method=method, path=CLEAR)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert (await caller.send(method="POST", path=STATS)).headers["allow"] == "GET"
        assert await entries(caller) == 2


@pytest.mark.parametrize("body", [b"{}", b'{"backend":"b0"}', b"x=1"])
async def test_a_part_of_the_cache_cannot_be_cleared(body: bytes) -> None:
    async with proxied() as caller:
        assert (await ask(caller, CLEAR, body=body)).status == 400
        assert await entries(caller) == 2
