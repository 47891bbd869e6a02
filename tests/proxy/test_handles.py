"""Whatever clients carry for the proxy is good for the one thing that it was given for, and for nothing else."""

from __future__ import annotations

from tests.in_process import proxied
from tests.jobs import DECLARED, Jobs
from tests.mcp_caller import Caller, request
from tests.proxy.asked import answered, asking, call
from tests.sse_caller import SseClient

PING = request("ping")


async def test_no_handle_passes_for_another() -> None:
    jobs = Jobs()
    async with (
        proxied(asking(), jobs.backend) as port,
        Caller(port) as caller,
        Caller(port) as session,
        Caller(port) as getter,
        SseClient.opened(port) as sse,
    ):
        retry = answered(await call(caller, "elicit"))
        task = (await caller.call("job", meta=DECLARED)).result["taskId"]
        await session.initialize()
        assert session.session is not None
        stream = sse.path.partition("=")[2]
        handles = {"state": retry["requestState"], "task": task, "session": session.session, "stream": stream}
        for kind, handle in handles.items():
            if kind != "state":
                reply = await call(caller, "elicit", **{**retry, "requestState": handle})
                assert (reply.status, reply.code) == (400, -32602), kind
            if kind != "task":
                reply = await caller.ask("tasks/get", meta=DECLARED, taskId=handle)
                assert (reply.status, reply.code) == (400, -32602), kind
            if kind != "session":
                assert (await session.in_session(PING, {"mcp-session-id": handle})).status == 404, kind
                reply = await session.send(method="DELETE", fields={"mcp-session-id": handle})
                assert reply.status == 404, kind
            if kind != "stream":
                assert (await getter.send(PING, path=f"/messages?session_id={handle}")).status == 404, kind
            last = {"mcp-session-id": session.session, "last-event-id": handle}
            assert (await getter.send(method="GET", fields={**last, "accept": "text/event-stream"})).status == 400, kind
        # Each is good for what it is, still.
        assert (await call(caller, "elicit", **retry)).text == "accept Ann"
        assert (await caller.ask("tasks/get", meta=DECLARED, taskId=task)).result["taskId"] == task
        assert (await session.in_session(PING)).result == {}
        assert (await sse.post(PING)).status == 202
