"""Clients that mean harm, against the real command: what they get, what it costs, and that nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Proxy
from tests.in_process import proxied
from tests.mcp_backend import HANDSHAKE as HANDSHAKE_BACKEND
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, META, Caller, Fields, request, stateless

from only1mcp.config.schema import Auth, RateLimit

MEBI = 1 << 20
# Of CPU, for one request; the machine may be busy, the process's own time is not.
CPU_S = 0.25
KEYS = ",".join(f'"k{number}":0' for number in range(700_000))


@asynccontextmanager
async def started(directory: Path, *backends: Backend, **sections: Any) -> AsyncIterator[Proxy]:
    """Run the installed command in front of backends that this test serves."""
    async with AsyncExitStack() as stack:
        for backend in backends:
            await stack.enter_async_context(backend)
        servers = [{"id": f"b{i}", "transport": "http", "url": backend.url} for i, backend in enumerate(backends)]
        proxy = Proxy(directory, servers, **sections)
        try:
            await asyncio.to_thread(proxy.__enter__)
            yield proxy
        finally:
            await asyncio.to_thread(proxy.__exit__)


class Usage:
    """What the proxy's process has used since this was made."""

    def __init__(self, proxy: Proxy) -> None:
        self._proc = Path(f"/proc/{proxy.pid}")
        self._cpu_s, self._memory = self._cpu(), self._kilobytes("VmRSS")

    @property
    def cpu_s(self) -> float:
        return self._cpu() - self._cpu_s

    @property
    def grown(self) -> int:
        """Bytes of resident memory, at its highest."""
        return (self._kilobytes("VmHWM") - self._memory) * 1024

    def _cpu(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def _kilobytes(self, name: str) -> int:
        status = (self._proc / "status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


def standard() -> Backend:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    backend.schemas["numbered"] = {
        "type": "object",
        "properties": {"n": {"type": "integer", "x-mcp-header": "N"}, "s": {"type": "string", "x-mcp-header": "S"}},
    }
    backend.tools["numbered"] = echo
    backend.resources = [{"uri": "test://one", "name": "one"}]
    backend.scripts["resources/read"] = reading
    return backend


async def reading(call: Call) -> Outcome:
    return {"contents": [{"uri": call.params["uri"], "text": "t"}]}


async def in_order(proxy: Proxy) -> None:
    """Check that the proxy serves others, in both eras."""
    assert proxy.is_running
    async with Caller(proxy.port) as caller:
        assert (await caller.call("echo", text="fine")).text == "fine"
        await caller.initialize()
        assert (await caller.call("echo", text="fine")).text == "fine"


# Amplification: (what is sent, the status it gets), each within CPU_S and a few times its own size of memory.


def rpc(method: str, params: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}'.encode()


COSTLY: dict[str, tuple[bytes, int]] = {
    "opening brackets": (b"[" * (9 * MEBI), 400),
    "opening objects": (b'{"a":' * (MEBI + MEBI // 2), 400),
    "a string without end": (b'"' + b"a" * (9 * MEBI), 400),
    "escapes": (b'{"jsonrpc":"2.0","id":1,"method":"' + rb"\u0061" * (MEBI + MEBI // 2) + b'"}', 200),
    "a name": (rpc("tools/call", '"name":"' + "a" * (9 * MEBI) + '"'), 400),
    "a URI": (rpc("resources/read", '"uri":"test://' + "a/x/y" * MEBI + '"'), 400),
    "members of the message": (b'{"jsonrpc":"2.0","id":1,"method":"ping",' + KEYS.encode() + b"}", 400),
    "members of params": (rpc("tools/list", KEYS), 400),
    "members of meta": (rpc("tools/call", f'"name":"echo","_meta":{{"progressToken":1,{KEYS}}}'), 400),
    "members of capabilities": (rpc("initialize", f'"protocolVersion":"{HANDSHAKE}","capabilities":{{{KEYS}}}'), 400),
    "members of a reference": (rpc("completion/complete", f'"ref":{{{KEYS}}}'), 400),
    "members of a cancellation": (rpc("notifications/cancelled", KEYS).replace(b'"id":1,', b""), 400),
    "members of arguments": (rpc("tools/call", f'"name":"echo","arguments":{{{KEYS}}}'), 200),
    "a number": (rpc("tools/call", '"name":"echo","arguments":{"n":' + "1" * MEBI + "}"), 400),
    "the same member": (rpc("tools/call", '"name":"echo",' * 500_000 + '"x":1'), 400),
}


async def test_costly_bodies(tmp_path: Path) -> None:
    async with started(tmp_path, standard()) as proxy:
        whole = Usage(proxy)
        for name, (body, status) in COSTLY.items():
            async with Caller(proxy.port) as caller:
                await caller.initialize()
                usage = Usage(proxy)
                reply = await caller.in_session(body)
                assert reply.status == status, (name, reply.body[:200])
                assert usage.cpu_s < CPU_S, (name, usage.cpu_s)
                assert len(reply.body) < 1000
        assert whole.grown < 20 * 10 * MEBI
        await in_order(proxy)


async def test_costly_framing(tmp_path: Path) -> None:
    async with started(tmp_path, standard()) as proxy:
        usage = Usage(proxy)
        chunked: Fields = {"content-length": None, "transfer-encoding": "chunked"}
        async with Caller(proxy.port) as caller:
            caller.writer.write(caller.http(b"", {"content-length": str(10 * MEBI + 1)}))
            assert (await caller.reply()).status == 413
        async with Caller(proxy.port) as caller:
            caller.writer.write(caller.http(b"", {"content-length": "9" * 18}))
            assert (await caller.reply()).status == 413
        async with Caller(proxy.port) as caller:
            # The answer comes as soon as the sizes say so, not after the data.
            chunk = b"100000\r\n" + b" " * MEBI + b"\r\n"
            caller.writer.write(caller.http(b"", chunked))
            for _ in range(10):
                caller.writer.write(chunk)
                await caller.writer.drain()
            caller.writer.write(b"1\r\n")
            assert (await caller.reply()).status == 413
        async with Caller(proxy.port) as caller:
            lines = b"".join(b"x-%d: 1\r\n" % number for number in range(20_000))
            caller.writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
            assert (await caller.reply()).status == 431
        assert usage.cpu_s < CPU_S
        body = json.dumps(stateless("tools/call", name="echo", arguments={"text": "a" * MEBI})[0]).encode()
        async with Caller(proxy.port) as caller:
            fields = {**stateless("tools/call", name="echo")[1], **chunked}
            caller.writer.write(caller.http(b"".join(b"1\r\n%c\r\n" % octet for octet in body) + b"0\r\n\r\n", fields))
            assert len((await caller.reply()).text) == MEBI
        assert usage.grown < 40 * MEBI
        await in_order(proxy)


async def test_more_requests_at_once_than_can_be_answered(tmp_path: Path) -> None:
    """The proxy stops reading from who asks faster than it answers, even where the answers are taken at once."""
    async with started(tmp_path, standard()) as proxy, Caller(proxy.port) as caller:
        usage = Usage(proxy)
        caller.writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 600_000)
        for _ in range(15_000):
            assert (await caller.reply()).status == 200
        assert usage.grown < 8 * MEBI
        caller.vanish()
        await in_order(proxy)


async def test_stream_that_nobody_reads(tmp_path: Path) -> None:
    """Interim messages wait for a client that does not take them, with their backend's call alone; none is lost."""
    pieces = 300
    said = 0
    flowing = asyncio.Event()

    async def chatter(call: Call) -> Outcome:
        nonlocal said
        for number in range(pieces):
            params = {"progressToken": call.token, "progress": number, "message": "x" * 200_000}
            await call.say(method="notifications/progress", params=params)
            said += 1
            if said == 5:
                flowing.set()
        return text("done")

    backend = standard()
    backend.tools["chatter"] = chatter
    async with started(tmp_path, backend) as proxy, Caller(proxy.port) as caller:
        usage = Usage(proxy)
        caller.writer.transport.pause_reading()
        caller.write(*stateless("tools/call", name="chatter", arguments={}, meta={"progressToken": 1}))
        async with asyncio.timeout(20):
            await flowing.wait()
        await in_order(proxy)
        assert said < pieces
        assert usage.grown < 16 * MEBI
        caller.writer.transport.resume_reading()
        reply = await caller.reply()
        assert reply.text == "done"
        assert said == pieces
        assert [message["params"]["progress"] for message in reply.messages[:-1]] == list(range(pieces))


async def test_hundreds_of_clients_that_leave_in_the_middle(tmp_path: Path) -> None:
    clients = 200
    backend = standard()
    all_there = asyncio.Event()

    async def hold(call: Call) -> Outcome:
        if sum(message["params"]["name"] == "hold" for message in backend.calls) == clients:
            all_there.set()
        return await backend.hold(call)

    backend.tools["hold"] = hold
    async with started(tmp_path, backend) as proxy:
        await in_order(proxy)
        descriptors = len(os.listdir(f"/proc/{proxy.pid}/fd"))
        callers = [Caller(proxy.port) for _ in range(clients)]
        for number, caller in enumerate(callers):
            await caller.__aenter__()
            caller.write(*stateless("tools/call", id=number % 3, name="hold", arguments={}))
        async with asyncio.timeout(20):
            await all_there.wait()
            for caller in callers:
                caller.vanish()
            while len(backend.abandoned) < clients:
                await in_order(proxy)
        async with asyncio.timeout(10), Caller(proxy.port) as probe:
            while True:
                ready = (await probe.send(method="GET", path="/ready")).messages[0]
                if ready["backends"][0]["in_flight"] == 0:
                    break
        assert len(os.listdir(f"/proc/{proxy.pid}/fd")) <= descriptors + 20
        await in_order(proxy)


async def test_sigterm_finishes_every_call_in_flight(tmp_path: Path) -> None:
    clients = 30
    backend = standard()
    async with started(tmp_path, backend) as proxy, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(proxy.port)) for _ in range(clients)]
        calls = [asyncio.create_task(caller.call("hold")) for caller in callers]
        async with asyncio.timeout(20):
            while len(backend.calls) < clients:
                await backend.holding.wait()
                await in_order_once(proxy)
        proxy.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            while await connects(proxy.port):
                pass
        backend.release.set()
        for caller, reply in zip(callers, await asyncio.gather(*calls), strict=True):
            assert (reply.text, reply.headers["connection"]) == ("released", "close")
            caller.vanish()
        assert await asyncio.to_thread(proxy.wait) == 0, proxy.output


async def in_order_once(proxy: Proxy) -> None:
    async with Caller(proxy.port) as caller:
        assert (await caller.send(method="GET", path="/health")).status == 200


async def connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
    except ConnectionRefusedError:
        return False
    except ConnectionError:
        pass  # it was in the queue of the socket that closed
    return True


@pytest.mark.parametrize("format", ["json", "text"])
async def test_logs_hold_no_secrets_and_no_commands(tmp_path: Path, format: str) -> None:
    log = tmp_path / "access.log"
    outputs = [{"type": "stdout"}, {"type": "access", "path": str(log)}]
    key = "a-very-secret-key"
    auth = {"api_keys": [{"name": "ann", "key_env": "HOSTILE_TEST_KEY"}]}
    attack = "tools/\r\ncall\x1b[2J\u202e\u2028evil"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTILE_TEST_KEY", key)
        sections: dict[str, Any] = {"logging": {"format": format, "outputs": outputs, "level": "debug"}, "auth": auth}
        async with started(tmp_path / "proxy", standard(), **sections) as proxy:
            async with Caller(proxy.port, x_api_key=key) as caller:
                session = (await caller.initialize()).headers["mcp-session-id"]
                await caller.in_session(request(attack))
                await caller.call(attack, argument="a-secret-argument")
                await caller.send(b"x", {"x-api-key": attack.encode("unicode_escape").decode()})
                await caller.send(method="GET", path="/mcp?token=a-secret-query")
            output = proxy.output
    await asyncio.sleep(0)
    logged = log.read_text() + output
    for secret in (key, session, "a-secret-argument", "a-secret-query", "HOSTILE_TEST_KEY"):
        assert secret not in logged
    assert not set(logged) & set("\x1b\u202e\u2028\r\0")
    lines = [line for line in log.read_text().splitlines() if "/mcp" in line]
    assert len(lines) == 5
    assert all("evil" not in line or "tools/" in line for line in lines)


async def test_bare_names_that_collide_end_the_start_with_3(tmp_path: Path) -> None:
    async with Backend(tools={"same": echo}) as one, Backend(tools={"same": echo}) as two:
        servers = [{"id": id, "transport": "http", "url": each.url} for id, each in (("one", one), ("two", two))]
        proxy = Proxy(tmp_path, servers, proxy={"naming": "bare"})
        try:
            assert await asyncio.to_thread(proxy.wait) == 3
        finally:
            await asyncio.to_thread(proxy.__exit__)
    assert "proxy.naming: bare names collide: 'same' of 'two', already offered by 'one'" in proxy.output
    assert "Traceback" not in proxy.output


async def test_busy_port_is_one_line(tmp_path: Path) -> None:
    async with started(tmp_path / "first") as proxy:
        second = Proxy(tmp_path / "second", [], proxy={"port": proxy.port})
        try:
            assert await asyncio.to_thread(second.wait) == 1
        finally:
            await asyncio.to_thread(second.__exit__)
    (line,) = second.output.strip().splitlines()
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{proxy.port}: address already in use")


# Odd inputs that are cheap to try: the proxy inside this process.


@pytest.fixture
async def backend() -> Backend:
    return standard()


async def test_body_of_a_refused_request_is_not_the_next_request(backend: Backend) -> None:
    async with proxied(backend) as port, Caller(port) as caller:
        message, fields = stateless("tools/call", id="smuggled", name="echo", arguments={})
        inner = caller.http(json.dumps(message).encode(), fields)
        for refusal in ({"origin": "null"}, {"content-type": "text/plain"}, {"host": "evil.example"}):
            reply = await caller.send(inner, {**fields, **refusal})
            assert reply.status in (400, 403, 421)
        assert (await caller.send(inner, method="GET")).status == 400
        assert (await caller.send(inner, path="/other")).status == 404
        assert (await caller.call("echo", text="mine")).text == "mine"
        assert [call["params"]["arguments"] for call in backend.calls] == [{"text": "mine"}]


async def test_one_id_in_two_hands(backend: Backend) -> None:
    async def who(call: Call) -> Outcome:
        await backend.release.wait()
        return text(call.arguments["who"])

    backend.tools["who"] = who
    async with proxied(backend) as port, Caller(port) as ann, Caller(port) as bob, Caller(port) as eve:
        await ann.initialize()
        eve.session = ann.session
        calls = [
            asyncio.create_task(ann.in_session(request("tools/call", id=1, name="who", arguments={"who": "ann"}))),
            asyncio.create_task(eve.in_session(request("tools/call", id=1, name="who", arguments={"who": "eve"}))),
            asyncio.create_task(bob.send(*stateless("tools/call", id=1, name="who", arguments={"who": "bob"}))),
        ]
        async with Caller(port) as other:
            while len(backend.calls) < 3:
                await other.send(method="GET", path="/health")
        assert len({message["id"] for message in backend.calls}) == 3
        backend.release.set()
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["ann", "eve", "bob"]
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await ann.in_session(cancel)).status == 202  # too late, and nobody's loss
        assert (await ann.call("echo", text="x")).text == "x"


@pytest.mark.parametrize("backend_era", ["stateless", HANDSHAKE_BACKEND])
async def test_forged_answers_and_progress_reach_nobody(backend: Backend, backend_era: str) -> None:
    backend.era = backend_era
    async with proxied(backend) as port, Caller(port) as victim, Caller(port) as forger:
        await forger.initialize()
        call = asyncio.create_task(victim.call("hold", meta={"progressToken": 1}))
        await backend.holding.wait()
        inner = backend.calls[-1]
        before = len(backend.received)
        for message in (
            {"jsonrpc": "2.0", "id": inner["id"], "result": text("forged")},
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "forged"}},
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}},
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": inner["id"]}},
            {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "forged"}},
        ):
            assert (await forger.in_session(message)).status == 202
        assert len(backend.received) == before
        backend.release.set()
        reply = await call
        assert (reply.text, reply.streamed) == ("released", False)


@pytest.mark.parametrize(
    "name",
    ["ECHO", " echo", "echo ", "echo\0", "echo\r\nx: y", "b0__b0__echo", "__echo", "b9__echo", "b0__", "", "*", "e*"],
)
async def test_names_that_are_almost_right(backend: Backend, name: str) -> None:
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.initialize()
        assert (await caller.call(name)).code == -32602
        encoded = "=?base64?" + base64.b64encode(name.encode()).decode() + "?="
        message, fields = stateless("tools/call", name=name, arguments={})
        assert (await caller.send(message, {**fields, "mcp-name": encoded})).code == -32602
        assert backend.calls == []
        assert (await caller.call("b0__echo", text="qualified")).text == "qualified"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "only1mcp://",
        "only1mcp://b0",
        "only1mcp://b9/x",
        "only1mcp://b0/only1mcp://b1/test://one",
        "ui://only1mcp/b1/x",
        "javascript:alert(1)",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "test://a\r\nX-Evil: 1\r\n\r\n",
        "test://\0",
        "test://é\u2028",
        "{+path}",
    ],
)
@pytest.mark.parametrize("era", ["stateless", HANDSHAKE_BACKEND])
async def test_odd_uris_are_data_for_the_backend(uri: str, era: str) -> None:
    backends = standard(), standard()
    for backend in backends:
        backend.era = era
    async with proxied(*backends) as port, Caller(port) as caller:
        await caller.initialize()
        reply = await caller.ask("resources/read", uri=uri)
        assert reply.status == 200
        assert reply.code == -32002 if "error" in reply.response else "contents" in reply.result
        heads = "".join(head for backend in backends for head in backend.heads)
        assert "x-evil" not in heads.lower()
        assert "\nHost: 169" not in heads
        assert sum(len(backend.calls) for backend in backends) <= 1


@pytest.mark.unchecked("a token that is none is passed on, to the backend and back")
@pytest.mark.parametrize("token", [None, True, [], {}, {"a": 1}, 1.5, "x" * 10_000])
@pytest.mark.parametrize("era", ["stateless", HANDSHAKE_BACKEND])
async def test_odd_progress_tokens(backend: Backend, token: Any, era: str) -> None:
    async def working(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        return text("done")

    backend.era = era
    backend.tools["work"] = working
    async with proxied(backend) as port, Caller(port) as caller:
        reply = await caller.call("work", meta={"progressToken": token})
        assert reply.text == "done"
        told = [message["params"]["progressToken"] for message in reply.messages if "method" in message]
        assert told in ([], [token])


@pytest.mark.parametrize(
    "meta", ['"progressToken":1,"progressToken":2', '"x":1,"\\u0078":2', f'"{META}protocolVersion":"a"']
)
async def test_doubled_members_of_meta(backend: Backend, meta: str) -> None:
    message, fields = stateless("tools/call", name="echo", arguments={})
    body = json.dumps(message).replace('"_meta": {', '"_meta": {' + meta + ",").encode()
    async with proxied(backend) as port, Caller(port) as caller:
        reply = await caller.send(body, fields)
        assert reply.status == 400
        assert backend.calls == []
        assert (await caller.call("echo", text="next")).text == "next"


async def test_meta_of_a_session_cannot_speak_for_the_proxy(backend: Backend) -> None:
    forged = {
        f"{META}protocolVersion": "1999-01-01",
        f"{META}clientCapabilities": {"sampling": {}},
        f"{META}clientInfo": {"name": "root", "version": "1"},
        "own": [1],
    }
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.initialize()
        assert (await caller.call("echo", meta=forged, text="x")).text == "x"
    sent = backend.calls[-1]["params"]["_meta"]
    assert sent[f"{META}protocolVersion"] == "2026-07-28"
    assert sent[f"{META}clientCapabilities"] == {}
    # What the session has said of itself when it began.
    assert sent[f"{META}clientInfo"]["name"] == "t"
    assert sent["own"] == [1]


PARAMETERS: dict[str, tuple[dict[str, Any], Fields, bool]] = {
    "digits": ({"n": 1}, {"mcp-param-n": "0" * 20_000 + "1"}, False),
    "another spelling": ({"n": 1}, {"mcp-param-n": "1.0"}, True),
    "exponent": ({"n": 100}, {"mcp-param-n": "1e2"}, False),
    "a boolean": ({"n": True}, {"mcp-param-n": "1"}, False),
    "an object": ({"n": {}}, {"mcp-param-n": "{}"}, False),
    "infinity": ({"n": 1}, {"mcp-param-n": "Infinity"}, False),
    "underscores": ({"n": 10}, {"mcp-param-n": "1_0"}, False),
    "other digits": ({"s": "٣"}, {"mcp-param-s": "3"}, False),
    "line ends, encoded": ({"s": "a\r\nb: c"}, {"mcp-param-s": "=?base64?YQ0KYjogYw==?="}, True),
    "bad base64": ({"s": "a"}, {"mcp-param-s": "=?base64?Y?="}, False),
    "base64 that is not UTF-8": ({"s": "a"}, {"mcp-param-s": "=?base64?/w==?="}, False),
    "without a value": ({}, {"mcp-param-s": "a"}, False),
    "null": ({"s": None}, {"mcp-param-s": ""}, False),
    "empty": ({"s": ""}, {"mcp-param-s": ""}, True),
    "unknown": ({}, {"mcp-param-other": "a"}, True),
}


@pytest.mark.parametrize("case", PARAMETERS)
async def test_odd_parameter_headers(backend: Backend, case: str) -> None:
    arguments, headers, served = PARAMETERS[case]
    async with proxied(backend) as port, Caller(port) as caller:
        message, fields = stateless("tools/call", name="numbered", arguments=arguments)
        reply = await caller.send(message, {**fields, **headers})
        assert (reply.status, len(backend.calls)) == ((200, 1) if served else (400, 0)), reply
        assert served or reply.code == -32020
        assert not any(line.startswith("b: c") for line in "".join(backend.heads).split("\r\n"))


async def test_cursor_of_another_list(backend: Backend) -> None:
    backend.tools.update({f"t{number}": echo for number in range(1500)})
    async with proxied(backend) as port, Caller(port) as caller:
        first = (await caller.ask("tools/list")).result
        cursor = first["nextCursor"]
        second = (await caller.ask("tools/list", cursor=cursor)).result
        assert len(first["tools"]) + len(second["tools"]) == len(backend.tools)
        assert "nextCursor" not in second
        assert (await caller.ask("resources/list", cursor=cursor)).code == -32602
        assert (await caller.ask("tools/list", cursor=cursor + "0")).code == -32602


async def test_forwarded_addresses_are_not_believed(backend: Backend) -> None:
    auth = Auth(rate_limit=RateLimit(requests_per_minute=1, burst=2), allow_anonymous=True)
    async with proxied(backend, auth=auth) as port, Caller(port) as caller:
        message, fields = stateless("tools/list")
        statuses = [
            (
                await caller.send(message, {**fields, "x-forwarded-for": f"10.0.0.{n}", "forwarded": f"for=10.0.0.{n}"})
            ).status
            for n in range(4)
        ]
    assert statuses == [200, 200, 429, 429]


async def test_client_of_http_1_0_gets_its_stream_until_the_end(backend: Backend) -> None:
    async def working(call: Call) -> Outcome:
        await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
        return text("done")

    backend.tools["work"] = working
    async with proxied(backend) as port, Caller(port) as caller:
        message, fields = stateless("tools/call", name="work", arguments={}, meta={"progressToken": "t"})
        raw = caller.http(json.dumps(message).encode(), fields).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
        caller.writer.write(raw)
        status, headers = await caller.head()
        assert (status, headers.get("transfer-encoding"), headers["connection"]) == (200, None, "close")
        body = await caller.reader.read()
        assert re.findall(rb'"progressToken": ?"t"', body)
        assert b'"done"' in body


async def test_client_that_closes_its_side_still_gets_the_answer(backend: Backend) -> None:
    async with proxied(backend) as port, Caller(port) as caller:
        caller.write(*stateless("tools/call", name="hold", arguments={}))
        caller.writer.write_eof()
        await backend.holding.wait()
        backend.release.set()
        assert (await caller.reply()).text == "released"
        assert await caller.is_closed()


async def test_half_a_request_and_a_farewell(backend: Backend) -> None:
    async with proxied(backend) as port:
        message, fields = stateless("tools/call", name="echo", arguments={})
        whole = Caller(port).http(json.dumps(message).encode(), fields)
        for length in (1, 20, 60, len(whole) - 1):
            async with Caller(port) as caller:
                caller.writer.write(whole[:length])
                caller.writer.write_eof()
                reply = await caller.reply()
                assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert backend.calls == []


async def test_session_header_of_the_stateless_era_is_ignored_whatever_it_holds(backend: Backend) -> None:
    async with proxied(backend) as port, Caller(port) as caller:
        message, fields = stateless("tools/call", name="echo", arguments={"text": "x"})
        for odd in ("", "a" * 8000, "\xff\xfe", "a, b", ["a", "b"]):
            assert (await caller.send(message, {**fields, "mcp-session-id": odd})).text == "x"


async def test_thousands_of_sessions_take_no_memory(tmp_path: Path) -> None:
    async with started(tmp_path, standard()) as proxy, Caller(proxy.port) as caller:
        for _ in range(50):
            await caller.initialize()
        usage = Usage(proxy)
        params = {"protocolVersion": HANDSHAKE, "capabilities": {"x": "y" * 2000}}
        body = caller.http(json.dumps(request("initialize", **params)).encode())
        for _ in range(30):
            caller.writer.write(body * 100)
            for _ in range(100):
                assert (await caller.reply()).status == 200
        assert usage.grown < 8 * MEBI
