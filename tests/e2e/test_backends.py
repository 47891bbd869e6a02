"""Real calls through the proxy to every kind of third-party server, from clients of both eras."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import pytest
from tests.e2e.gateway import Gateway
from tests.e2e.wire_client import HANDSHAKE, STATELESS, RpcError, WireClient

pytestmark = pytest.mark.usefixtures("gateway")
# The SDK servers: which prefix their items carry, and how the proxy reaches them.
SDK_BACKENDS = {"hand": "HTTP, handshake era", "flow": "HTTP, stateless era", "pipe": "stdio"}


async def test_tools_of_all_backends_are_listed_once_with_unique_names(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        names = [tool["name"] for tool in await client.all("tools/list")]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert {"read_text_file", "echo", "get-sum", "read_graph", "hand_echo", "flow_echo", "pipe_echo"} <= set(names)
    # Followed over three pages of the server's own.
    assert {f"hand_filler_{i:02}" for i in range(20)} <= set(names)
    # Config order decides who keeps a bare name.
    assert {"old_echo", "oldpipe__old_echo", "twin__flow_echo"} <= set(names)
    assert not {"old__old_echo", "flow__flow_echo"} & set(names)
    assert names.index("write_file") < names.index("echo") < names.index("read_graph") < names.index("hand_echo")


async def test_tool_lists_are_the_same_in_both_eras_and_stable(gateway: Gateway) -> None:
    async with WireClient(gateway.url, HANDSHAKE) as first, WireClient(gateway.url, STATELESS) as second:
        lists = [[tool["name"] for tool in await client.all("tools/list")] for client in (first, second, first)]
    assert lists[0] == lists[1] == lists[2]


async def test_tool_definitions_arrive_as_the_server_wrote_them(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        tools = {tool["name"]: tool for tool in await client.all("tools/list")}
    assert tools["hand_add"]["outputSchema"]["required"] == ["sum"]
    assert tools["hand_add"]["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
    assert tools["write_file"]["inputSchema"]["required"] == ["path", "content"]
    assert tools["write_file"]["annotations"]["destructiveHint"] is True


async def test_filesystem_writes_and_reads(gateway: Gateway, era: str) -> None:
    path = gateway.files / f"note-{era}.txt"
    content = 'line one\nÄß 漢字 \U0001f600 "quoted" \\ back'
    async with WireClient(gateway.url, era) as client:
        await client.call("write_file", path=str(path), content=content)
        assert path.read_text() == content
        assert await client.text("read_text_file", path=str(path)) == content
        assert path.name in await client.text("list_directory", path=str(gateway.files))
        refused = await client.call("read_text_file", path="/etc/hostname")
    assert refused["isError"] is True


async def test_memory_remembers_over_calls_and_clients(gateway: Gateway, era: str) -> None:
    entity = {"name": f"proxy-{era}", "entityType": "software", "observations": ["fast", "boring"]}
    async with WireClient(gateway.url, era) as client:
        await client.call("create_entities", entities=[entity])
    async with WireClient(gateway.url, era) as client:
        graph = json.loads(await client.text("read_graph"))
        found = json.loads(await client.text("search_nodes", query=entity["name"]))
    assert entity["name"] in [each["name"] for each in graph["entities"]]
    assert [each["observations"] for each in found["entities"]] == [entity["observations"]]


async def test_everything_server(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        assert await client.text("echo", message="hello") == "Echo: hello"
        assert "42" in await client.text("get-sum", a=40, b=2)
        image = await client.call("get-tiny-image")
        structured = await client.call("get-structured-content", location="New York")
    (png,) = [block for block in image["content"] if block["type"] == "image"]
    assert base64.b64decode(png["data"]).startswith(b"\x89PNG")
    assert structured["structuredContent"] == json.loads(structured["content"][0]["text"])


@pytest.mark.parametrize("name", SDK_BACKENDS)
async def test_sdk_server(gateway: Gateway, era: str, name: str) -> None:
    async with WireClient(gateway.url, era) as client:
        assert await client.text(f"{name}_echo", text="hello") == "hello"
        assert (await client.call(f"{name}_add", a=1.5, b=2))["structuredContent"] == {"sum": 3.5}
        assert (await client.call(f"{name}_fail"))["isError"] is True
        assert len(await client.text(f"{name}_large", size=1_000_000)) == 1_000_000
        assert await client.text(f"{name}_wait", seconds=0.2) == "waited 0.2"


async def test_servers_of_the_old_sdk(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        assert await client.text("old_echo", text="hello") == "hello"
        assert await client.text("oldpipe__old_add", a=1, b=2) == "3"
        greeting = await client.request("resources/read", uri="oldpipe://greeting/you")
    assert greeting["contents"][0]["text"] == "Hello, you!"


async def test_qualified_names_reach_the_backend_they_name(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        bare = await client.text("flow_pid")
        twin = await client.text("twin__flow_pid")
        assert await client.text("flow__flow_pid") == bare
    assert bare != twin


async def test_results_carry_what_the_era_wants(gateway: Gateway) -> None:
    for name in SDK_BACKENDS:
        async with WireClient(gateway.url, STATELESS) as client:
            assert (await client.call(f"{name}_echo", text="x"))["resultType"] == "complete"
            listed = await client.request("tools/list")
            read = await client.request("resources/read", uri=f"{name}://note/1")
        for result in (listed, read):
            assert result["resultType"] == "complete"
            assert result["ttlMs"] >= 0
            assert result["cacheScope"] in {"public", "private"}


@pytest.mark.parametrize("name", SDK_BACKENDS)
async def test_resources(gateway: Gateway, era: str, name: str) -> None:
    async with WireClient(gateway.url, era) as client:
        uris = [each["uri"] for each in await client.all("resources/list")]
        templates = [each["uriTemplate"] for each in await client.all("resources/templates/list")]
        note = await client.request("resources/read", uri=f"{name}://note/10")
        square = await client.request("resources/read", uri=f"{name}://square/12")
    assert {f"{name}://note/{i}" for i in range(11)} <= set(uris)
    assert f"{name}://square/{{n}}" in templates
    text = f"{name}: note number 10"
    assert note["contents"] == [{"uri": f"{name}://note/10", "mimeType": "text/plain", "text": text}]
    assert square["contents"] == [{"uri": f"{name}://square/12", "mimeType": "text/plain", "text": "144"}]


async def test_every_listed_resource_is_read_under_the_uri_it_is_listed_with(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        listed = [each["uri"] for each in await client.all("resources/list")]
        texts = {}
        for uri in listed:
            (content,) = (await client.request("resources/read", uri=uri))["contents"]
            assert content["uri"] == uri
            texts[uri] = content.get("text")
    assert len(texts) == len(listed)
    # Four servers offer one and the same URI: each copy is there, and answers from its own server.
    assert {f"about {name}" for name in (*SDK_BACKENDS, "twin")} <= set(texts.values())


async def test_resources_of_the_npm_servers(gateway: Gateway, era: str) -> None:
    async with WireClient(gateway.url, era) as client:
        uris = [each["uri"] for each in await client.all("resources/list")]
        document = await client.request("resources/read", uri="demo://resource/static/document/architecture.md")
        dynamic = await client.request("resources/read", uri="demo://resource/dynamic/text/1")
        graph = await client.request("resources/read", uri="memory://knowledge-graph")
    assert "memory://knowledge-graph" in uris
    assert document["contents"][0]["text"]
    assert dynamic["contents"][0]["uri"] == "demo://resource/dynamic/text/1"
    assert "entities" in json.loads(graph["contents"][0]["text"])


@pytest.mark.parametrize("name", SDK_BACKENDS)
async def test_prompts_and_completion(gateway: Gateway, era: str, name: str) -> None:
    ref = {"type": "ref/prompt", "name": f"{name}_review"}
    async with WireClient(gateway.url, era) as client:
        prompts = {each["name"]: each for each in await client.all("prompts/list")}
        got = await client.request("prompts/get", name=f"{name}_review", arguments={"language": "perl"})
        completed = await client.request("completion/complete", ref=ref, argument={"name": "language", "value": "p"})
    assert prompts[f"{name}_review"]["arguments"] == [{"name": "language", "required": True}]
    assert got["messages"][0]["content"]["text"] == "Review this perl code."
    assert completed["completion"]["values"] == ["python", "pascal", "perl"]


async def test_prompts_of_the_everything_server(gateway: Gateway, era: str) -> None:
    argument = {"name": "department", "value": "E"}
    async with WireClient(gateway.url, era) as client:
        got = await client.request("prompts/get", name="args-prompt", arguments={"city": "Oslo"})
        completed = await client.request(
            "completion/complete", ref={"type": "ref/prompt", "name": "completable-prompt"}, argument=argument
        )
    assert "Oslo" in got["messages"][0]["content"]["text"]
    assert completed["completion"]["values"] == ["Engineering"]


UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "tool": ("tools/call", {"name": "no_such_tool", "arguments": {}}),
    "prompt": ("prompts/get", {"name": "no_such_prompt"}),
    "resource": ("resources/read", {"uri": "nowhere://nothing"}),
    "resource of a backend": ("resources/read", {"uri": "hand://note/99"}),
    "cursor": ("tools/list", {"cursor": "no such cursor"}),
}


@pytest.mark.parametrize("what", UNKNOWN)
async def test_unknown_things_get_the_code_of_the_era(gateway: Gateway, era: str, what: str) -> None:
    method, params = UNKNOWN[what]
    async with WireClient(gateway.url, era) as client:
        with pytest.raises(RpcError) as caught:
            await client.request(method, **params)
        assert await client.text("hand_echo", text="still here") == "still here"
    allowed = {-32602, -32002} if era == HANDSHAKE and method == "resources/read" else {-32602}
    assert caught.value.code in allowed
