"""Pages of the merged lists: rendered once for each view of the catalog, and how fresh they say they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from tests.backend.fakes import FakeServer, Watched, http, tool
from tests.proxy.exchanges import ANONYMOUS
from tests.proxy.offers import groups_of, offer
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend.endpoint import Endpoint
from only1mcp.config.schema import Cache, Config, Proxy
from only1mcp.errors import BackendTimeout, Only1MCPError
from only1mcp.metrics import Metrics
from only1mcp.proxy import catalog as catalog_module
from only1mcp.proxy import local
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.exchange import Snapshot
from only1mcp.proxy.pages import ASK_AGAIN_S
from only1mcp.wire.mcp import Era

H, S = Era.HANDSHAKE, Era.STATELESS


class Lists:
    """Asks a snapshot of these endpoints for lists."""

    def __init__(self, *endpoints: Endpoint, **cache: Any) -> None:
        groups = groups_of(*endpoints)
        config = Config(version="1.0", proxy=Proxy(cache=Cache(**cache)))
        self.snapshot = Snapshot(config, groups, Catalog(groups, "auto"))
        self.pages = self.snapshot.pages
        self.metrics = Metrics()

    def ask(
        self,
        params: Any = None,
        *,
        method: str = "tools/list",
        era: Era = S,
        principal: Principal = ANONYMOUS,
        now: float = 0.0,
        id: Any = 1,
    ) -> Any:
        message = {"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params})
        answer = orjson.loads(self.pages.list(scan(orjson.dumps(message)), era, principal, now, self.metrics))
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", id)
        return answer["result"]

    def names(self, *args: Any, **options: Any) -> list[str]:
        return [item["name"] for item in self.ask(*args, **options)["tools"]]

    @property
    def counts(self) -> tuple[int, int]:
        """Hits and misses."""
        text = self.metrics.render()[1].decode()
        found = [re.search(rf"^only1mcp_cache_{name}_total (\S+)$", text, re.MULTILINE) for name in ("hits", "misses")]
        hits, misses = (0 if match is None else int(float(match[1])) for match in found)
        return hits, misses


def key(name: str, *tools: str) -> Principal:
    return Principal(f"key:{name}", name, "key", tools=tools)


def test_a_page_is_rendered_once_for_all_who_see_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    render = local.list_page

    def counting(*args: Any) -> Any:
        rendered.append(args)
        return render(*args)

    monkeypatch.setattr(local, "list_page", counting)
    lists = Lists(offer("a", tools=["t1", "t2", "u"]))
    for id in (1, "x", None):
        for era in (H, S):
            assert lists.names(era=era, id=id or -1) == ["t1", "t2", "u"]
            for name in "kl":
                assert lists.names(era=era, principal=key(name, "t*")) == ["t1", "t2"]
            assert lists.names(era=era, principal=key("m", "u")) == ["u"]
            assert lists.names(era=era, principal=key("n")) == []
    assert len(rendered) == 8
    assert lists.counts == (3 * 2 * 5 - 8, 8)
    assert len(lists.pages) == 8
    assert lists.pages.used_bytes > 0


def test_a_list_of_anything_but_tools_is_the_same_for_all() -> None:
    lists = Lists(offer("a", tools=["t"], prompts=["p"]))
    for principal in (ANONYMOUS, key("k"), key("l", "t")):
        found = lists.ask(method="prompts/list", principal=principal)
        assert [item["name"] for item in found["prompts"]] == ["p"]
    assert (len(lists.pages), lists.counts) == (1, (2, 1))


def test_an_answer_has_its_era() -> None:
    lists = Lists(offer("a", tools=["t"]))
    for _ in range(2):
        assert set(lists.ask(era=H)) == {"tools"}
        assert set(lists.ask(era=S)) == {"tools", "resultType", "ttlMs", "cacheScope", "_meta"}


def test_only_pages_that_everybody_comes_by_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor that names any other item is answered, but could be made for every item there is."""
    monkeypatch.setattr(catalog_module, "PAGE_ITEMS", 2)
    lists = Lists(offer("a", tools=[f"t{number}" for number in range(5)]))
    for _ in range(2):
        cursor: Any = None
        seen = []
        while cursor != "":
            page = lists.ask({} if cursor is None else {"cursor": cursor})
            seen.append([item["name"] for item in page["tools"]])
            cursor = page.get("nextCursor", "")
        assert seen == [["t0", "t1"], ["t2", "t3"], ["t4"]]
    assert (len(lists.pages), lists.counts) == (3, (3, 3))
    foreign = lists.ask(principal=key("k", "t1", "t2", "t3", "t4"))["nextCursor"]
    assert lists.names({"cursor": foreign}) == ["t3", "t4"]
    assert len(lists.pages) == 4


@pytest.mark.parametrize("cursor", ["", "made up", None, 5, {}, ["x"]])
def test_other_cursors_are_refused_and_not_kept(cursor: Any) -> None:
    lists = Lists(offer("a", tools=["t"]))
    for _ in range(2):
        with pytest.raises(Only1MCPError) as caught:
            lists.ask({"cursor": cursor})
        assert (caught.value.code, caught.value.http_status) == (-32602, 400)
    assert len(lists.pages) == 0


def test_the_pages_have_a_limit() -> None:
    huge = [{"name": f"t{number}", "description": "x" * 40_000} for number in range(4)]
    lists = Lists(offer("a", tools=huge), max_size_mb=1)
    limit = (1 << 20) // 4
    for number in range(20):
        assert lists.names(principal=key("k", f"t{number % 4}", str(number))) == [f"t{number % 4}"]
        assert lists.names(principal=key("k", f"t{number % 4}", str(number))) == [f"t{number % 4}"]
        assert 0 < lists.pages.used_bytes <= limit
    assert lists.counts == (20, 20)
    lists = Lists(offer("a", tools=[{"name": "t", "description": "x" * limit}]), max_size_mb=1)
    assert lists.names() == lists.names() == ["t"]
    assert (len(lists.pages), lists.counts) == (0, (0, 2))


def test_nothing_is_kept_where_the_cache_is_off() -> None:
    lists = Lists(offer("a", tools=["t"], ttl_ms=60_000), enabled=False)
    for _ in range(2):
        assert lists.ask()["ttlMs"] == 0
        assert orjson.loads(lists.pages.discover(b"1", lists.metrics))["result"]["resultType"] == "complete"
    assert (len(lists.pages), lists.pages.used_bytes, lists.counts) == (0, 0, (0, 4))


def test_clear() -> None:
    lists = Lists(offer("a", tools=["t"]))
    lists.ask()
    lists.ask(era=H)
    lists.pages.discover(b"1", lists.metrics)
    assert lists.pages.clear() == 3
    assert (len(lists.pages), lists.pages.used_bytes) == (0, 0)
    assert lists.names() == ["t"]


def test_discover_is_made_once() -> None:
    lists = Lists(offer("a", tools=["t"]))
    for id in (b"1", b'"x"'):
        answer = orjson.loads(lists.pages.discover(id, lists.metrics))
        assert answer == {
            "jsonrpc": "2.0",
            "id": orjson.loads(id),
            "result": orjson.loads(local.discover(lists.snapshot.catalog)),
        }
    assert lists.counts == (1, 1)


# How fresh.


@pytest.mark.parametrize(
    ("hints", "ceiling_s", "expected"),
    [
        ([60_000], 300, 60_000),
        ([60_000, 20_000], 300, 20_000),
        ([60_000], 5, 5_000),
        ([60_000, 0], 300, 0),
        ([0], 300, 0),
    ],
)
def test_the_strictest_hint_holds_and_the_ceiling(hints: list[int], ceiling_s: int, expected: int) -> None:
    lists = Lists(
        *(offer(f"b{n}", tools=[f"t{n}"], ttl_ms=hint) for n, hint in enumerate(hints)), ttl_seconds=ceiling_s
    )
    assert lists.ask()["ttlMs"] == expected
    assert lists.ask(now=1.5)["ttlMs"] == max(0, expected - 1500)
    assert lists.ask(now=10_000)["ttlMs"] == 0


def test_a_backend_without_such_a_list_has_no_say() -> None:
    lists = Lists(offer("a", tools=["t"], ttl_ms=9000), offer("b", prompts=["p"], ttl_ms=10))
    assert lists.ask()["ttlMs"] == 9000
    assert Lists(offer("a", capabilities={"tools": {}})).ask()["ttlMs"] == 0


@asynccontextmanager
async def reading(*servers: FakeServer, **cache: Any) -> AsyncIterator[Lists]:
    async with AsyncExitStack() as stack:
        watched = [await stack.enter_async_context(Watched(server, http(f"b{n}"))) for n, server in enumerate(servers)]
        yield Lists(*(each.endpoint for each in watched), **cache)


def hinting(server: FakeServer, ttl_ms: int | None) -> None:
    async def answer(_params: Any) -> Any:
        hint = {} if ttl_ms is None else {"ttlMs": ttl_ms}
        return {"resultType": "complete", "tools": server.lists["tools/list"], **hint}

    server.handlers["tools/list"] = answer


@pytest.mark.parametrize(("ttl_ms", "lifetime_s"), [(60_000, 60), (0, 300), (None, 300), (10**9, 300)])
@virtual
async def test_a_list_that_has_aged_is_read_again_when_it_is_asked_for(ttl_ms: int | None, lifetime_s: int) -> None:

    loop = asyncio.get_running_loop()
    server = FakeServer(era=S, capabilities={"tools": {}}, tools=[tool("t")])
    hinting(server, ttl_ms)
    async with reading(server) as lists:
        for _ in range(100):
            assert lists.names(now=loop.time()) == ["t"]
        await asyncio.sleep(lifetime_s - 1)
        lists.ask(now=loop.time())
        await asyncio.sleep(2)
        assert server.count("tools/list") == 1  # nobody has asked since it aged
        fresh = lists.ask(now=loop.time())["ttlMs"]
        assert fresh == 0
        await asyncio.sleep(ASK_AGAIN_S + 1)
        assert server.count("tools/list") == 2
        assert (lists.ask(now=loop.time())["ttlMs"] > 0) == bool(ttl_ms)
        assert lists.names(now=loop.time()) == ["t"]
        await asyncio.sleep(ASK_AGAIN_S + 1)
        assert server.count("tools/list") == 2


@virtual
async def test_without_a_cache_lists_are_read_again_as_well() -> None:
    loop = asyncio.get_running_loop()
    server = FakeServer(capabilities={"tools": {}}, tools=[tool("t")])
    async with reading(server, enabled=False) as lists:
        await asyncio.sleep(299)
        assert lists.ask(era=S, now=loop.time())["ttlMs"] == 0
        await asyncio.sleep(2)
        assert server.count("tools/list") == 1
        lists.ask(era=S, now=loop.time())
        await asyncio.sleep(ASK_AGAIN_S)
        assert server.count("tools/list") == 2


@virtual
async def test_the_last_copy_is_served_while_it_is_read_again_and_while_that_fails() -> None:

    loop = asyncio.get_running_loop()
    server = FakeServer(era=S, capabilities={"tools": {}}, tools=[tool("t")])
    hinting(server, 1000)
    async with reading(server) as lists:

        async def slow(_params: Any) -> Any:
            await asyncio.sleep(30)
            raise BackendTimeout("no complete answer")

        server.handlers["tools/list"] = slow
        for _ in range(10):
            await asyncio.sleep(100)
            for _ in range(20):
                assert lists.names(now=loop.time()) == ["t"]
                assert lists.ask(now=loop.time())["ttlMs"] == 0
                await asyncio.sleep(1)
        assert server.count("tools/list") >= 3


@virtual
async def test_who_is_away_is_not_asked_again() -> None:

    server = FakeServer(era=S, capabilities={"tools": {}}, tools=[tool("t")])
    hinting(server, 1000)
    async with reading(server) as lists:
        server.start_error = "gone"
        server.transport.die("was killed")
        await asyncio.sleep(20)
        read = server.count("tools/list")
        assert lists.names(now=asyncio.get_running_loop().time()) == ["t"]
        await asyncio.sleep(5)
        assert server.count("tools/list") == read
