"""Drives the official Python SDK's client through a list of steps read from stdin; prints what came back as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel


async def main() -> None:
    plan = json.load(sys.stdin)
    # Either a server to launch, or one over HTTP, of the transport that its URL is known by.
    if "launch" in plan:
        server: Any = StdioServerParameters(**plan["launch"])
    else:
        server = sse_client(plan["url"]) if plan["url"].endswith("/sse") else plan["url"]
    async with Client(
        server,
        mode=plan["mode"],
        elicitation_callback=accept if "accepts" in plan else elicit,
        sampling_callback=sample,
        list_roots_callback=roots,
    ) as client:
        info = client.server_info
        report: dict[str, Any] = {
            "version": client.protocol_version,
            "server": info.name if info is not None else None,
            "capabilities": client.server_capabilities.model_dump(mode="json", by_alias=True, exclude_none=True),
            "steps": [await run(client, *step) for step in plan["steps"]],
        }
    json.dump(report, sys.stdout)


async def elicit(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": f"Ann, asked {params.message}"})


async def sample(context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", content=types.TextContent(text="So."), model="m")


async def roots(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///home/ann")])


async def accept(context: Any, params: Any) -> Any:
    """Fill in every form with its defaults, and with something of the type where there is none."""
    import mcp_types as types

    samples = {"string": "some", "integer": 1, "number": 1.5, "boolean": True}
    properties = getattr(params, "requested_schema", {}).get("properties", {})
    content = {name: each.get("default", samples.get(each.get("type"))) for name, each in properties.items()}
    return types.ElicitResult(action="accept", content=content)


async def run(client: Client, method: str, params: dict[str, Any]) -> Any:
    try:
        return plain(await send(client, method, params))
    except MCPError as error:
        return {"error": {"code": error.code, "message": error.message}}


async def send(client: Client, method: str, params: dict[str, Any]) -> Any:
    match method:
        case "tools/list":
            return await everything(client.list_tools, "tools")
        case "resources/list":
            return await everything(client.list_resources, "resources")
        case "resources/templates/list":
            return await everything(client.list_resource_templates, "resource_templates")
        case "prompts/list":
            return await everything(client.list_prompts, "prompts")
        case "tools/call":
            return await client.call_tool(params["name"], params.get("arguments"))
        case "resources/read":
            return await client.read_resource(params["uri"])
        case "prompts/get":
            return await client.get_prompt(params["name"], params.get("arguments"))
        case "completion/complete":
            ref = params["ref"]
            return await client.complete(reference(ref), params["argument"])
    raise ValueError(method)


def reference(ref: dict[str, str]) -> Any:
    if ref["type"] == "ref/prompt":
        return types.PromptReference(name=ref["name"])
    return types.ResourceTemplateReference(uri=ref["uri"])


async def everything(page: Any, member: str) -> list[Any]:
    items: list[Any] = []
    cursor = None
    while True:
        result = await page(cursor=cursor)
        items += getattr(result, member)
        cursor = result.next_cursor
        if cursor is None:
            return items


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return value


asyncio.run(main())
