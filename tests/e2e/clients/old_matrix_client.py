"""One row of the matrix of official SDKs, by the Python SDK 1.x; plan and report are those of `matrix_client.py`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client

FEATURE_S = 30.0
CELL_S = 120.0


class Cell:
    """One client with one server."""

    session: ClientSession

    def __init__(self, name: str, server: str, url: str, key: str) -> None:
        self.name = name
        self.server = server
        self.url = url
        self.key = key
        self.asked: list[str] = []
        self.progress: list[Any] = []
        self.told = asyncio.Event()

    async def on_form(self, ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"name": self.name})

    async def on_sample(self, ctx: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.asked.append(text_of(params.messages[0].content))
        praise = types.TextContent(type="text", text=f"{self.name} praises")
        return types.CreateMessageResult(role="assistant", content=praise, model="none")

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append([progress, total])

    async def on_message(self, message: Any) -> None:
        if isinstance(getattr(message, "root", None), types.ToolListChangedNotification):
            self.told.set()

    async def call(self, tool: str, **arguments: Any) -> str:
        result = await self.session.call_tool(f"{self.server}_{tool}", arguments, progress_callback=self.on_progress)
        text = text_of(result.content)
        return f"error: {text}" if result.isError else text

    async def seen(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self.asked, self.progress = [], []
        text = await self.call(tool, **arguments)
        return {"text": text, "asked": self.asked, "progress": self.progress}

    async def list(self) -> list[str]:
        names: list[str] = []
        cursor = None
        while True:
            page = await self.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            names += [tool.name for tool in page.tools]
            cursor = page.nextCursor
            if cursor is None:
                return [name for name in names if name.startswith(f"{self.server}_")]

    async def cancel(self) -> str:
        # Leaving a call tells the server nothing in 1.x, and the notification wants an id that the SDK keeps to itself.
        id = self.session._request_id
        hanging = asyncio.create_task(self.call("hang", key=self.key))
        await asyncio.create_task(self.call("begun", key=self.key))
        params = types.CancelledNotificationParams(requestId=id, reason="enough")
        await self.session.send_notification(
            types.ClientNotification(types.CancelledNotification(method="notifications/cancelled", params=params))
        )
        fate = await self.call("fate", key=self.key)
        hanging.cancel()
        await asyncio.wait([hanging])
        return fate

    async def change(self) -> dict[str, Any]:
        grown = f"{self.server}_{self.key}"
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
        async with AsyncExitStack() as stack:
            read, write, _ = await stack.enter_async_context(streamable_http_client(self.url))
            self.session = await stack.enter_async_context(
                ClientSession(
                    read,
                    write,
                    client_info=types.Implementation(name=self.name, version="1"),
                    elicitation_callback=self.on_form,
                    sampling_callback=self.on_sample,
                    message_handler=self.on_message,
                )
            )
            await self.session.initialize()
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
    report = {}
    for each in plan["cells"]:
        report[each["server"]] = await attempt(Cell(plan["client"], **each).everything(), CELL_S)
    json.dump(report, sys.stdout)


asyncio.run(main())
