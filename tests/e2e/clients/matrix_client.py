"""One row of the matrix of official SDKs, by the Python SDK 2.x: does everything with each server of the plan on stdin.

The plan is `{"client": name, "mode": of the SDK, "cells": [{"server": what its tools begin with, "url": ..., "key":
...}]}`; what was seen is printed as JSON, for each server and feature.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning

FEATURE_S = 30.0
CELL_S = 120.0


class Cell:
    """One client with one server."""

    def __init__(self, name: str, mode: str, server: str, url: str, key: str) -> None:
        self.name = name
        self.server = server
        self.key = key
        self.asked: list[str] = []
        self.progress: list[Any] = []
        self.told = asyncio.Event()
        self.client = Client(
            url,
            mode=mode,
            client_info=types.Implementation(name=name, version="2"),
            elicitation_callback=self.on_form,
            sampling_callback=self.on_sample,
            message_handler=self.on_message,
        )

    async def on_form(self, ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"name": self.name})

    async def on_sample(self, ctx: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.asked.append(text_of(params.messages[0].content))
        praise = types.TextContent(text=f"{self.name} praises")
        return types.CreateMessageResult(role="assistant", content=praise, model="none")

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append([progress, total])

    async def on_message(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.told.set()

    async def call(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(f"{self.server}_{tool}", arguments, progress_callback=self.on_progress)
        text = text_of(result.content)
        return f"error: {text}" if result.is_error else text

    async def seen(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self.asked, self.progress = [], []
        text = await self.call(tool, **arguments)
        return {"text": text, "asked": self.asked, "progress": self.progress}

    async def list(self) -> list[str]:
        names: list[str] = []
        cursor = None
        while True:
            page = await self.client.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return [name for name in names if name.startswith(f"{self.server}_")]

    async def cancel(self) -> str:
        hanging = asyncio.create_task(self.call("hang", key=self.key))
        await self.call("begun", key=self.key)
        hanging.cancel()
        await asyncio.wait([hanging])
        return await self.call("fate", key=self.key)

    async def change(self) -> dict[str, Any]:
        grown = f"{self.server}_{self.key}"
        async with self.listening():
            before = grown in await self.list()
            await self.call("grow", key=self.key)
            return {"before": before, "after": await self.hear_of(grown)}

    async def hear_of(self, grown: str) -> bool:
        """Look into the list whenever it is said to have changed: others change it, too."""
        while True:
            await self.told.wait()
            self.told.clear()
            if grown in await self.list():
                return True

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Be told of changes: by a listen in the stateless era, unasked in the other."""
        if self.client.protocol_version < "2026":
            yield
            return
        async with self.client.listen(tools_list_changed=True) as changes:

            async def hear() -> None:
                async for _ in changes:
                    self.told.set()

            hearing = asyncio.create_task(hear())
            try:
                yield
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])

    async def everything(self) -> dict[str, Any]:
        features: dict[str, Callable[[], Awaitable[Any]]] = {
            "list": self.list,
            "call": lambda: self.seen("add", a=2, b=3),
            "elicitation": lambda: self.seen("ask"),
            "sampling": lambda: self.seen("sample"),
            "both in turn": lambda: self.seen("interview"),
            "progress": lambda: self.seen("count", to=3),
            "cancellation": self.cancel,
            "list change": self.change,
        }
        async with self.client:
            return {name: await attempt(feature()) for name, feature in features.items()}


def text_of(content: Any) -> str:
    block = content[0] if isinstance(content, list) else content
    return str(block.text)


async def attempt(seen: Awaitable[Any], timeout_s: float = FEATURE_S) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            return await seen
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


async def main() -> None:
    plan = json.load(sys.stdin)
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    report = {}
    for each in plan["cells"]:
        report[each["server"]] = await attempt(Cell(plan["client"], plan["mode"], **each).everything(), CELL_S)
    json.dump(report, sys.stdout)


asyncio.run(main())
