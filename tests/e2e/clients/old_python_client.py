"""Drives the official Python SDK 1.x, over whichever transport the plan on stdin names, and prints a report as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client

ROOT = types.Root(uri="file:///home/ann")  # type: ignore[arg-type]


async def elicit(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": f"Ann, asked {params.message}"})


async def sample(context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="So."), model="m")


async def roots(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[ROOT])


async def main() -> None:
    plan = json.load(sys.stdin)
    async with AsyncExitStack() as stack:
        transport = (
            stdio_client(StdioServerParameters(**plan["launch"])) if "launch" in plan else sse_client(plan["sse"])
        )
        streams = await stack.enter_async_context(transport)
        told: list[Any] = []
        logged: list[Any] = []
        told_of: list[str] = []
        changed = asyncio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            told.append([progress, total])

        async def on_log(params: types.LoggingMessageNotificationParams) -> None:
            logged.append(params.data)

        async def on_message(message: Any) -> None:
            if isinstance(message, types.ServerNotification):
                told_of.append(message.root.method)
                changed.set()

        session = await stack.enter_async_context(
            ClientSession(
                *streams,
                elicitation_callback=elicit,
                sampling_callback=sample,
                list_roots_callback=roots,
                logging_callback=on_log,
                message_handler=on_message,
            )
        )
        hello = await session.initialize()
        report: dict[str, Any] = {"version": hello.protocolVersion, "server": hello.serverInfo.name, "steps": []}
        if "level" in plan:
            await session.set_logging_level(plan["level"])
        for tool, arguments in plan["calls"]:
            try:
                result = await session.call_tool(tool, arguments, progress_callback=on_progress)
                report["steps"].append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            except McpError as error:
                report["steps"].append({"error": {"code": error.error.code, "message": error.error.message}})
        report["tools"] = [tool.name for tool in (await session.list_tools()).tools]
        await session.send_ping()
        report["progress"] = told
        report["logged"] = logged
        async with asyncio.timeout(10):
            while not set(plan.get("until", [])) <= set(told_of):
                changed.clear()
                await changed.wait()
        report["told_of"] = told_of
    json.dump(report, sys.stdout)


asyncio.run(main())
