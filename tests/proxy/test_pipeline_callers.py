"""Who may call, over real sockets: credentials, sessions of others, rate limits, tools of a key, pages of a browser."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from tests.in_process import configured, proxied, running
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, STATELESS, Caller, Fields, Reply, request, stateless
from tests.process.test_changes import Stream

from only1mcp.config.schema import JWT, ApiKey, Auth, RateLimit, Secret
from only1mcp.process.worker import Worker
from only1mcp.proxy.auth import LEEWAY_S

SECRET = "a secret of more than thirty-two bytes"
JWT_SETTINGS = JWT(secret=Secret(SECRET))
ERAS = [STATELESS, HANDSHAKE]


def key(name: str, **settings: Any) -> ApiKey:
    """Return the entry of the API key `<name>-key`."""
    return ApiKey(name=name, key_sha256=hashlib.sha256(f"{name}-key".encode()).hexdigest(), **settings)


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": time.time() + 600, **claims}, SECRET, "HS256")


INITIALIZE = {
    "protocolVersion": HANDSHAKE,
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}
AUTH_ANN = {"authorization": "Bearer ann-key"}
AUTH = Auth(jwt=JWT_SETTINGS, api_keys=(key("ann"), key("bob")))


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend(tools={"echo": echo}, resources=[{"uri": "test://one", "name": "one"}]) as backend:
        yield backend


@pytest.fixture
async def port(backend: Backend) -> AsyncIterator[int]:
    async with running(configured(backend, auth=AUTH)) as worker:
        yield port_of(worker)


async def listening_on(caller: Caller, revision: str) -> Stream:
    status, headers = await caller.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    return Stream(caller, revision)


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


# Credentials.


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "credential", [{"authorization": "Bearer ann-key"}, {"x-api-key": "ann-key"}, {"authorization": "bearer {jwt}"}]
)
async def test_good_credentials(backend: Backend, port: int, credential: dict[str, str], era: str) -> None:
    fields = {name: value.replace("{jwt}", token()) for name, value in credential.items()}
    async with Caller(port, **fields) as caller:
        if era == HANDSHAKE:
            assert (await caller.initialize()).status == 200
        assert (await caller.call("echo", text="hi")).text == "hi"
    heads = "".join(backend.heads).lower()
    assert "ann-key" not in heads
    assert "authorization" not in heads


BAD: dict[str, Fields] = {
    "none": {},
    "unknown key": {"x-api-key": "eve-key"},
    "unknown bearer": {"authorization": "Bearer eve-key"},
    "empty bearer": {"authorization": "Bearer"},
    "empty key": {"x-api-key": ""},
    "basic": {"authorization": "Basic YW5uOmFubi1rZXk="},
    "no scheme": {"authorization": "ann-key"},
    "two authorizations": {"authorization": ["Bearer ann-key", "Bearer ann-key"]},
    "two keys": {"x-api-key": ["ann-key", "ann-key"]},
    "both": {"authorization": "Bearer ann-key", "x-api-key": "ann-key"},
    "key in another case": {"x-api-key": "ANN-KEY"},
    "the hash of a key": {"x-api-key": hashlib.sha256(b"ann-key").hexdigest()},
    "token in the key header": {"x-api-key": token()},
    "expired": {"authorization": f"Bearer {token(exp=1)}"},
    "not yet": {"authorization": f"Bearer {token(nbf=time.time() + 3600)}"},
    "no expiry": {"authorization": "Bearer " + jwt.encode({"sub": "ann"}, SECRET, "HS256")},
    "another secret": {"authorization": "Bearer " + jwt.encode({"sub": "a", "exp": 9e9}, "x" * 40, "HS256")},
    "another algorithm": {"authorization": "Bearer " + jwt.encode({"sub": "a", "exp": 9e9}, SECRET * 2, "HS512")},
    "no algorithm": {"authorization": "Bearer " + jwt.encode({"sub": "a", "exp": 9e9}, None, "none")},
    "huge": {"authorization": "Bearer " + "a" * 9000},
}


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("case", BAD)
async def test_bad_credentials(backend: Backend, case: str, anonymous: bool) -> None:
    auth = Auth(jwt=JWT_SETTINGS, api_keys=AUTH.api_keys, allow_anonymous=anonymous)
    async with running(configured(backend, auth=auth)) as worker, Caller(port_of(worker)) as caller:
        message, fields = stateless("tools/call", name="echo", arguments={"text": "hi"})
        reply = await caller.send(message, {**fields, **BAD[case]})
        if anonymous and case == "none":
            assert reply.text == "hi"
            return
        assert (reply.status, reply.code) == (401, -31004)
        assert reply.headers["www-authenticate"].startswith("Bearer ")
        assert "ann-key" not in reply.body.decode()
        assert backend.calls == []
        # The same connection serves who has a key, and forgets it with the next request.
        assert (await caller.send(message, {**fields, "x-api-key": "ann-key"})).text == "hi"
        assert (await caller.send(message, {**fields, **BAD[case]})).status == 401
        assert (await caller.send(request("initialize", protocolVersion=HANDSHAKE), BAD[case])).status == 401
        for method in ("GET", "DELETE", "PUT"):
            assert (await caller.send(method=method, fields=BAD[case])).status == 401


async def test_missing_scope(backend: Backend) -> None:
    auth = Auth(jwt=JWT(secret=Secret(SECRET), scopes=("mcp",)))
    async with running(configured(backend, auth=auth)) as worker, Caller(port_of(worker)) as caller:
        message, fields = stateless("tools/call", name="echo", arguments={"text": "hi"})
        reply = await caller.send(message, {**fields, "authorization": f"Bearer {token(scope='other')}"})
        assert (reply.status, reply.code) == (403, -31005)
        assert 'error="insufficient_scope"' in reply.headers["www-authenticate"]
        assert backend.calls == []
        assert (await caller.send(message, {**fields, "authorization": f"Bearer {token(scope='mcp x')}"})).text == "hi"


async def test_probes_need_no_credentials(port: int) -> None:
    async with Caller(port) as caller:
        for path in ("/health", "/ready"):
            for method in ("GET", "HEAD"):
                reply = await caller.send(method=method, path=path)
                assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
            refused = await caller.send(method="POST", path=path)
            assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


# Sessions belong to a principal.


THIEVES: dict[str, Callable[[], Fields]] = {
    "another key": lambda: {"x-api-key": "bob-key"},
    "a token": lambda: {"authorization": "Bearer " + token()},
    "nothing": dict,
}


@pytest.mark.parametrize("thief", THIEVES)
async def test_session_of_another_principal(backend: Backend, thief: str) -> None:
    auth = Auth(jwt=JWT_SETTINGS, api_keys=AUTH.api_keys, allow_anonymous=True)
    async with (
        running(configured(backend, auth=auth)) as worker,
        Caller(port_of(worker), x_api_key="ann-key") as ann,
        Caller(port_of(worker)) as other,
    ):
        await ann.initialize()
        stolen: Fields = {"mcp-session-id": ann.session, **THIEVES[thief]()}
        call = request("tools/call", name="echo", arguments={})
        for method, body in (("POST", call), ("GET", b""), ("DELETE", b"")):
            reply = await other.send(body, stolen, method=method)
            assert (reply.status, reply.code) == (404, -32600)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await other.send(cancel, stolen)).status == 404
        assert backend.calls == []
        assert (await ann.call("echo", text="undisturbed")).text == "undisturbed"


async def test_session_id_is_no_credential(port: int) -> None:
    async with Caller(port, x_api_key="ann-key") as ann, Caller(port) as other:
        await ann.initialize()
        assert (await other.send(request("ping"), {"mcp-session-id": ann.session})).status == 401


# Rates.

LIMIT = RateLimit(requests_per_minute=1, burst=3)


def assert_limited(reply: Reply) -> None:
    assert (reply.status, reply.code) == (429, -31003)
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert 0 < reply.error["data"]["retry_after_ms"] <= 60_000


@pytest.mark.parametrize("era", ERAS)
async def test_rate_limit_of_a_principal(backend: Backend, era: str) -> None:
    auth = Auth(jwt=JWT_SETTINGS, api_keys=AUTH.api_keys, rate_limit=LIMIT)
    async with running(configured(backend, auth=auth)) as worker:
        port = port_of(worker)
        async with Caller(port, x_api_key="ann-key") as ann, Caller(port, authorization="Bearer bob-key") as bob:
            spent = 0
            if era == HANDSHAKE:
                await ann.initialize()
                spent = 1
            for _ in range(LIMIT.burst - spent):
                assert (await ann.call("echo", text="hi")).text == "hi"
            forwarded = len(backend.calls)
            assert_limited(await ann.call("echo", text="hi"))
            assert_limited(await ann.ask("tools/list"))
            assert_limited(await ann.send(b"{"))
            assert len(backend.calls) == forwarded
            # Another connection is no way around it, another principal has its own rate, and probes have none.
            async with Caller(port, x_api_key="ann-key") as again:
                assert_limited(await again.call("echo", text="hi"))
            assert (await bob.call("echo", text="hi")).text == "hi"
            assert (await ann.send(method="GET", path="/health")).status == 200
            if era == HANDSHAKE:
                assert_limited(await ann.in_session(b"", method="DELETE"))
                assert_limited(await ann.in_session({"jsonrpc": "2.0", "method": "notifications/initialized"}))


async def test_rate_limit_of_an_address(backend: Backend) -> None:
    auth = Auth(rate_limit=LIMIT, allow_anonymous=True)
    async with running(configured(backend, auth=auth)) as worker:
        port = port_of(worker)
        for _ in range(LIMIT.burst):
            async with Caller(port) as caller:
                assert (await caller.send(b"{")).code == -32700  # unreadable requests count
        async with Caller(port) as caller:
            assert_limited(await caller.call("echo", text="hi"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        neighbour = Caller(port)
        neighbour.reader, neighbour.writer = reader, writer
        assert (await neighbour.call("echo", text="hi")).text == "hi"
        writer.close()
        await writer.wait_closed()


# Tools of a key.


@pytest.mark.parametrize("era", ERAS)
async def test_key_sees_and_calls_only_its_tools(era: str) -> None:
    first = Backend(tools={"read_a": echo, "read_b": echo, "write": echo})
    second = Backend(tools={"write": echo, "other": echo})
    auth = Auth(api_keys=(key("ann", tools=("read_*", "b1__write")), key("bob"), key("eve", tools=())))
    async with proxied(first, second, auth=auth) as port:
        async with Caller(port, x_api_key="ann-key") as ann, Caller(port, x_api_key="eve-key") as eve:
            if era == HANDSHAKE:
                await ann.initialize()
                await eve.initialize()
            result = (await ann.ask("tools/list")).result
            assert [tool["name"] for tool in result["tools"]] == ["read_a", "read_b", "b1__write"]
            assert result.get("cacheScope", "private") == "private"
            assert (await ann.call("read_a", text="hi")).text == "hi"
            assert (await ann.call("b1__write", text="hi")).text == "hi"
            served = len(first.calls) + len(second.calls)
            for name in ("write", "b0__write", "other", "b1__other"):
                reply = await ann.call(name)
                assert reply.code == -32602
                assert reply.error["message"] == f"unknown tool: {name!r}"
            assert (await eve.ask("tools/list")).result["tools"] == []
            assert (await eve.call("read_a")).code == -32602
            assert len(first.calls) + len(second.calls) == served
        async with Caller(port, x_api_key="bob-key") as bob:
            assert len((await bob.ask("tools/list")).result["tools"]) == 5
            assert (await bob.ask("tools/list")).result["cacheScope"] == "public"


# The cache.


class Counting:
    """Reads that tell each from the others, with the hints of `scope` and `ttl_ms`."""

    def __init__(self, scope: str | None, ttl_ms: int | None) -> None:
        self.reads = 0
        self._hints = {name: hint for name, hint in (("cacheScope", scope), ("ttlMs", ttl_ms)) if hint is not None}

    async def read(self, call: Call) -> Outcome:
        self.reads += 1
        return {"contents": [{"uri": call.params["uri"], "text": str(self.reads)}], **self._hints}


async def contents(caller: Caller) -> str:
    read: str = (await caller.ask("resources/read", uri="test://one")).result["contents"][0]["text"]
    return read


@pytest.mark.unchecked("without a scope a result is not valid")
@pytest.mark.parametrize("scope", ["public", "private", None])
@pytest.mark.parametrize("era", ERAS)
async def test_cached_read_never_crosses_principals(backend: Backend, port: int, scope: str | None, era: str) -> None:
    backend.scripts["resources/read"] = Counting(scope, 60_000).read
    async with Caller(port, x_api_key="ann-key") as ann, Caller(port, x_api_key="bob-key") as bob:
        if era == HANDSHAKE:
            await ann.initialize()
            await bob.initialize()
        assert [await contents(ann), await contents(bob), await contents(ann), await contents(bob)] == [*"1212"]
        async with Caller(port, authorization=f"Bearer {token()}") as same_name:
            assert await contents(same_name) == "3"


@pytest.mark.unchecked("without a lifetime a result is not valid")
@pytest.mark.parametrize("ttl_ms", [0, -5, None])
async def test_read_without_a_lifetime_is_not_cached(backend: Backend, port: int, ttl_ms: int | None) -> None:
    backend.scripts["resources/read"] = Counting("public", ttl_ms).read
    async with Caller(port, x_api_key="ann-key") as ann:
        assert [await contents(ann), await contents(ann)] == ["1", "2"]


async def test_cached_read_carries_the_id_of_the_new_request(backend: Backend, port: int) -> None:
    backend.scripts["resources/read"] = Counting("private", 60_000).read
    async with Caller(port, x_api_key="ann-key") as ann:
        for id in ("a", 7, "b"):
            reply = await ann.send(*stateless("resources/read", id=id, uri="test://one"))
            assert reply.response["id"] == id
            assert reply.result["contents"][0]["text"] == "1"
            assert 0 < reply.result["ttlMs"] <= 60_000
    assert len(backend.calls) == 1


async def test_call_of_a_tool_is_not_cached(port: int, backend: Backend) -> None:
    async def hinting(call: Call) -> Outcome:
        return {**text(str(len(backend.calls))), "ttlMs": 60_000, "cacheScope": "public"}

    backend.tools["echo"] = hinting
    async with Caller(port, x_api_key="ann-key") as ann:
        assert [(await ann.call("echo")).text, (await ann.call("echo")).text] == ["1", "2"]


# Pages.

PREFLIGHT: Fields = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,mcp-method,Mcp-Param-Region",
}


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:5", "https://localhost"])
async def test_page_of_this_machine(backend: Backend, origin: str) -> None:
    async with running(configured(backend)) as worker, Caller(port_of(worker), origin=origin) as caller:
        preflight = await caller.send(method="OPTIONS", fields=PREFLIGHT)
        assert (preflight.status, preflight.body) == (204, b"")
        assert preflight.headers["access-control-allow-origin"] == origin
        assert preflight.headers["vary"] == "origin"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        allowed = preflight.headers["access-control-allow-headers"].split(", ")
        assert {"content-type", "authorization", "mcp-method", "mcp-session-id", "mcp-param-region"} <= set(allowed)
        assert "access-control-allow-credentials" not in preflight.headers
        for reply in (await caller.call("echo", text="hi"), await caller.send(b"{"), await caller.initialize()):
            assert reply.headers["access-control-allow-origin"] == origin
            assert "mcp-session-id" in reply.headers["access-control-expose-headers"]


async def test_preflight_of_a_foreign_page(port: int) -> None:
    async with Caller(port) as caller:
        reply = await caller.send(method="OPTIONS", fields={**PREFLIGHT, "origin": "https://evil.example"})
        assert reply.status == 403
        assert not [name for name in reply.headers if name.startswith("access-control-")]


async def test_allowed_origins_and_hosts(backend: Backend) -> None:
    settings = {"allowed_origins": ("https://app.example",), "allowed_hosts": ("mcp.example", "api.example:8443")}
    async with running(configured(backend, **settings)) as worker, Caller(port_of(worker)) as caller:
        message, fields = stateless("tools/call", name="echo", arguments={"text": "hi"})
        for host in ("mcp.example", "MCP.example:80", "api.example:8443", "localhost"):
            assert (await caller.send(message, {**fields, "host": host})).text == "hi", host
        for host in ("api.example", "api.example:1", "x.mcp.example", "mcp.example.evil"):
            assert (await caller.send(message, {**fields, "host": host})).status == 421, host
        for origin in ("https://app.example", "HTTPS://APP.EXAMPLE"):
            reply = await caller.send(message, {**fields, "origin": origin})
            assert reply.headers["access-control-allow-origin"] == origin
        for origin in (
            "http://app.example",
            "https://app.example:444",
            "https://app.example.evil",
            "https://x.app.example",
        ):
            assert (await caller.send(message, {**fields, "origin": origin})).status == 403, origin


# Credentials that end while a stream is open.


def ending(in_s: float) -> dict[str, str]:
    """Return a credential that is accepted for so many seconds more."""
    return {"authorization": f"Bearer {token(exp=time.time() - LEEWAY_S + in_s)}"}


async def test_streams_end_with_the_token_that_opened_them(port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    short = ending(3.0)
    async with Caller(port) as caller, Caller(port) as one, Caller(port) as other, Caller(port, **AUTH_ANN) as lasting:
        message, fields = stateless("subscriptions/listen", id="l", notifications={"toolsListChanged": True})
        one.write(message, {**fields, **short})
        listen = await listening_on(one, STATELESS)
        assert (await listen.next())["method"] == "notifications/subscriptions/acknowledged"
        opened = await caller.send(request("initialize", **INITIALIZE), short)
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": HANDSHAKE}
        get = {"accept": "text/event-stream", "content-length": None, "content-type": None}
        other.write(b"", {**session, **short, **get}, method="GET")
        stream = await listening_on(other, HANDSHAKE)
        # A key does not end by itself.
        lasting.write(message, fields)
        kept = await listening_on(lasting, STATELESS)
        await kept.next()
        last = await listen.next()
        assert (last["id"], last["result"]["resultType"]) == ("l", "complete")
        assert await listen.next() is None
        assert await stream.next() is None
        assert [record.fields for record in caplog.records if record.message == "stream.expired"] == [
            {"principal": "ann"}
        ] * 2
        assert (await caller.send(b"", {**session, **short, **get}, method="GET")).status == 401
        # The session goes on for whoever has credentials that hold.
        fresh = {"authorization": f"Bearer {token()}"}
        assert (await caller.send(request("ping"), {**session, **fresh})).result == {}
