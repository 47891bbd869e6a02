"""A client that launches the proxy: both eras on two pipes, what it may get wrong, and how it leaves."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from tests.in_process import configured
from tests.launched import TIMEOUT_S, launched
from tests.mcp_backend import HANDSHAKE as HANDSHAKE_BACKEND
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, STATELESS, stateless

from only1mcp.frontend.stdio import MAX_UNREAD_BYTES


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_session_of_the_handshake_era(era: str) -> None:
    async with Backend(era, tools={"echo": echo}) as backend, launched(configured(backend)) as client:
        assert (await client.answer(client.ask("ping")))["result"] == {}
        result = await client.initialize("2024-11-05")
        assert result["protocolVersion"] == "2024-11-05"
        tools = (await client.answer(client.ask("tools/list")))["result"]["tools"]
        assert [tool["name"] for tool in tools] == ["echo"]
        answer = await client.answer(client.ask("tools/call", name="echo", arguments={"text": "hi"}))
        assert answer["result"]["content"] == [{"type": "text", "text": "hi"}]
        assert (await client.answer(client.ask("ping")))["result"] == {}


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_requests_of_the_stateless_era(era: str) -> None:
    name = "grüße, welt "  # what needs base64 in a header
    async with Backend(era, tools={name: echo}) as backend, launched(configured(backend)) as client:
        found = (await client.answer(client.ask("server/discover", STATELESS)))["result"]
        assert found["supportedVersions"] == [STATELESS]
        answer = await client.answer(client.ask("tools/call", STATELESS, name=name, arguments={"text": "hi"}))
        assert answer["result"]["resultType"] == "complete"
        assert answer["result"]["content"] == [{"type": "text", "text": "hi"}]
        later = {"io.modelcontextprotocol/protocolVersion": "2030-01-01"}
        answer = await client.answer(client.ask("tools/list", STATELESS, meta=later))
        assert (answer["error"]["code"], answer["error"]["data"]["supported"]) == (-32022, [STATELESS])


async def test_mirrored_arguments_are_no_matter_here() -> None:
    backend = Backend(tools={"echo": echo})
    backend.schemas["echo"] = {
        "type": "object",
        "properties": {"text": {"type": "string", "x-mcp-header": "Text"}},
    }
    async with backend, launched(configured(backend)) as client:
        answer = await client.answer(client.ask("tools/call", STATELESS, name="echo", arguments={"text": "hi"}))
        assert answer["result"]["content"] == [{"type": "text", "text": "hi"}]
    assert any("mcp-param-text: hi" in head.lower() for head in backend.heads)


async def test_messages_on_the_way_and_line_ends_between_tokens() -> None:
    async def slow(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        return text("done")

    async def pretty(call: Call) -> Outcome:
        result = {"resultType": "complete", **text("a\nb")}
        body = json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": result}, indent=1).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return head + body

    async with Backend(tools={"slow": slow, "pretty": pretty}) as backend, launched(configured(backend)) as client:
        id = client.ask("tools/call", STATELESS, meta={"progressToken": "mine"}, name="slow", arguments={})
        progress = await client.receive()
        assert progress["params"] == {"progressToken": "mine", "progress": 1}
        assert (await client.answer(id))["result"]["content"] == [{"type": "text", "text": "done"}]
        answer = await client.answer(client.ask("tools/call", STATELESS, name="pretty", arguments={}))
        assert answer["result"]["content"] == [{"type": "text", "text": "a\nb"}]


async def test_changed_lists_are_told_to_both_eras() -> None:
    """The session hears of them unasked, the listen with its id on every message, until it is called off."""

    async def grow(call: Call) -> Outcome:
        call.backend.tools[f"new{len(call.backend.tools)}"] = echo
        await call.say(method="notifications/tools/list_changed")
        return text("grown")

    told = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    stamp = {"_meta": {"io.modelcontextprotocol/subscriptionId": "mine"}}
    async with Backend(tools={"grow": grow}) as backend, launched(configured(backend)) as client:
        await client.initialize()
        message, _ = stateless("subscriptions/listen", id="mine", notifications={"toolsListChanged": True})
        client.send(message, STATELESS)
        acknowledged = await client.receive()
        assert acknowledged["params"] == {**stamp, "notifications": {"toolsListChanged": True}}
        id = client.ask("tools/call", name="grow", arguments={})
        heard = [await client.receive() for _ in range(3)]
        assert told in heard
        assert {**told, "params": stamp} in heard
        assert id in [message.get("id") for message in heard]
        client.tell("notifications/cancelled", requestId="mine")
        id = client.ask("tools/call", name="grow", arguments={})
        heard = [await client.receive() for _ in range(2)]
        assert told in heard
        assert id in [message.get("id") for message in heard]
        await client.answer(client.ask("ping"))


@pytest.mark.parametrize("era", [HANDSHAKE, STATELESS])
async def test_a_cancelled_call_ends_at_the_backend_and_gets_no_answer(era: str) -> None:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with backend, launched(configured(backend)) as client:
        if era == HANDSHAKE:
            await client.initialize()
        id = client.ask("tools/call", era, name="hold", arguments={})
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        client.tell("notifications/cancelled", requestId="of nobody")
        client.tell("notifications/cancelled", requestId=id, reason="enough")
        await asyncio.wait_for(backend.gone.wait(), TIMEOUT_S)
        assert backend.abandoned == ["hold"]
        await client.answer(client.ask("tools/call", era, name="echo", arguments={"text": "next"}))


async def test_what_is_no_message_is_told_and_the_next_is_served() -> None:
    async with Backend(tools={"echo": echo}) as backend, launched(configured(backend), max_bytes=2000) as client:
        for line, code in (
            (b"garbage", -32700),
            (b"\xff\xfe", -32700),
            (b'{"jsonrpc":"2.0"}', -32600),
            (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
            (b"[" * 1000, -32600),
            (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
            (b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}', -32600),
        ):
            client.write(line + b"\n")
            assert (await client.receive())["error"]["code"] == code, line
        # Neither has an answer, nor blank lines.
        client.write(b'\n \r\n{"jsonrpc":"2.0","id":1,"result":{}}\r\n{"jsonrpc":"2.0","method":"x"}\n')
        client.write(b'{"jsonrpc":"2.0","id":"far","method":"x","params":{"a":"' + b"x" * 3000 + b'"}}\n')
        far = await client.answer("far")
        assert (far["error"]["code"], far["error"]["message"]) == (
            -32600,
            "expected a message of at most 2000 bytes, got 3059",
        )
        client.write(b'{"method":"x","params":{"a":"' + b"x" * 3000 + b'"},"jsonrpc":"2.0","id":9}\n')
        assert (await client.answer(9))["error"]["code"] == -32600
        twice = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","a":1,"a":2}'
        client.write(b'{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{%s}}\n' % twice.encode())
        assert "error" in await client.answer(3)
        await client.initialize()
        assert (await client.answer(client.ask("nonsense")))["error"]["code"] == -32601


async def test_requests_from_the_very_end_of_the_input_are_answered() -> None:
    async with Backend(tools={"echo": echo}) as backend, launched(configured(backend)) as client:
        await client.initialize()
        client.write(b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo","arguments":{}}}')
        client.close()
        await asyncio.wait_for(client.ended, TIMEOUT_S)
        stopping = asyncio.ensure_future(client.worker.stop(10))
        assert "result" in await client.answer(5)
        await stopping


async def test_a_call_that_goes_on_after_the_end_gets_an_error_and_is_cancelled() -> None:
    backend = Backend()
    backend.tools["hold"] = backend.hold
    async with backend, launched(configured(backend)) as client:
        id = client.ask("tools/call", STATELESS, name="hold", arguments={})
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        client.close()
        await asyncio.wait_for(client.ended, TIMEOUT_S)
        await client.worker.stop(0)
        assert (await client.answer(id))["error"]["message"] == "shutting down"
        await asyncio.wait_for(backend.gone.wait(), TIMEOUT_S)


async def test_an_answer_that_breaks_off_becomes_an_error() -> None:
    async def broken(call: Call) -> Outcome:
        start = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % call.message["id"]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n"
        return head + start + b"x" * 4_000_000

    async with Backend(HANDSHAKE_BACKEND, tools={"broken": broken}) as backend, launched(configured(backend)) as client:
        await client.initialize()
        answer = await client.answer(client.ask("tools/call", name="broken", arguments={}))
        assert "error" in answer
        assert (await client.answer(client.ask("ping")))["result"] == {}


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    async with Backend(tools={"echo": echo}) as backend, launched(configured(backend), max_bytes=4 << 20) as client:
        await client.answer(client.ask("ping"))
        writer, waits = client.worker.door._writer, asyncio.Event()  # type: ignore[union-attr]
        drain = writer.drain

        async def noted() -> None:
            if writer.unsent_bytes > MAX_UNREAD_BYTES:
                waits.set()
            await drain()

        writer.drain = noted
        client.write = lambda data: _write_all(client._fd, data)  # type: ignore[method-assign, arg-type]
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        words = {"text": "x" * 40_000}

        def write() -> set[int]:
            return {client.ask("tools/call", STATELESS, name="echo", arguments=words) for _ in range(300)}

        writing = asyncio.ensure_future(asyncio.to_thread(write))
        await asyncio.wait_for(waits.wait(), TIMEOUT_S)
        assert not writing.done()
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        seen = {(await client.receive())["id"] for _ in range(300)}
        assert seen == await writing


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def test_a_second_initialize_opens_another_session() -> None:
    async with Backend(tools={"echo": echo}) as backend, launched(configured(backend)) as client:
        await client.initialize("2025-06-18")
        assert (await client.initialize("2025-03-26"))["protocolVersion"] == "2025-03-26"
        assert "result" in await client.answer(client.ask("tools/list"))


async def test_nothing_is_left_of_what_was_asked() -> None:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with backend, launched(configured(backend)) as client:
        await client.initialize()
        held = client.ask("tools/call", name="hold", arguments={})
        await asyncio.wait_for(backend.holding.wait(), TIMEOUT_S)
        client.tell("notifications/cancelled", requestId=held)
        for era in (HANDSHAKE, STATELESS):
            await client.answer(client.ask("tools/call", era, name="echo", arguments={}))
        inside = client.worker.door._client  # type: ignore[union-attr]
        await asyncio.wait_for(inside.idle(), TIMEOUT_S)
        assert (inside._channels, inside._open) == ({}, {})
