"""Drives the official Python SDK 1.x, over whichever transport the plan on stdin names, and prints a report as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client


async def main() -> None:
    plan = json.load(sys.stdin)
    async with AsyncExitStack() as stack:
        transport = (
            stdio_client(StdioServerParameters(**plan["launch"])) if "launch" in plan else sse_client(plan["sse"])
        )
        streams = await stack.enter_async_context(transport)
        told: list[Any] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            told.append([progress, total])

        session = await stack.enter_async_context(ClientSession(*streams))
        hello = await session.initialize()
        report: dict[str, Any] = {"version": hello.protocolVersion, "server": hello.serverInfo.name, "steps": []}
        for tool, arguments in plan["calls"]:
            try:
                result = await session.call_tool(tool, arguments, progress_callback=on_progress)
                report["steps"].append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            except McpError as error:
                report["steps"].append({"error": {"code": error.error.code, "message": error.error.message}})
        report["tools"] = [tool.name for tool in (await session.list_tools()).tools]
        await session.send_ping()
        report["progress"] = told
    json.dump(report, sys.stdout)


asyncio.run(main())
