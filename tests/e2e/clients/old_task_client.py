"""Makes tasks with the official Python SDK 1.x at the URL on the command line, and prints what came of them as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client


async def answer(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Ann"})


async def main() -> None:
    report: dict[str, Any] = {}
    async with (
        streamable_http_client(sys.argv[1]) as (read, write, _),
        ClientSession(read, write, elicitation_callback=answer) as session,
    ):
        hello = await session.initialize()
        report["tasks"] = None if hello.capabilities.tasks is None else hello.capabilities.tasks.model_dump()
        report["support"] = {
            tool.name: tool.execution and tool.execution.taskSupport for tool in (await session.list_tools()).tools
        }
        tasks = session.experimental
        for name in ("old_job", "old_question"):
            made = await tasks.call_tool_as_task(name, {"text": "hi"})
            statuses = []
            async for status in tasks.poll_task(made.task.taskId):
                statuses.append(status.status)
                if status.status == "input_required":
                    break
            result = await tasks.get_task_result(made.task.taskId, types.CallToolResult)
            text = result.content[0].text  # type: ignore[union-attr]
            report[name] = {"text": text, "related": result.meta, "id": made.task.taskId, "status": statuses[-1]}
        try:
            await tasks.get_task("nobody's")
        except McpError as error:
            report["unknown"] = error.error.code
    json.dump(report, sys.stdout)


asyncio.run(main())
