"""Clients of older revisions of the handshake era are given what their revision has; `Caller` checks every message."""

from __future__ import annotations

from typing import Any

import pytest
from tests.in_process import proxied
from tests.mcp_backend import HANDSHAKE, STATELESS, Backend, Call, Outcome, text
from tests.mcp_caller import Caller
from tests.sse_caller import SseClient

from only1mcp.config.schema import Cache, CachedItem

OLDEST, OLDER, LINKED = "2024-11-05", "2025-03-26", "2025-06-18"
AUDIO = {"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav"}
LINK = {"type": "resource_link", "uri": "test://one", "name": "one"}
ADDRESS = "test://one"
LARGE = 2000
KINDS = {OLDEST: ["resource", "text"], OLDER: ["audio", "text"], LINKED: ["audio", "resource_link"]}


async def short(call: Call) -> Outcome:
    return {"content": [AUDIO, LINK]}


async def long(call: Call) -> Outcome:
    return {"content": [AUDIO, LINK] * LARGE}


async def slow(call: Call) -> Outcome:
    await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
    return {"content": [AUDIO, LINK]}


async def prompt(call: Call) -> Outcome:
    return {"messages": [{"role": "user", "content": each} for each in (AUDIO, LINK)]}


async def plain(call: Call) -> Outcome:
    return text("audio")


def backend_of(era: str) -> Backend:
    return Backend(
        era,
        tools={"short": short, "long": long, "slow": slow, "kept": short, "plain": plain},
        annotations={"kept": {"readOnlyHint": True}},
        resources=[{"uri": ADDRESS, "name": "one"}],
        prompts=[{"name": "p"}],
        scripts={"prompts/get": prompt},
    )


def kinds_of(blocks: list[dict[str, Any]]) -> list[str]:
    return [block["type"] for block in blocks]


@pytest.mark.parametrize("era", [HANDSHAKE, STATELESS])
@pytest.mark.parametrize("revision", KINDS)
async def test_content_is_of_types_that_the_client_knows(era: str, revision: str) -> None:
    """By every way in which an answer comes back: read or passed by, whole or streamed, anew or from the cache."""
    cache = Cache(tools={"kept": CachedItem(ttl_seconds=60)})
    expected = KINDS[revision]
    place = backend_of(era)
    async with proxied(place, cache=cache) as port, Caller(port) as caller:
        assert (await caller.initialize(revision)).result["protocolVersion"] == revision
        for _ in range(6):  # known after some, and then plain
            assert kinds_of((await caller.call("short")).result["content"]) == expected
            assert (await caller.call("plain")).text == "audio"
        assert kinds_of((await caller.call("long")).result["content"]) == expected * LARGE
        for _ in range(2):
            assert kinds_of((await caller.call("kept")).result["content"]) == expected
        assert [call["params"]["name"] for call in place.calls].count("kept") == 1
        streamed = await caller.call("slow", meta={"progressToken": 1})
        assert (streamed.streamed, kinds_of(streamed.result["content"])) == (True, expected)
        messages = (await caller.ask("prompts/get", name="p")).result["messages"]
        assert kinds_of([message["content"] for message in messages]) == expected


async def test_a_link_that_becomes_text_names_the_resource_as_the_client_knows_it() -> None:
    async with proxied(backend_of(STATELESS), backend_of(STATELESS)) as port, Caller(port) as caller:
        await caller.initialize(OLDER)
        _, line = (await caller.call("b1__short")).result["content"]
        address = line["text"].removeprefix("one: ")
        assert address != ADDRESS
        listed = (await caller.ask("resources/list")).result["resources"]
        assert address in [resource["uri"] for resource in listed]


async def test_the_transport_of_the_oldest_revision() -> None:
    async with proxied(backend_of(STATELESS)) as port, SseClient.opened(port) as client:
        answer = await client.answer(await client.call("short"))
        assert kinds_of(answer["result"]["content"]) == KINDS[OLDEST]
