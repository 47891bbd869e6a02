"""Tasks of a fake backend, of either era: made by a tool, and asked about as the revision says."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.mcp_backend import HANDSHAKE, STATELESS, Backend, Call, Fault, Outcome, text

EXTENSION = "io.modelcontextprotocol/tasks"
META = "io.modelcontextprotocol/"
RELATED = META + "related-task"
# What a request of a stateless client says that wants tasks.
DECLARED = {META + "clientCapabilities": {"extensions": {EXTENSION: {}}}}
WHEN = "2026-07-28T00:00:00Z"


class Jobs:
    """`job` makes a task with the id `<name>-<number>`, which works until it is told what it comes to."""

    def __init__(self, name: str = "job", era: str = STATELESS, **more: Any) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.changed = asyncio.Condition()
        self.inputs: list[Any] = []
        self._name = name
        self._era = era
        scripts = {"tasks/get": self.get, "tasks/cancel": self.cancel}
        if era == STATELESS:
            scripts |= {"tasks/update": self.update, "subscriptions/listen": self.listen}
            capabilities: dict[str, Any] = {"extensions": {EXTENSION: {}}}
        else:
            scripts["tasks/result"] = self.result
            capabilities = {"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}
        tools = {name: self.job, **more.pop("tools", {})}
        self.backend = Backend(era=era, tools=tools, scripts=scripts, capabilities=capabilities, **more)

    async def job(self, call: Call) -> Outcome:
        id = f"{self._name}-{len(self.tasks) + 1}{call.arguments.get('suffix', '')}"
        task = {"status": "working", "createdAt": WHEN, "lastUpdatedAt": WHEN}
        self.tasks[id] = task | ({"ttlMs": None} if self._era == STATELESS else {"ttl": None})
        if self._era == HANDSHAKE:
            return {"task": {"taskId": id, **task, "ttl": None}, "_meta": {RELATED: {"taskId": id}}}
        extra = {"statusMessage": call.arguments["message"]} if "message" in call.arguments else {}
        return {"resultType": "task", "taskId": id, **self.tasks[id], **extra}

    async def get(self, call: Call) -> Outcome:
        id = self._id(call)
        return {"resultType": "complete", "taskId": id, **self.tasks[id]}

    async def update(self, call: Call) -> Outcome:
        self.inputs.append((self._id(call), call.params["inputResponses"]))
        return {"resultType": "complete"}

    async def cancel(self, call: Call) -> Outcome:
        id = self._id(call)
        await self.settle(id, status="cancelled")
        return {"resultType": "complete"} if self._era == STATELESS else {"taskId": id, **self.tasks[id]}

    async def result(self, call: Call) -> Outcome:
        id = self._id(call)
        async with self.changed:
            await self.changed.wait_for(lambda: "result" in self.tasks[id])
        return {**self.tasks[id]["result"], "_meta": {RELATED: {"taskId": id}}}

    async def listen(self, call: Call) -> Outcome:
        if EXTENSION not in call.params["_meta"][META + "clientCapabilities"].get("extensions", {}):
            raise Fault(code=-32021, message="declare it")
        wanted = call.params["notifications"].get("taskIds", [])
        ids = [id for id in wanted if id in self.tasks]
        meta = {META + "subscriptionId": call.message["id"]}
        granted = {"_meta": meta, "notifications": {"taskIds": ids}}
        await call.say(method="notifications/subscriptions/acknowledged", params=granted)
        told: dict[str, Any] = {id: dict(self.tasks[id]) for id in ids}
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda told=told: not self.tasks.keys() >= set(ids) or self._news(told))
                if not ids or not self.tasks.keys() >= set(ids):
                    return {"resultType": "complete", "_meta": meta}
                news = self._news(told)
                told |= {id: dict(self.tasks[id]) for id in news}
            for id in news:
                await call.say(method="notifications/tasks", params={"_meta": meta, "taskId": id, **told[id]})

    async def settle(self, id: str, **what: Any) -> None:
        """Let the task be what it now is."""
        async with self.changed:
            self.tasks[id].update(what)
            self.changed.notify_all()

    async def complete(self, id: str, value: str) -> None:
        await self.settle(id, status="completed", result=text(value))

    async def forget(self, id: str) -> None:
        async with self.changed:
            del self.tasks[id]
            self.changed.notify_all()

    def _news(self, told: dict[str, Any]) -> list[str]:
        return [id for id, was in told.items() if self.tasks.get(id) not in (was, None)]

    def _id(self, call: Call) -> str:
        id: str = call.params["taskId"]
        if id not in self.tasks:
            raise Fault(code=-32602, message="Failed to retrieve task: Task not found")
        assert self._era == HANDSHAKE or call.headers["mcp-name"] == id
        return id
