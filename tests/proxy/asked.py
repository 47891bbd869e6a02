"""A handshake backend whose tools ask their client, and a stateless client that answers; every message is checked."""

from __future__ import annotations

import asyncio
from typing import Any

from tests import validity
from tests.mcp_backend import HANDSHAKE, Backend, Call, Outcome, Script, text
from tests.mcp_caller import META, STATELESS, Caller, Reply, stateless

FORM = {"message": "your name?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
SAMPLE = {"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 5}
URL = {"mode": "url", "message": "log in", "url": "https://login.example/", "elicitationId": "e-1"}
ALL = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
NAMED = {"action": "accept", "content": {"name": "Ann"}}
SAMPLED = {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"}
ROOTS = {"roots": [{"uri": "file:///home", "name": "home"}]}


async def answer_of(backend: Backend, id: Any) -> dict[str, Any]:
    """Wait for what the proxy answers to a request of the backend."""
    while True:
        for message in backend.received:
            if message.get("id") == id and "method" not in message:
                return message
        backend.notified.clear()
        await backend.notified.wait()


async def ask(call: Call, id: Any, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the client in the middle of a call."""
    await call.say(id=id, method=method, **({} if params is None else {"params": params}))
    message = await answer_of(call.backend, id)
    validity.check(message, "2025-11-25", method)
    return message


async def said(backend: Backend, method: str) -> dict[str, Any]:
    """Wait for a notification to the backend."""
    while True:
        for message in backend.received:
            if message.get("method") == method and "id" not in message:
                validity.check(message, "2025-11-25")
                return message
        backend.notified.clear()
        await backend.notified.wait()


async def elicit(call: Call) -> Outcome:
    """Ask for a name; tell what came."""
    message = await ask(call, "its-own", "elicitation/create", FORM)
    if "error" in message:
        return text(f"refused: {message['error']['code']}") | {"isError": True}
    result = message["result"]
    return text(f"{result['action']} {result.get('content', {}).get('name')}")


async def sample(call: Call) -> Outcome:
    message = await ask(call, 1, "sampling/createMessage", SAMPLE)
    if "error" in message:
        return text(f"refused: {message['error']['code']}") | {"isError": True}
    return text(message["result"]["content"]["text"])


async def roots(call: Call) -> Outcome:
    return text((await ask(call, 2, "roots/list"))["result"]["roots"][0]["uri"])


async def all_at_once(call: Call) -> Outcome:
    """Ask for three things at once."""
    found = await asyncio.gather(
        ask(call, "a", "elicitation/create", FORM),
        ask(call, "b", "sampling/createMessage", SAMPLE),
        ask(call, "c", "roots/list"),
    )
    return text(" ".join(sorted(next(iter(message["result"])) for message in found)))


async def twice(call: Call) -> Outcome:
    """Ask for one thing, then for another."""
    first = await ask(call, "a", "elicitation/create", FORM)
    second = await ask(call, "b", "roots/list")
    return text(f"{first['result']['content']['name']} {second['result']['roots'][0]['uri']}")


TOOLS: dict[str, Script] = {
    "elicit": elicit,
    "sample": sample,
    "roots": roots,
    "all_at_once": all_at_once,
    "twice": twice,
}


def tool_calls(backend: Backend) -> list[dict[str, Any]]:
    """Return the calls that reached the backend, without the answers to what it asked."""
    return [message for message in backend.calls if "method" in message]


def asking(**tools: Script) -> Backend:
    return Backend(era=HANDSHAKE, tools={**TOOLS, **tools})


def wanting(tool: str, capabilities: Any = None, meta: dict[str, Any] | None = None, **more: Any) -> Any:
    """Return a call of the tool, with what `more` adds to its params, and its headers."""
    declared = {f"{META}clientCapabilities": ALL if capabilities is None else capabilities, **(meta or {})}
    return stateless("tools/call", name=tool, meta=declared, **{"arguments": {}, **more})


async def call(caller: Caller, tool: str, **how: Any) -> Reply:
    """Call a tool, or go on with a call."""
    message, fields = wanting(tool, **how)
    reply = await caller.send(message, fields)
    for each in reply.messages:
        validity.check(each, STATELESS, "tools/call")
    return reply


def asks_of(reply: Reply) -> dict[str, Any]:
    """Return what the reply asks, by key."""
    assert reply.result["resultType"] == "input_required", reply.result
    asks: dict[str, Any] = reply.result["inputRequests"]
    return asks


def answered(reply: Reply, **responses: Any) -> dict[str, Any]:
    """Return what a retry adds to the params: an answer of the right kind to everything, or what `responses` has."""
    right = {"elicitation/create": NAMED, "sampling/createMessage": SAMPLED, "roots/list": ROOTS}
    answers = {key: right[each["method"]] for key, each in asks_of(reply).items()}
    state = {"requestState": reply.result["requestState"]} if "requestState" in reply.result else {}
    return {**state, "inputResponses": {**answers, **responses}}
