"""Plain calls: the same answers as the ordinary way gives, and an ordinary exchange as soon as anything happens."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from tests.in_process import configured, running
from tests.mcp_backend import Backend, Call, Fault, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, STATELESS, Caller, Fields, Reply, request, stateless

from only1mcp._fast import COMPILED
from only1mcp.config.schema import (
    JWT,
    ApiKey,
    Auth,
    Cache,
    CachedItem,
    Limits,
    LoadBalancer,
    RateLimit,
    Timeouts,
    ToolRules,
)
from only1mcp.config.schema import Metrics as MetricsSettings
from only1mcp.config.secret import Secret
from only1mcp.frontend.repeating import ORDINARY_CALLS, RepeatingConnection
from only1mcp.process.worker import Worker
from only1mcp.proxy.plain import KnownCall, PlainCall

pytestmark = pytest.mark.skipif(not COMPILED, reason="without the compiled reader no head is known again")

ERAS = [STATELESS, HANDSHAKE]
BACKEND_ERA = {STATELESS: "stateless", HANDSHAKE: "handshake"}
SECRET = "s" * 40


@dataclass
class Scene:
    """The proxy, one backend of the client's era, and a connection whose calls are plain."""

    era: str
    backend: Backend
    worker: Worker
    caller: Caller
    headers: Fields = field(default_factory=dict)

    @property
    def client(self) -> RepeatingConnection:
        """The proxy's end of the connection."""
        assert self.worker.listener is not None
        port = self.caller.writer.get_extra_info("sockname")[1]
        for connection in self.worker.listener._serving:
            assert isinstance(connection, RepeatingConnection)
            if connection._transport is not None and connection._transport.get_extra_info("peername")[1] == port:
                return connection
        raise AssertionError("the connection is closed")

    @property
    def ordinary_calls(self) -> int:
        """How many calls over this connection have gone the ordinary way."""
        return self.client.ordinary_calls

    @property
    def plain(self) -> PlainCall | None:
        """The plain call in flight."""
        plain = self.client._plain
        assert plain is None or isinstance(plain, PlainCall)
        return plain

    async def call(self, tool: str = "echo", **how: Any) -> Reply:
        self.write(tool, **how)
        return await self.caller.reply()

    def write(self, tool: str = "echo", *, id: Any = 7, meta: dict[str, Any] | None = None, **arguments: Any) -> None:
        self.caller.writer.write(self.octets(tool, id=id, meta=meta, **arguments))

    def octets(self, tool: str = "echo", *, id: Any = 7, meta: dict[str, Any] | None = None, **arguments: Any) -> bytes:
        """Return a call as this connection sends it."""
        if self.era == STATELESS:
            message, fields = stateless("tools/call", id=id, meta=meta, name=tool, arguments=arguments)
        else:
            more = {} if meta is None else {"_meta": meta}
            message = request("tools/call", id=id, name=tool, arguments=arguments, **more)
            fields = {"mcp-session-id": self.caller.session, "mcp-protocol-version": HANDSHAKE}
        return self.caller.http(json.dumps(message).encode(), {**fields, **self.headers})

    async def warm(self, tool: str = "echo", **how: Any) -> None:
        """Call until calls are plain."""
        for _ in range(ORDINARY_CALLS):
            await self.call(tool, **how)
        assert isinstance(self.client._known, KnownCall), "the calls were not found to be plain"


@asynccontextmanager
async def scene(
    era: str, *more: Backend, backend: Backend | None = None, headers: Fields | None = None, **settings: Any
) -> AsyncIterator[Scene]:
    """Set the scene; the backend has `echo`, `hold`, and `twice`, and what the test gives it."""
    backend = backend or Backend()
    backend.era = BACKEND_ERA[era]
    backend.tools = {"echo": echo, "hold": backend.hold, **backend.tools}
    async with backend:
        for each in more:
            await each.__aenter__()
        try:
            async with running(configured(backend, *more, **settings)) as worker:
                assert worker.listener is not None
                async with Caller(worker.listener.port) as caller:
                    if era == HANDSHAKE:
                        reply = await caller.send(
                            request(
                                "initialize",
                                protocolVersion=HANDSHAKE,
                                capabilities={},
                                clientInfo={"name": "t", "version": "1"},
                            ),
                            headers,
                        )
                        caller.session = reply.headers["mcp-session-id"]
                    yield Scene(era, backend, worker, caller, headers or {})
        finally:
            for each in more:
                await each.__aexit__()


@pytest.fixture(params=ERAS)
async def warm(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with scene(request.param) as scene_:
        await scene_.warm("hold" if "hold" in str(request.node.name) else "echo")
        yield scene_


@asynccontextmanager
async def holding(era: str, **settings: Any) -> AsyncIterator[Scene]:
    """A scene in which a plain call to `hold` is in flight."""
    async with scene(era, **settings) as here:
        here.backend.release.set()
        await here.warm("hold")
        here.backend.release.clear()
        here.backend.holding.clear()
        here.write("hold", id="held")
        await here.backend.holding.wait()
        assert here.plain is not None
        yield here


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop turn until that holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)


def shape(reply: Reply) -> tuple[int, list[str], bytes]:
    """Return all of a response but the time at which it was sent."""
    return reply.status, [f"{k}: {v}" for k, v in reply.headers.items() if k != "date"], reply.body


# What a plain call brings.


async def test_calls_become_plain_and_are_answered_alike(warm: Scene) -> None:
    ordinary = warm.ordinary_calls
    replies = [await warm.call(id=7, text="the same") for _ in range(3)]
    assert warm.ordinary_calls == ordinary
    async with Caller(warm.caller.port) as fresh:
        fresh.writer.write(warm.octets(id=7, text="the same"))
        assert [shape(reply) for reply in replies] == [shape(await fresh.reply())] * 3
    # The backend has got the same octets, but for the number that is ours.
    bodies = [body.replace(b'"id": %d' % json.loads(body)["id"], b"") for body in warm.backend.bodies[-4:]]
    assert len(set(bodies)) == 1
    heads = [head.partition("content-length")[0] for head in warm.backend.heads if head.startswith("POST")]
    assert len(set(heads[-4:])) == 1


@pytest.mark.parametrize("id", [0, -1, 12345678901234567890, "", "a" * 200, 'q"uo\\te', "é"])
async def test_the_id_comes_back_as_it_was(warm: Scene, id: Any) -> None:
    ordinary = warm.ordinary_calls
    reply = await warm.call(id=id, text="x")
    assert (reply.response["id"], reply.text) == (id, "x")
    assert warm.ordinary_calls == ordinary


async def test_other_arguments_and_lengths(warm: Scene) -> None:
    ordinary = warm.ordinary_calls
    for size in (0, 1, 9, 10, 99, 100, 5000, 30_000):
        assert (await warm.call(text="x" * size)).text == "x" * size
    assert warm.ordinary_calls == ordinary


async def test_what_is_counted(request: pytest.FixtureRequest) -> None:
    for era in ERAS:
        async with scene(era) as here:
            await here.warm()
            before = here.worker.metrics.render(None)[1]
            await here.call(text="x")
            assert here.ordinary_calls == ORDINARY_CALLS
            plain = _difference(before, here.worker.metrics.render(None)[1])
            async with Caller(here.caller.port) as fresh:
                before = here.worker.metrics.render(None)[1]
                fresh.writer.write(here.octets(text="x"))
                await fresh.reply()
                assert _difference(before, here.worker.metrics.render(None)[1]) == plain
            assert any("requests_total" in name for name in plain)
            assert any("backend_requests_total" in name for name in plain)


def _difference(before: bytes, after: bytes) -> dict[str, float]:
    """Return by how much each counter has grown; how long it took is not the same twice."""
    old, new = (
        {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.decode().splitlines()
            if line and not line.startswith("#") and "_total" in line
        }
        for text in (before, after)
    )
    return {name: value - old.get(name, 0) for name, value in new.items() if value != old.get(name, 0)}


async def test_the_access_log_is_the_same(caplog: pytest.LogCaptureFixture, warm: Scene) -> None:
    caplog.set_level("INFO", "only1mcp.access")
    await warm.call(text="x")
    async with Caller(warm.caller.port) as fresh:
        fresh.writer.write(warm.octets(text="x"))
        await fresh.reply()
    lines = [record.fields for record in caplog.records if record.name == "only1mcp.access"]  # type: ignore[attr-defined]
    one, other = ({k: v for k, v in line.items() if k != "duration_ms"} for line in lines)
    assert one == other
    assert one["backend"] == "b0"


async def test_names_of_ours_become_those_of_the_backend() -> None:
    for era in ERAS:
        rules = {"tools": ToolRules(rename={"echo": "say"})}
        async with scene(era, each=rules) as here:
            await here.warm("say")
            assert (await here.call("say", text="hi")).text == "hi"
            assert here.ordinary_calls == ORDINARY_CALLS
            assert {call["params"]["name"] for call in here.backend.calls} == {"echo"}
            if era == HANDSHAKE:  # the head says nothing of the name
                assert (await here.call("b0__say", text="hi")).text == "hi"


async def test_uris_in_results_are_rewritten() -> None:
    async def linked(call: Call) -> Outcome:
        return {"content": [{"type": "resource_link", "uri": "test://one", "name": "one"}]}

    resources = [{"uri": "test://one", "name": "one"}]
    for era in ERAS:
        other = Backend(era=BACKEND_ERA[era], tools={"linked": linked}, resources=resources)
        async with scene(era, other, backend=Backend(resources=resources)) as here:
            await here.warm("linked")
            for _ in range(2):
                (link,) = (await here.call("linked")).result["content"]
                assert link["uri"] == "only1mcp://b1/test://one"
            assert here.ordinary_calls == ORDINARY_CALLS  # it was one until the answer came


# Calls that are not plain.


async def test_a_progress_token_goes_the_ordinary_way(warm: Scene) -> None:
    ordinary = warm.ordinary_calls
    assert (await warm.call(meta={"progressToken": "mine"}, text="x")).text == "x"
    assert warm.ordinary_calls == ordinary + 1
    assert warm.backend.calls[-1]["params"]["_meta"]["progressToken"] != "mine"
    assert (await warm.call(text="x")).text == "x"
    assert warm.ordinary_calls == ordinary + 1


async def test_other_meta_is_held_against_the_head(warm: Scene) -> None:
    ordinary = warm.ordinary_calls
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (await warm.call(meta={"traceparent": trace}, text="x")).text == "x"
    assert warm.ordinary_calls == ordinary
    assert warm.backend.calls[-1]["params"]["_meta"]["traceparent"] == trace


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"name": "echo"', b'"name": "nope"', -32020),
        (b'"name": "echo"', b'"nome": "echo"', -32602),
        (b'"tools/call"', b'"tools/kall"', -32020),
        (b'"2026-07-28"', b'"2026-07-29"', -32020),
        (b"/protocolVersion", b"/protocolVarsion", -32602),
        (b"/clientCapabilities", b"/klientCapabilities", -32602),
        (b'Capabilities": {}', b'Capabilities": []', -32602),
        (b'"jsonrpc": "2.0"', b'"jsonrpc": "1.0"', -32600),
        (b'"jsonrpc"', b'"jsonrpx"', -32600),
        (b'"params"', b'"Params"', -32600),
        (b'"id": 7', b'"id":{}', -32600),
        (b'"arguments": {}', b'"arguments": {]', -32700),
    ],
)
async def test_what_is_wrong_is_refused_as_ever(old: bytes, new: bytes, code: int) -> None:
    async with scene(STATELESS) as here:
        await here.warm()
        calls = len(here.backend.calls)
        octets = here.octets()
        assert octets.count(old) == 1
        here.caller.writer.write(octets.replace(old, new))
        assert (await here.caller.reply()).code == code
        assert len(here.backend.calls) == calls
        assert (await here.call(text="next")).text == "next"


async def test_a_tool_that_is_not_there(warm: Scene) -> None:
    if warm.era == HANDSHAKE:
        assert (await warm.call("nope")).code == -32602
    assert (await warm.call(text="next")).text == "next"


async def test_other_methods_over_the_same_connection(warm: Scene) -> None:
    for _ in range(3):
        assert [tool["name"] for tool in (await warm.caller.ask("tools/list")).result["tools"]] == ["echo", "hold"]
        assert (await warm.call(text="x")).text == "x"


@pytest.mark.parametrize("kind", ["annotated", "cached"])
async def test_tools_that_need_a_decision(kind: str) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "x-mcp-header": "Text"}}}
    read_only = {"readOnlyHint": True}
    backend = (
        Backend(tools={"special": echo}, schemas={"special": schema})
        if kind == "annotated"
        else Backend(tools={"special": echo}, annotations={"special": read_only})
    )
    headers: Fields = {"mcp-param-text": "x"} if kind == "annotated" else {}
    cache = Cache(tools={"special": CachedItem(60)})
    async with scene(STATELESS, backend=backend, headers=headers, cache=cache) as here:
        for _ in range(ORDINARY_CALLS + 2):
            assert (await here.call("special", text="x")).text == "x"
        assert here.plain is None
        served = len(backend.calls)
        assert served == (1 if kind == "cached" else ORDINARY_CALLS + 2)
        if kind == "annotated":
            assert (await here.call("special", text="y")).code == -32020


async def test_other_eras_go_the_ordinary_way() -> None:
    for client, backend in ((STATELESS, "handshake"), (HANDSHAKE, "stateless")):
        async with scene(client) as here:
            other = Backend(era=backend, tools={"theirs": echo})
            async with other, running(configured(other)) as worker:
                assert worker.listener is not None
                async with Caller(worker.listener.port) as caller:
                    if client == HANDSHAKE:
                        await caller.initialize()
                    for _ in range(ORDINARY_CALLS + 2):
                        reply = await caller.call("theirs", text="x")
                        assert reply.text == "x"
                        assert ("resultType" in reply.result) == (client == STATELESS)
            assert here.plain is None


@pytest.mark.unchecked("some of them are no valid results")
async def test_answers_that_are_no_results() -> None:
    outcomes: list[Any] = []

    async def moody(call: Call) -> Outcome:
        outcome = outcomes.pop(0) if outcomes else text("fine")
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "progress":
            await call.say(method="notifications/message", params={"level": "info", "data": "x"})
            return text("streamed")
        if isinstance(outcome, str):  # a whole answer, as text with the id left open
            body = outcome.replace("ID", str(call.message["id"])).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            return head % len(body) + body
        if isinstance(outcome, bytes):
            return outcome
        assert isinstance(outcome, dict)
        return outcome

    for era in ERAS:
        backend = Backend(tools={"moody": moody})
        async with scene(era, backend=backend) as here:
            await here.warm("moody")

            async def after(outcome: Any, here: Scene = here) -> Reply:
                outcomes[:] = [outcome]
                reply = await here.call("moody")
                assert (await here.call("moody")).text == "fine"
                return reply

            assert (await after(Fault(code=-32000, message="no"))).error["message"] == "no"
            assert (await after({"content": [], "isError": True})).result["isError"] is True
            assert (await after("progress")).text == "streamed"
            result = (await after('{"jsonrpc":"2.0","id":ID,"result":{"a":1e5}}')).result
            assert result == {"a": 1e5} | ({"resultType": "complete"} if era == STATELESS else {})
            for broken in (
                "nothing",
                '{"jsonrpc":"2.0","id":77,"result":{}}',
                '{"jsonrpc":"2.0","id":ID,"result":{},"result":{}}',
                '{"jsonrpc":"2.0","id":ID,"result":{}}}',
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{",
                b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
                b"rubbish",
                b"",
            ):
                reply = await after(broken)
                assert reply.code is not None, broken
                assert -31010 < reply.code < -31000, (broken, reply)


async def test_a_large_result_passes(warm: Scene) -> None:
    size = 3_000_000
    warm.write(text="x" * 1000)
    assert len((await warm.caller.reply()).text) == 1000

    async def large(call: Call) -> Outcome:
        return text("y" * size)

    warm.backend.tools["echo"] = large
    assert len((await warm.call()).text) == size
    warm.backend.tools["echo"] = echo
    assert (await warm.call(text="next")).text == "next"


# What is asked every time.


async def test_a_session_that_has_ended_is_gone() -> None:
    async with scene(HANDSHAKE) as here:
        await here.warm()
        async with Caller(here.caller.port) as other:
            assert (await other.send(b"", {"mcp-session-id": here.caller.session}, method="DELETE")).status == 204
        assert (await here.call()).status == 404


@pytest.mark.parametrize("era", ERAS)
async def test_credentials_end(era: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    token = jwt.encode({"sub": "ann", "exp": now + 40}, SECRET, "HS256")
    auth = Auth(jwt=JWT(secret=Secret(SECRET)))
    async with scene(era, headers={"authorization": f"Bearer {token}"}, auth=auth) as here:
        await here.warm()
        assert (await here.call(text="x")).text == "x"
        assert here.ordinary_calls == ORDINARY_CALLS
        known = here.client._known
        assert isinstance(known, KnownCall)
        verified = known.calls.authenticator._verified
        (digest,) = verified
        # As when time has passed: neither is it remembered as valid, nor would it be found valid.
        verified[digest] = (verified[digest][0], 0.0, now - 1)
        assert (await here.call(text="x")).text == "x"
        assert here.ordinary_calls == ORDINARY_CALLS + 1
        assert (await here.call(text="x")).text == "x"
        verified[digest] = (verified[digest][0], 0.0, now - 1)
        monkeypatch.setattr(known.calls.authenticator, "_clock", lambda: now + 1000)
        assert (await here.call()).status == 401


@pytest.mark.parametrize("era", ERAS)
async def test_the_rate_limit_counts_every_call_once(era: str) -> None:
    auth = Auth(rate_limit=RateLimit(requests_per_minute=1, burst=8))
    async with scene(era, auth=auth) as here:
        replies = [await here.call(text="x") for _ in range(12)]
        served = 8 - (era == HANDSHAKE)  # initialize counts as well
        assert [reply.code if "error" in reply.response else None for reply in replies] == (
            [None] * served + [-31003] * (12 - served)
        )
        assert len(here.backend.calls) == served


@pytest.mark.parametrize("era", ERAS)
async def test_only_tools_that_the_principal_may_call(era: str) -> None:
    key = ApiKey(name="ann", key_sha256=hashlib.sha256(b"ann-key").hexdigest(), tools=("echo",))
    async with scene(era, headers={"x-api-key": "ann-key"}, auth=Auth(api_keys=(key,))) as here:
        await here.warm()
        assert (await here.call(text="x")).text == "x"
        assert here.ordinary_calls == ORDINARY_CALLS
        # Another may call the other tool, so that its route is known.
        assert (await here.call("hold")).code == -32602
        assert [call["params"]["name"] for call in here.backend.calls if call["params"]["name"] != "echo"] == []


@pytest.mark.parametrize("era", ERAS)
async def test_too_many_in_flight(era: str) -> None:
    async with holding(era, limits=Limits(max_in_flight=1)) as here, Caller(here.caller.port) as other:
        other.writer.write(here.octets("echo"))
        assert (await other.reply()).code == -31006
        here.backend.release.set()
        assert (await here.caller.reply()).text == "released"
        assert (await here.call("hold")).text == "released"


async def test_the_catalog_in_force_decides(warm: Scene) -> None:
    (endpoint,) = warm.worker.registry.endpoints.values()
    del warm.backend.tools["echo"]
    warm.backend.tools["other"] = echo
    before = warm.worker.pipeline.snapshot
    endpoint.reread()
    await until(lambda: warm.worker.pipeline.snapshot is not before)
    assert (await warm.call()).code == -32602


async def test_a_backend_that_is_down(warm: Scene) -> None:
    await warm.backend.__aexit__()
    assert (await warm.call()).code in (-31001, -31007)
    assert (await warm.call()).code in (-31001, -31007)


@pytest.mark.parametrize("algorithm", ["round_robin", "least_connections", "random", "weighted_random"])
async def test_groups_stay_balanced(algorithm: Any) -> None:
    backends = [Backend(tools={"echo": echo}) for _ in range(3)]
    settings = {"load_balancer": LoadBalancer(algorithm=algorithm), "each": {"group": "all"}}
    async with AsyncExitStack() as stack:
        for each in backends:
            await stack.enter_async_context(each)
        worker = await stack.enter_async_context(running(configured(*backends, **settings)))
        assert worker.listener is not None
        caller = await stack.enter_async_context(Caller(worker.listener.port))
        for number in range(60):
            assert (await caller.call("echo", text=str(number))).text == str(number)
        served = [len(backend.calls) for backend in backends]
        assert sum(served) == 60
        assert min(served) >= (20 if algorithm == "round_robin" else 5), served
        (client,) = worker.listener._serving
        assert isinstance(client, RepeatingConnection)
        assert client.ordinary_calls < 20, "the calls were not plain"


@pytest.mark.parametrize("hash_key", ["auto", "client", "tool", "session", "arguments"])
async def test_keys_keep_their_backend(hash_key: Any) -> None:
    for era in ERAS:
        backends = [Backend(era=BACKEND_ERA[era], tools={"echo": echo, "other": echo}) for _ in range(3)]
        settings = {
            "load_balancer": LoadBalancer(algorithm="consistent_hash", hash_key=hash_key),
            "each": {"group": "all"},
        }
        async with AsyncExitStack() as stack:
            for each in backends:
                await stack.enter_async_context(each)
            worker = await stack.enter_async_context(running(configured(*backends, **settings)))
            assert worker.listener is not None
            caller = await stack.enter_async_context(Caller(worker.listener.port))
            if era == HANDSHAKE:
                await caller.initialize()
            for _ in range(10):
                for tool in ("echo", "other"):
                    assert (await caller.call(tool, text="x")).text == "x"
            for tool in ("echo", "other"):
                hit = [sum(call["params"]["name"] == tool for call in backend.calls) for backend in backends]
                assert sorted(hit) == [0, 0, 10], (hash_key, tool, hit)


# What happens to a call in flight.


@pytest.mark.parametrize("era", ERAS)
async def test_the_client_vanishes(era: str) -> None:
    async with holding(era) as here:
        here.caller.vanish()
        await here.backend.gone.wait()
        assert here.backend.abandoned == ["hold"]
        if era == HANDSHAKE:
            await here.backend.notified.wait()
            assert here.backend.received[-1]["method"] == "notifications/cancelled"
        async with Caller(here.caller.port) as other:
            here.backend.release.set()
            other.writer.write(here.octets("hold"))
            assert (await other.reply()).text == "released"


@pytest.mark.parametrize("era", ERAS)
async def test_the_client_half_closes(era: str) -> None:
    async with holding(era) as here:
        here.caller.writer.write_eof()
        await until(lambda: here.plain is None)
        here.backend.release.set()
        assert (await here.caller.reply()).text == "released"


@pytest.mark.parametrize("era", ERAS)
async def test_pipelined_requests_are_answered_in_order(era: str) -> None:
    async with holding(era) as here:
        octets = here.octets("hold", id="next")
        here.caller.writer.write(octets[:50])
        await asyncio.sleep(0)
        here.caller.writer.write(octets[50:] + here.octets("hold", id="last"))
        await until(lambda: here.plain is None)
        here.backend.release.set()
        ids = [(await here.caller.reply()).response["id"] for _ in range(3)]
        assert ids == ["held", "next", "last"]
        assert (await here.call("hold", id="again")).response["id"] == "again"


async def test_the_client_cancels() -> None:
    async with holding(HANDSHAKE) as here, Caller(here.caller.port) as side:
        side.session = here.caller.session
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "held"}}
        assert (await side.in_session(cancel)).status == 202
        reply = await here.caller.reply()
        assert (reply.status, reply.code, reply.response["id"]) == (200, -32800, "held")
        await here.backend.gone.wait()
        here.backend.release.set()
        assert (await here.call("hold")).text == "released"


async def test_another_session_cannot_cancel() -> None:
    async with holding(HANDSHAKE) as here, Caller(here.caller.port) as other:
        await other.initialize()
        for id in ("held", 7):
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}
            assert (await other.in_session(cancel)).status == 202
        assert here.plain is not None
        here.backend.release.set()
        assert (await here.caller.reply()).text == "released"


async def test_whose_call_a_backend_speaks_in_is_known_of_plain_calls_too() -> None:
    async with holding(HANDSHAKE) as here, Caller(here.caller.port) as other:
        (endpoint,) = here.worker.registry.endpoints.values()
        assert endpoint.transport is not None
        lane = endpoint.transport.lane
        assert lane is not None
        assert lane.sole
        # Something comes over the backend's own stream: the calls that wait are looked through.
        (call,) = lane.calls()
        assert here.plain is None
        assert call.call.asked is not None
        assert (call.call.asked.owner, call.call.asked.in_session) == (here.client._known.session.id, True)
        here.backend.release.set()
        assert (await here.caller.reply()).text == "released"
        await other.initialize()
        for _ in range(ORDINARY_CALLS + 1):
            await here.call("hold")
        assert lane.sole
        await other.call("echo", text="x")
        assert not lane.sole


async def test_plain_calls_of_several_owners_are_noticed() -> None:
    async with scene(HANDSHAKE) as here, Caller(here.caller.port) as other:
        await here.warm()
        await other.initialize()
        (endpoint,) = here.worker.registry.endpoints.values()
        assert endpoint.transport is not None
        lane = endpoint.transport.lane
        assert lane is not None
        for _ in range(ORDINARY_CALLS):
            await other.call("echo", text="x")
        # As if nobody had been served yet, so that only plain calls tell who is.
        attribution = endpoint.transport._attribution  # type: ignore[attr-defined]
        lane.sole, attribution.shared, attribution._owner = True, False, None
        ordinary = here.ordinary_calls
        await here.call(text="x")
        assert lane.sole
        await other.call("echo", text="x")
        assert not lane.sole
        assert here.ordinary_calls == ordinary


@pytest.mark.parametrize("era", ERAS)
async def test_the_deadline_passes(era: str) -> None:
    async with holding(era, each={"timeout_ms": 300}) as here:
        reply = await here.caller.reply()
        assert reply.code == -31002
        await here.backend.gone.wait()
        here.backend.release.set()
        assert (await here.call("hold")).text == "released"


@pytest.mark.parametrize("era", ERAS)
async def test_the_backend_dies(era: str) -> None:
    async with holding(era) as here:
        before = len(here.backend.calls)
        await here.backend.__aexit__()
        reply = await here.caller.reply()
        assert reply.code == -31007
        assert len(here.backend.calls) == before  # it may have done what it was asked: it is not asked again


@pytest.mark.parametrize("era", ERAS)
async def test_draining_lets_it_finish(era: str) -> None:
    async with holding(era) as here:
        assert here.worker.listener is not None
        drained = asyncio.create_task(here.worker.listener.drain(10))
        await until(lambda: here.plain is None)
        here.backend.release.set()
        reply = await here.caller.reply()
        assert (reply.text, reply.headers["connection"]) == ("released", "close")
        assert await here.caller.is_closed()
        await drained


@pytest.mark.parametrize("era", ERAS)
async def test_stopping_says_so(era: str) -> None:
    async with holding(era) as here:
        assert here.worker.listener is not None
        stopped = asyncio.create_task(here.worker.listener.drain(0))
        assert (await here.caller.reply()).status == 503
        await stopped


@pytest.mark.parametrize("era", ERAS)
async def test_an_idle_deadline_does_not_end_it(era: str) -> None:
    timeouts = Timeouts(idle_s=1, request_s=60)
    async with holding(era, timeouts=timeouts) as here:
        await until(lambda: here.plain is None)
        here.backend.release.set()
        assert (await here.caller.reply()).text == "released"
        assert (await here.call("hold")).text == "released"


async def test_many_clients_get_their_own_answers() -> None:
    for era in ERAS:
        async with scene(era, metrics=MetricsSettings(enabled=False)) as here:

            async def one(number: int, here: Scene = here) -> None:
                async with Caller(here.caller.port) as caller:
                    if here.era == HANDSHAKE:
                        await caller.initialize()
                    for call in range(20):
                        said = f"{number}/{call}" + "x" * (call * 37)
                        assert (await caller.call("echo", text=said)).text == said

            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                for number in range(60):
                    group.create_task(one(number))
            assert len(here.backend.calls) == 60 * 20
            assert here.worker.pipeline._in_flight == 0
            assert all(endpoint.in_flight == 0 for endpoint in here.worker.registry.endpoints.values())
