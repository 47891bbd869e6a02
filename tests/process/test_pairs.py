"""Every pair of client and backend, row by row: what a backend is sent, and what a client is given.

The four pairs are one parameter each; what is the same for all of them is asked of all of them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from tests import validity
from tests.in_process import proxied
from tests.mcp_backend import HANDSHAKE, STATELESS, Backend, Call, Fault, Outcome, text
from tests.mcp_caller import META, Caller, Reply

H, S = HANDSHAKE, STATELESS
PAIRS: Final = [(H, H), (S, S), (H, S), (S, H)]
REVISION: Final = {H: "2025-11-25", S: "2026-07-28"}
STAMP: Final = f"{META}serverInfo"
URI: Final = "test://one"
OBJECT: Final = {"type": "object"}
pairs = pytest.mark.parametrize(("client", "backend"), PAIRS)


@asynccontextmanager
async def paired(client: str, backend: Backend) -> AsyncIterator[Caller]:
    """Yield a client of an era in front of a backend."""
    async with proxied(backend) as port, Caller(port) as caller:
        if client == H:
            await caller.initialize()
        yield caller


def sent(backend: Backend) -> dict[str, Any]:
    (message,) = backend.calls
    validity.check(message, REVISION[backend.era])
    return message


def checked(reply: Reply, client: str, method: str) -> Reply:
    for message in reply.messages:
        validity.check(message, REVISION[client], method)
    return reply


async def plain(call: Call) -> Outcome:
    return text("done")


# What a backend is sent.


@pairs
async def test_ids_are_ours_there_and_the_clients_own_here(client: str, backend: str) -> None:
    place = Backend(era=backend, tools={"plain": plain})
    async with paired(client, place) as caller:
        for id in ("a", 7, "7"):
            message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "plain"}}
            if client == S:
                message["params"]["_meta"] = {f"{META}protocolVersion": REVISION[S], f"{META}clientCapabilities": {}}
                fields: Any = {"mcp-protocol-version": REVISION[S], "mcp-method": "tools/call", "mcp-name": "plain"}
                reply = await caller.send(message, fields)
            else:
                reply = await caller.in_session(message)
            answered = reply.response["id"]
            assert (answered, type(answered)) == (id, type(id))
        assert len({message["id"] for message in place.calls}) == 3
        assert not {message["id"] for message in place.calls} & {"a", "7"}


@pairs
async def test_meta(client: str, backend: str) -> None:
    """Keys of vendors and of traces pass; those of the stateless era are said in it, and nowhere else."""
    place = Backend(era=backend, tools={"plain": plain})
    mine = {"traceparent": "00-1-2-01", "vendor.example/x": {"a": 1}, "progressToken": "mine"}
    async with paired(client, place) as caller:
        checked(await caller.call("plain", meta=mine), client, "tools/call")
    meta = sent(place)["params"]["_meta"]
    assert {key: meta[key] for key in ("traceparent", "vendor.example/x")} == {
        key: mine[key] for key in ("traceparent", "vendor.example/x")
    }
    assert meta["progressToken"] == sent(place)["id"]
    own = {key.removeprefix(META) for key in meta if key.startswith(META)}
    expected = {"protocolVersion", "clientCapabilities"} if backend == S else set()
    assert own - {"clientInfo"} == expected
    if (client, backend) == (H, S):
        assert meta[f"{META}clientInfo"] == {"name": "t", "version": "1"}
        assert meta[f"{META}clientCapabilities"] == {}


@pairs
async def test_routing_headers_are_made_where_they_are_read(client: str, backend: str) -> None:
    place = Backend(era=backend, tools={"plain": plain})
    async with paired(client, place) as caller:
        await caller.call("plain")
    head = place.heads[-1].lower() if "tools/call" in place.bodies[-1].decode() else ""
    assert ("mcp-method: tools/call" in head, "mcp-name: plain" in head) == (
        (True, True) if backend == S else (False,) * 2
    )
    assert f"mcp-protocol-version: {REVISION[backend]}" in head
    assert ("mcp-session-id:" in head) is (backend == H)


# What a client is given.


async def structured(call: Call) -> Outcome:
    return {
        "content": [{"type": "text", "text": "[1]"}],
        "structuredContent": [1] if call.backend.era == S else {"a": 1},
    }


@pairs
async def test_results(client: str, backend: str) -> None:
    """Completeness, cache hints and the server's name belong to the stateless era; structure is an object before it."""
    resource = {"contents": [{"uri": URI, "text": "x"}]}

    async def read(call: Call) -> Outcome:
        hints = {"ttlMs": 5, "cacheScope": "public"} if call.backend.era == S else {}
        return {**resource, **hints}

    place = Backend(
        era=backend,
        tools={"structured": structured},
        resources=[{"uri": URI, "name": "one"}],
        scripts={"resources/read": read},
    )
    async with paired(client, place) as caller:
        called = checked(await caller.call("structured"), client, "tools/call").result
        got = checked(await caller.ask("resources/read", uri=URI), client, "resources/read").result
    assert called["content"] == [{"type": "text", "text": "[1]"}]
    expected = {(H, H): {"a": 1}, (S, S): [1], (S, H): {"a": 1}, (H, S): None}[client, backend]
    assert called.get("structuredContent") == expected
    assert called.get("resultType") == got.get("resultType") == ("complete" if client == S else None)
    hints = {S: (5, "public"), H: (0, "private")}[backend] if client == S else (None, None)
    assert (got.get("ttlMs"), got.get("cacheScope")) == hints
    if (client, backend) == (S, H):
        assert called["_meta"][STAMP]["name"] == "fake"
    assert got["contents"] == resource["contents"]


@pairs
async def test_lists(client: str, backend: str) -> None:
    """`execution` is of handshake backends that make tasks, output schemas other than objects of stateless ones."""

    class Rich(Backend):
        def _list(self, method: str) -> list[dict[str, Any]]:
            if method != "tools/list":
                return []
            if self.era == H:
                return [{"name": "t", "inputSchema": OBJECT, "execution": {"taskSupport": "optional"}}]
            return [
                {"name": "t", "inputSchema": OBJECT, "outputSchema": {"type": "array"}},
                {"name": "u", "inputSchema": OBJECT, "outputSchema": {"type": "object"}},
            ]

    tasks = {"tasks": {"requests": {"tools": {"call": {}}}}} if backend == H else {}
    async with paired(client, Rich(era=backend, capabilities=tasks)) as caller:
        tools = checked(await caller.ask("tools/list"), client, "tools/list").result["tools"]
    assert ["execution" in tool for tool in tools] == (
        [(client, backend) == (H, H)] if backend == H else [False, False]
    )
    if backend == S:
        assert ["outputSchema" in tool for tool in tools] == [client == S, True]


def failing(**error: Any) -> Callable[[Call], Any]:
    async def fail(call: Call) -> Outcome:
        raise Fault(message="no", **error)

    return fail


# The error of a backend, and its code for a client of each of PAIRS. What a backend of the handshake era means by
# the codes that the stateless era has reserved is its own affair with clients of that era.
ERRORS: Final[list[tuple[str, dict[str, Any], tuple[int, int, int, int]]]] = [
    ("tools/call", {"code": -32602}, (-32602, -32602, -32602, -32602)),
    ("tools/call", {"code": -32601}, (-32601, -32601, -32601, -32601)),
    ("tools/call", {"code": -32603}, (-32603, -32603, -32603, -32603)),
    ("tools/call", {"code": 42}, (42, 42, 42, 42)),
    # Whoever has sent a wrong header or version is the proxy, not its client.
    ("tools/call", {"code": -32020}, (-32020, -32603, -32603, -32603)),
    ("tools/call", {"code": -32022}, (-32022, -32603, -32603, -32603)),
    ("tools/call", {"code": -32021, "data": {"requiredCapabilities": {"roots": {}}}}, (-32021, -32021, -32603, -32603)),
    # These clients cannot visit an URL.
    ("tools/call", {"code": -32042}, (-32603, -32603, -32603, -32603)),
    ("resources/read", {"code": -32002}, (-32002, -32602, -32002, -32602)),
    ("resources/read", {"code": -32602, "data": {"uri": URI}}, (-32602, -32602, -32002, -32602)),
]
STATUS: Final = {-32601: 404, -32602: 400, -32021: 400}


@pytest.mark.parametrize(
    ("method", "error", "client", "backend", "code"),
    [(method, error, *pair, code) for method, error, codes in ERRORS for pair, code in zip(PAIRS, codes, strict=True)],
)
async def test_errors(method: str, error: dict[str, Any], client: str, backend: str, code: int) -> None:
    place = Backend(
        era=backend,
        tools={"fail": failing(**error)},
        resources=[{"uri": URI, "name": "one"}],
        scripts={"resources/read": failing(**error)},
    )
    async with paired(client, place) as caller:
        reply = await (caller.call("fail") if method == "tools/call" else caller.ask(method, uri=URI))
    assert (reply.code, reply.status) == (code, STATUS.get(code, 200) if client == S else 200)
    if reply.code == -32602 and method == "resources/read" and client == S:
        assert reply.error["data"] == {"uri": URI}


@pairs
async def test_progress_has_the_token_of_whoever_waits(client: str, backend: str) -> None:
    async def slow(call: Call) -> Outcome:
        for step in (1, 2):
            await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": step})
        return text("done")

    async with paired(client, Backend(era=backend, tools={"slow": slow})) as caller:
        reply = checked(await caller.call("slow", meta={"progressToken": "mine"}), client, "tools/call")
    *progress, _ = reply.messages
    assert [each["params"] for each in progress] == [{"progressToken": "mine", "progress": step} for step in (1, 2)]


@pairs
async def test_names_and_completion(client: str, backend: str) -> None:
    """What is named is found by the backend's own name, whatever the pair."""

    async def complete(call: Call) -> Outcome:
        return {"completion": {"values": [call.params["ref"]["name"], call.params["argument"]["value"]]}}

    async def prompt(call: Call) -> Outcome:
        return {"messages": [{"role": "user", "content": {"type": "text", "text": call.params["name"]}}]}

    scripts = {"completion/complete": complete, "prompts/get": prompt}
    place = Backend(era=backend, prompts=[{"name": "p"}], scripts=scripts)
    async with paired(client, place) as caller:
        ref = {"type": "ref/prompt", "name": "b0__p"}
        reply = await caller.ask("completion/complete", ref=ref, argument={"name": "a", "value": "x"})
        assert checked(reply, client, "completion/complete").result["completion"]["values"] == ["p", "x"]
        got = checked(await caller.ask("prompts/get", name="b0__p"), client, "prompts/get")
        assert got.result["messages"][0]["content"]["text"] == "p"


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe"])
async def test_the_stateless_era_knows_no_method_of_the_other(method: str) -> None:
    async with paired(S, Backend(era=H, tools={"plain": plain})) as caller:
        reply = await caller.ask(method, uri=URI, level="info")
        assert (reply.code, reply.status) == (-32601, 404)


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen", "tasks/get", "tasks/list"])
async def test_a_session_knows_no_method_of_the_stateless_era(method: str) -> None:
    async with paired(H, Backend(era=S, tools={"plain": plain})) as caller:
        assert (await caller.ask(method, taskId="x")).code == -32601


@pytest.mark.parametrize("backend", [H, S])
async def test_openings_are_made_of_what_the_backends_offer(backend: str) -> None:
    place = Backend(era=backend, tools={"plain": plain}, instructions="Mind the gap.")
    async with proxied(place) as port, Caller(port) as caller:
        opened = checked(await caller.initialize(), H, "initialize").result
        caller.session = None
        found = checked(await caller.ask("server/discover"), S, "server/discover").result
        assert opened["capabilities"]["tools"] == found["capabilities"]["tools"] == {"listChanged": True}
        assert "Mind the gap." in opened["instructions"]
        assert opened["instructions"] == found["instructions"]
        assert opened["serverInfo"]["name"] == found["_meta"][STAMP]["name"] == "only1mcp"
        assert found["supportedVersions"] == ["2026-07-28"]


async def test_what_only_the_structure_says_is_said_to_older_clients_as_text() -> None:
    async def bare(call: Call) -> Outcome:
        return {"content": [], "structuredContent": ["a", {"b": 1.5}]}

    async with paired(H, Backend(era=S, tools={"bare": bare})) as caller:
        result = checked(await caller.call("bare"), H, "tools/call").result
        assert json.loads(result["content"][0]["text"]) == ["a", {"b": 1.5}]
        assert "structuredContent" not in result


async def test_between_stateless_sides_a_round_passes_as_it_is() -> None:
    """Nothing is parked: what the client brings back is the backend's own, octet for octet."""
    state = "v1.\u00e4 \\u0000/+="
    asks = {"q": {"method": "roots/list"}}

    async def ask(call: Call) -> Outcome:
        if "inputResponses" not in call.params:
            return {"resultType": "input_required", "inputRequests": asks, "requestState": state}
        return text("done")

    place = Backend(era=S, tools={"ask": ask})
    async with paired(S, place) as caller:
        meta = {f"{META}clientCapabilities": {"roots": {}}}
        first = (await caller.ask("tools/call", meta=meta, name="ask", arguments={})).result
        assert first == {"resultType": "input_required", "inputRequests": asks, "requestState": state}
        more = {"requestState": state, "inputResponses": {"q": {"roots": []}, "not asked": {"roots": [], "x": 1.50}}}
        assert (await caller.ask("tools/call", meta=meta, name="ask", arguments={}, **more)).text == "done"
        sent = place.calls[-1]["params"]
        assert {key: sent[key] for key in more} == more
