"""One principal tries to see another's answer, over real sockets, in every way there is.

The backend gives no answer twice, so that whoever gets what it gave before has got it from us.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import jwt
import msgspec
import pytest
from tests.in_process import configured, running
from tests.mcp_backend import HANDSHAKE as H_BACKEND
from tests.mcp_backend import Backend, Call, Outcome, text
from tests.mcp_caller import HANDSHAKE, META, STATELESS, Caller, Fields, Reply, request, stateless
from tests.proxy.test_pipeline_callers import JWT_SETTINGS, SECRET, key

from only1mcp.config.schema import Auth, Cache, CachedItem, ToolRules
from only1mcp.process.worker import Worker
from only1mcp.proxy import catalog as catalog_module

ERAS = [STATELESS, HANDSHAKE]
ONE = "test://one"
AUTH = Auth(
    jwt=JWT_SETTINGS,
    api_keys=(key("ann"), key("bob"), key("carl", tools=("open*",)), key("dora", tools=("open*", "closed"))),
    allow_anonymous=True,
)
NAMED = ("open", "closed", "found", "b1__found")
CACHE = Cache(tools=dict.fromkeys(NAMED, CachedItem()), prompts={"ask": CachedItem()})


def bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": "Bearer " + jwt.encode({"exp": time.time() + 600, **claims}, SECRET, "HS256")}


def principals() -> dict[str, dict[str, str]]:
    """Return what each sends; no two of them may share anything."""
    return {
        "nobody": {},
        "ann's key": {"x_api_key": "ann-key"},
        "bob's key": {"x_api_key": "bob-key"},
        "dora's key": {"x_api_key": "dora-key"},
        "ann's token": bearer(sub="ann"),
        "another token of ann's": bearer(sub="ann", jti="2"),
        "ann's token with a scope": bearer(sub="ann", scope="read"),
        "ann's token with more scopes": bearer(sub="ann", scope="read write"),
        "ann of another issuer": bearer(sub="ann", iss="x"),
        "ann in capitals": bearer(sub="Ann"),
        "ann with a blank": bearer(sub="ann "),
        "a subject like a key": bearer(sub="key:ann"),
        "a subject like nobody": bearer(sub="anonymous"),
        "the issuer ends": bearer(iss="a", sub="b:c"),
        "later": bearer(iss="a:b", sub="c"),
        "escaped already": bearer(iss="a%3Ab", sub="c"),
    }


class Unique:
    """Gives every answer once, and says of each that it is public, as a hostile backend would."""

    def __init__(self, era: str = STATELESS, **settings: Any) -> None:
        self.given = 0
        self.hints: dict[str, Any] = {"ttlMs": 60_000, "cacheScope": "public"}
        self._more = asyncio.Condition()
        self.hold: asyncio.Event | None = None
        read_only = {"readOnlyHint": True}
        self.backend = Backend(
            era=H_BACKEND if era == HANDSHAKE else "stateless",
            tools={"open": self.call, "closed": self.call},
            annotations={"open": read_only, "closed": read_only},
            resources=[{"uri": ONE, "name": "one"}],
            prompts=[{"name": "ask"}],
            scripts={"resources/read": self.read, "prompts/get": self.get},
            **settings,
        )

    async def _next(self) -> str:
        self.given += 1
        given = str(self.given)
        async with self._more:
            self._more.notify_all()
        if self.hold is not None:
            await self.hold.wait()
        return given

    async def asked(self, times: int) -> None:
        """Return when this many answers have been asked for."""
        async with asyncio.timeout(10), self._more:
            await self._more.wait_for(lambda: self.given >= times)

    async def call(self, _call: Call) -> Outcome:
        return {**text(await self._next()), **self.hints}

    async def read(self, call: Call) -> Outcome:
        return {"contents": [{"uri": call.params["uri"], "text": await self._next()}], **self.hints}

    async def get(self, _call: Call) -> Outcome:
        content = {"type": "text", "text": await self._next()}
        return {"messages": [{"role": "user", "content": content}], **self.hints}


METHODS: dict[str, dict[str, Any]] = {
    "tools/call": {"name": "closed", "arguments": {"a": 1}},
    "resources/read": {"uri": ONE},
    "prompts/get": {"name": "ask", "arguments": {"a": "1"}},
}


def found(reply: Reply) -> str:
    result = reply.result
    if "contents" in result:
        return str(result["contents"][0]["text"])
    return reply.text if "content" in result else str(result["messages"][0]["content"]["text"])


@asynccontextmanager
async def serving(
    *sources: Unique, shared: bool | tuple[bool, ...] = False, rules: tuple[ToolRules, ...] = (), **settings: Any
) -> AsyncIterator[int]:
    async with AsyncExitStack() as stack:
        for source in sources:
            await stack.enter_async_context(source.backend)
        options = {"auth": AUTH, "cache": CACHE, **settings}
        config = configured(*(source.backend for source in sources), **options)
        shared = shared if isinstance(shared, tuple) else (shared,) * len(sources)
        servers = [
            msgspec.structs.replace(server, shared_cache=trusted, tools=rules[number] if rules else ToolRules())
            for number, (server, trusted) in enumerate(zip(config.servers, shared, strict=True))
        ]
        config = msgspec.structs.replace(config, servers=tuple(servers))
        yield port_of(await stack.enter_async_context(running(config)))


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


@asynccontextmanager
async def speaking(port: int, era: str = STATELESS, **fields: str) -> AsyncIterator[Caller]:
    async with Caller(port, **fields) as caller:
        if era == HANDSHAKE:
            assert (await caller.initialize()).status == 200
        yield caller


# Kept.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("behind", ERAS)
@pytest.mark.parametrize("shared", [False, True])
async def test_nobody_is_given_what_another_was_given(method: str, era: str, behind: str, shared: bool) -> None:
    if method == "resources/read" and (behind == HANDSHAKE or shared):
        pytest.skip("not kept, or meant to be shared: see below")
    source = Unique(behind)
    async with serving(source, shared=shared) as port:
        seen: dict[str, str] = {}
        everyone = principals()
        for _ in range(2):
            for who, fields in everyone.items():
                async with speaking(port, era, **fields) as caller:
                    answer = found(await caller.ask(method, **METHODS[method]))
                    assert seen.setdefault(who, answer) == answer
        assert len(set(seen.values())) == len(seen) == source.given


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("era", ERAS)
async def test_nobody_shares_a_call_in_flight_with_another(method: str, era: str) -> None:
    source = Unique()
    source.hold = asyncio.Event()
    async with serving(source) as port, AsyncExitStack() as stack:
        everyone = principals()
        pending: dict[str, list[asyncio.Task[Reply]]] = {who: [] for who in everyone}
        for who, fields in everyone.items():
            for _ in range(2):
                caller = await stack.enter_async_context(speaking(port, era, **fields))
                pending[who].append(asyncio.create_task(caller.ask(method, **METHODS[method])))
        await source.asked(len(everyone))
        source.hold.set()
        answers = {who: {found(await task) for task in tasks} for who, tasks in pending.items()}
        # Who asks twice waits for one call.
        assert [len(each) for each in answers.values()] == [1] * len(everyone)
        assert len(set.union(*answers.values())) == len(everyone) == source.given


async def test_nobodies_are_one_whatever_their_address_and_never_somebody() -> None:
    """Without credentials there is nothing that could be another's; a backend is not told the address either."""
    source = Unique()
    async with serving(source) as port:
        async with speaking(port, x_api_key="ann-key") as ann:
            mine = found(await ann.ask("resources/read", uri=ONE))
        answers = set()
        for address in ("192.0.2.1", "192.0.2.2"):
            async with speaking(port, x_forwarded_for=address, x_real_ip=address) as nobody:
                answers.add(found(await nobody.ask("resources/read", uri=ONE)))
        assert len(answers) == 1
        assert mine not in answers


# Tricks.

TRICKS: list[Fields] = [
    {"x-forwarded-for": "127.0.0.1"},
    {"x-user": "ann", "x-forwarded-user": "ann", "x-principal": "key:ann", "remote-user": "ann"},
    {"if-none-match": "*"},
    {"if-none-match": '"1"', "if-modified-since": "Sat, 01 Jan 2000 00:00:00 GMT"},
    {"cache-control": "only-if-cached, max-stale=99999"},
    {"pragma": "cache", "range": "bytes=0-9"},
    {"cookie": "x-api-key=ann-key"},
    {"x-http-method-override": "GET", "x-original-url": "/mcp"},
    {"last-event-id": "1", "mcp-session-id": "stray"},
    {"vary": "x", "etag": '"1"', "x-cache-key": "1"},
    {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "principal=key:ann"},
]


@pytest.mark.parametrize("shared", [False, True])
async def test_no_header_leads_to_the_answer_of_another(shared: bool) -> None:
    source = Unique()
    async with serving(source, shared=shared) as port:
        async with speaking(port, x_api_key="ann-key") as ann:
            mine = {found(await ann.ask(method, **params)) for method, params in METHODS.items() if "call" in method}
        async with speaking(port, x_api_key="bob-key") as bob:
            for trick in TRICKS:
                message, fields = stateless("tools/call", **METHODS["tools/call"])
                reply = await bob.send(message, {**fields, **trick})
                assert reply.status == 200
                assert found(reply) not in mine
                assert "etag" not in reply.headers
            for doubled in ({"x-api-key": ["ann-key", "bob-key"]}, {"authorization": "Bearer ann-key"}):
                message, fields = stateless("tools/call", **METHODS["tools/call"])
                assert (await bob.send(message, {**fields, **doubled})).status == 401  # type: ignore[dict-item]


SPELLINGS = [
    '{"uri":"test://one","_meta":%s,"principal":"key:ann"}',
    '{ "_meta": %s , "uri" : "test:\\/\\/one" }',
    '{"\\u0075ri":"test://one","_meta":%s}',
    '{"uri":"test://one","_meta":%s,"":"key:ann"}',
    '{"uri":"test://one","_meta":%s,"key:ann":""}',
    '{"uri":"test://one","_meta":%s,"_Meta":{"x":1}}',
    '{"uri":"only1mcp://b0/test://one","_meta":%s}',
]


async def test_no_spelling_of_a_request_leads_to_the_answer_of_another() -> None:
    source = Unique()
    meta = f'{{"{META}protocolVersion":"{STATELESS}","{META}clientCapabilities":{{}}}}'
    async with (
        serving(source) as port,
        speaking(port, x_api_key="ann-key") as ann,
        speaking(port, x_api_key="bob-key") as bob,
    ):
        mine, his = set(), set()
        for caller, answers in ((ann, mine), (bob, his)):
            for spelling in SPELLINGS:
                params = (spelling % meta).encode()
                uri = "only1mcp://b0/test://one" if "only1mcp" in spelling else ONE
                _, fields = stateless("resources/read", uri=uri)
                body = b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":' + params + b"}"
                reply = await caller.send(body, fields)
                if "result" in reply.response:
                    answers.add(found(reply))
        assert mine
        assert his
        assert not mine & his


async def test_the_session_of_another_is_no_way_in() -> None:
    source = Unique()
    async with (
        serving(source) as port,
        speaking(port, HANDSHAKE, x_api_key="ann-key") as ann,
        speaking(port, x_api_key="bob-key") as bob,
    ):
        mine = found(await ann.ask("resources/read", uri=ONE))
        bob.session = ann.session
        assert (await bob.ask("resources/read", uri=ONE)).status == 404
        await bob.initialize()
        assert found(await bob.ask("resources/read", uri=ONE)) != mine
        fields: Fields = {"mcp-session-id": [str(bob.session), str(ann.session)]}
        reply = await bob.in_session(request("resources/read", uri=ONE), fields)
        assert reply.status >= 400 or found(reply) != mine


# Tools that not everybody may call.


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_key_may_not_call_it_is_not_given_from_the_cache_either(era: str) -> None:
    source = Unique()
    async with (
        serving(source, shared=True) as port,
        speaking(port, era, x_api_key="ann-key") as ann,
        speaking(port, era, x_api_key="carl-key") as carl,
    ):
        await ann.call("closed")
        given = source.given
        for name in ("closed", "b0__closed"):
            reply = await carl.call(name)
            assert (reply.code, "closed" in str(reply.error["message"])) == (-32602, True)
        assert source.given == given
        assert (await carl.call("open")).status == 200
        source.hold = asyncio.Event()
        waiting = asyncio.create_task(ann.call("closed", fresh=True))
        await source.asked(given + 2)
        assert (await carl.call("closed", fresh=True)).code == -32602
        source.hold.set()
        assert (await waiting).status == 200


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("order", [("ann", "carl", "dora"), ("carl", "dora", "ann"), ("dora", "ann", "carl")])
async def test_lists_show_everyone_their_own(era: str, order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "PAGE_ITEMS", 1)
    source = Unique()
    for number in range(4):
        source.backend.tools[f"{'open' if number % 2 else 'hidden'}{number}"] = source.call
    visible = {
        "ann": ["open", "closed", "hidden0", "open1", "hidden2", "open3"],
        "carl": ["open", "open1", "open3"],
        "dora": ["open", "closed", "open1", "open3"],
    }
    async with serving(source) as port:
        cursors: set[str] = set()
        for _ in range(2):
            for who in order:
                async with speaking(port, era, x_api_key=f"{who}-key") as caller:
                    names: list[str] = []
                    cursor: dict[str, Any] = {}
                    while True:
                        result = (await caller.ask("tools/list", **cursor)).result
                        names += [tool["name"] for tool in result["tools"]]
                        assert result.get("cacheScope") in (None, "public" if who == "ann" else "private")
                        if "nextCursor" not in result:
                            break
                        cursor = {"cursor": result["nextCursor"]}
                        cursors.add(result["nextCursor"])
                    assert names == visible[who]
        # Everybody's cursors in everybody's hands.
        for who in order:
            async with speaking(port, era, x_api_key=f"{who}-key") as caller:
                for foreign in sorted(cursors):
                    reply = await caller.ask("tools/list", cursor=foreign)
                    assert {tool["name"] for tool in reply.result["tools"]} <= set(visible[who])
                    assert reply.result.get("nextCursor") is None or reply.result["nextCursor"] in cursors


# Backends that look alike.


@pytest.mark.parametrize("shared", [False, True])
async def test_the_same_uri_of_two_groups_has_two_answers(shared: bool) -> None:
    first, second = Unique(), Unique()
    second.given = 1000
    async with serving(first, second, shared=shared) as port, speaking(port, x_api_key="ann-key") as ann:
        for _ in range(2):
            for uri, answer in ((ONE, "1"), (f"only1mcp://b0/{ONE}", "1"), (f"only1mcp://b1/{ONE}", "1001")):
                assert found(await ann.ask("resources/read", uri=uri)) == answer
        assert (first.given, second.given) == (1, 1001)


async def test_renamed_tools_do_not_take_each_others_results() -> None:
    first, second = Unique(), Unique()
    second.given = 1000
    rules = (ToolRules(rename={"open": "found"}), ToolRules(rename={"closed": "found", "open": "closed"}))
    async with serving(first, second, rules=rules) as port, speaking(port, x_api_key="ann-key") as ann:
        asked = ["found", "b0__found", "closed", "b0__closed", "b1__found", "b1__closed"]
        # `b1__closed` is not named in `proxy.cache.tools`.
        answers = ["1", "1", "2", "2", "1001", "1002"]
        for name, answer in zip(asked, answers, strict=True):
            assert (await ann.call(name)).text == answer
        for name, answer in zip(asked[:-1], answers, strict=False):
            assert (await ann.call(name)).text == answer
        assert (await ann.call("b1__closed")).text == "1003"


# Public results of a backend that is trusted with the word.


async def test_public_reads_are_everybodys_where_the_backend_is_trusted_and_only_there() -> None:
    trusted, hostile = Unique(), Unique()
    hostile.given = 1000
    async with serving(trusted, hostile, shared=(True, False)) as port:
        answers: dict[str, set[str]] = {ONE: set(), f"only1mcp://b1/{ONE}": set()}
        everyone = principals()
        for uri, given in answers.items():
            for fields in everyone.values():
                async with speaking(port, **fields) as caller:
                    given.add(found(await caller.ask("resources/read", uri=uri)))
        assert [len(given) for given in answers.values()] == [1, len(everyone)]


@pytest.mark.parametrize(
    "meta",
    [{"tenant": "ann"}, {f"{META}clientInfo": {"name": "ann", "version": "1"}}, {"baggage": "user=ann"}, {"x/y": None}],
)
async def test_what_may_say_who_asks_is_never_left_out_of_what_is_shared(meta: dict[str, Any]) -> None:
    source = Unique()
    async with (
        serving(source, shared=True) as port,
        speaking(port, x_api_key="ann-key") as ann,
        speaking(port, x_api_key="bob-key") as bob,
    ):
        mine = found(await ann.ask("resources/read", uri=ONE, meta=meta))
        assert found(await bob.ask("resources/read", uri=ONE)) != mine


async def test_private_reads_of_a_trusted_backend_are_their_owners() -> None:
    source = Unique()
    source.hints = {"ttlMs": 60_000, "cacheScope": "private"}
    async with serving(source, shared=True) as port:
        given = set()
        for fields in principals().values():
            async with speaking(port, **fields) as caller:
                given.add(found(await caller.ask("resources/read", uri=ONE)))
        assert len(given) == len(principals())


# A configuration that keeps nothing gives nothing.


async def test_without_a_cache_every_answer_is_new() -> None:
    source = Unique()
    async with serving(source, cache=Cache(enabled=False, tools=CACHE.tools)) as port:
        async with speaking(port, x_api_key="ann-key") as ann:
            for _ in range(2):
                for method, params in METHODS.items():
                    await ann.ask(method, **params)
        assert source.given == 6
