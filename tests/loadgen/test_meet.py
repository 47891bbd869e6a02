"""What is found out before the load, and what keeps it from beginning."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.backend.hostile import HostileServer, Incoming, answer_well, response, stay_silent
from tests.loadgen.conftest import kinds, load, plan_for

from only1mcp.loadgen.connection import Traffic
from only1mcp.loadgen.engine import run
from only1mcp.loadgen.failure import HTTP, LoadError
from only1mcp.loadgen.meet import meet
from only1mcp.loadgen.mix import parse_tool

TOOLS = {"tools": [{"name": "find", "inputSchema": {"type": "object"}}]}


def answering(value: Any, *headers: str) -> Any:
    async def behave(incoming: Incoming) -> None:
        body = incoming.result(json.dumps(value).encode())
        await incoming.send(response(body, "200 OK", "application/json", *headers))

    return behave


def refusing(status: str) -> Any:
    async def behave(incoming: Incoming) -> None:
        await incoming.send(response(b"", status, "text/plain"))

    return behave


class HandshakeServer(HostileServer):
    """Speaks 2025-11-25 and gives each client a session of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = 0
        self.behaviours |= {
            "server/discover": refusing("400 Bad Request"),
            "initialize": self._initialize,
            "DELETE": refusing("200 OK"),
        }

    async def _initialize(self, incoming: Incoming) -> None:
        self.sessions += 1
        info = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
        await answering(info, f"mcp-session-id: s{self.sessions}")(incoming)


@pytest.mark.parametrize("era", ["auto", "handshake"])
async def test_each_connection_has_a_session_of_its_own(era: str) -> None:
    async with HandshakeServer() as server:
        done = await load(server, era=era, connections=3, requests=30)
    assert (done.recorder.good, kinds(done)) == (30, {})
    assert (done.ground.revision, done.ground.server) == ("2025-11-25", "old")
    by_connection = {(each.connection, each.header("mcp-session-id")) for each in server.of("tools/list")}
    assert len(by_connection) == 3
    assert {session for _, session in by_connection} == {"s1", "s2", "s3"}
    assert len(server.of("notifications/initialized")) == 3
    # The sessions are ended on the connections that had them.
    assert {(each.connection, each.header("mcp-session-id")) for each in server.of("DELETE")} == by_connection
    assert bool(server.of("server/discover")) == (era == "auto")


async def test_a_session_outlives_its_connection() -> None:
    async def close(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result(), "200 OK", "application/json", "connection: close"))
        await incoming.close()

    async with HandshakeServer() as server:
        server.behaviours["tools/list"] = close
        done = await load(server, era="handshake", requests=3)
    assert (done.recorder.good, server.sessions) == (3, 1)
    assert {each.header("mcp-session-id") for each in server.of("tools/list")} == {"s1"}
    assert len(server.of("DELETE")) == 1


async def test_a_server_that_does_not_answer_goodbyes_holds_nobody_up() -> None:
    async with HandshakeServer() as server:
        server.behaviours["DELETE"] = stay_silent
        done = await load(server, era="handshake", requests=3, connections=2)
    assert done.recorder.good == 3


async def test_the_stateless_era_where_the_target_knows_it() -> None:
    found = {"supportedVersions": ["2026-07-28"], "capabilities": {}}
    async with HostileServer() as server:
        server.behaviours["server/discover"] = answering(found)
        done = await load(server, era="auto", requests=2, connections=2)
        assert done.ground.revision == "2026-07-28"
        assert server.of("initialize") == server.of("DELETE") == []
        server.behaviours["initialize"] = refusing("404 Not Found")
        with pytest.raises(LoadError):
            await load(server, era="handshake")


async def test_tools_are_looked_up_before_they_are_called() -> None:
    async with HostileServer() as server:
        server.behaviours["tools/list"] = answering(TOOLS)
        assert (await load(server, operations=(parse_tool("find"),))).recorder.good == 4
        with pytest.raises(LoadError, match="lists no tool 'fund'; did you mean 'find'") as caught:
            await load(server, operations=(parse_tool("fund"),))
        assert caught.value.usage
        assert {each.message["params"]["name"] for each in server.of("tools/call")} == {"find"}
        assert (await load(server, operations=(parse_tool("fund"),), unlisted=True)).recorder.good == 4


async def test_lists_of_tools_without_end_are_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("only1mcp.loadgen.meet.MAX_PAGES", 5)
    async with HostileServer() as server:
        server.behaviours["tools/list"] = answering({**TOOLS, "nextCursor": "again"})
        await load(server, operations=(parse_tool("find"),))
        assert len(server.of("tools/list")) == 5


@pytest.mark.parametrize("value", [{}, {"tools": 5}, {"tools": [5, {"name": 5}]}, {"tools": [], "nextCursor": 5}])
async def test_lists_of_tools_that_are_none(value: dict[str, Any]) -> None:
    async with HostileServer() as server:
        server.behaviours["tools/list"] = answering(value)
        with pytest.raises(LoadError, match="lists no tool"):
            await load(server, operations=(parse_tool("find"),))


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        ("401 Unauthorized", "status 401", "--token"),
        ("403 Forbidden", "status 403", "--token"),
        ("404 Not Found", "status 404", "is /mcp the path"),
        ("500 Internal Server Error", "status 500", None),
    ],
)
async def test_a_target_that_refuses(status: str, words: str, hint: str | None) -> None:
    async with HostileServer() as server:
        server.behaviours |= {"server/discover": refusing(status), "initialize": refusing(status)}
        with pytest.raises(LoadError, match=words) as caught:
            await load(server, era="auto")
    assert (hint is None) == (caught.value.hint is None)
    assert hint is None or hint in str(caught.value.hint)
    assert not caught.value.cannot_connect


async def test_credentials_are_asked_for_before_the_load() -> None:
    async with HostileServer() as server:
        server.behaviours["server/discover"] = refusing("401 Unauthorized")
        with pytest.raises(LoadError, match="status 401"):
            await load(server)
        assert server.of("tools/list") == []


async def test_a_target_that_cannot_be_greeted_can_be_loaded() -> None:
    async with HostileServer() as server:
        server.behaviours["server/discover"] = refusing("404 Not Found")
        assert (await load(server)).recorder.good == 4


async def test_a_target_that_hangs() -> None:
    async with HostileServer() as server:
        server.behaviours |= {"server/discover": stay_silent, "initialize": stay_silent}
        with pytest.raises(LoadError, match="no complete answer within"):
            await load(server, era="auto", timeout_s=0.1)


async def test_nobody_there() -> None:
    async with HostileServer() as server:
        port = server.port
    with pytest.raises(LoadError, match=f"cannot connect to 127.0.0.1:{port}: connection refused") as caught:
        await meet(plan_for(f"http://127.0.0.1:{port}/mcp"), Traffic())
    assert caught.value.cannot_connect


async def test_a_name_is_resolved_once_and_its_first_living_address_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        # Nobody listens at the first of the two.
        return [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.1", port))]

    async def close(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result(), "200 OK", "application/json", "connection: close"))
        await incoming.close()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with HostileServer() as server:
        server.behaviours["tools/list"] = close
        plan = plan_for(f"http://target.invalid:{server.port}/mcp", connections=3, requests=9)
        done = await run(plan, lambda _: None)
    assert done.recorder.good == 9
    assert done.reconnections == 6
    assert asked == ["target.invalid"]
    assert done.ground.address.host == "127.0.0.1"
    assert {each.header("host") for each in server.received} == {f"target.invalid:{server.port}"}


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "x")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(LoadError, match=r"cannot connect to target\.invalid:80: host name not found") as caught:
        await meet(plan_for("http://target.invalid/mcp"), Traffic())
    assert caught.value.cannot_connect


async def test_tls_is_verified_unless_told_otherwise(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with HostileServer(ssl=context) as server:
        plan = plan_for(f"https://localhost:{server.port}/mcp", requests=3, connections=2)
        with pytest.raises(LoadError, match="certificate not accepted") as caught:
            await run(plan, lambda _: None)
        assert "--insecure" in str(caught.value.hint)
        assert server.received == []
        plan = plan_for(plan.url, requests=3, connections=2, insecure=True)
        assert (await run(plan, lambda _: None)).recorder.good == 3


async def test_a_redirect_at_the_start_is_not_followed() -> None:
    async def redirect(incoming: Incoming) -> None:
        where = "location: http://127.0.0.1:1/mcp"
        await incoming.send(response(b"", "308 Permanent Redirect", "text/plain", where))

    async with HostileServer() as server:
        server.behaviours |= dict.fromkeys(("server/discover", "initialize", "tools/list"), redirect)
        with pytest.raises(LoadError, match=r"a redirect to http://127\.0\.0\.1:1/mcp, which is not followed"):
            await load(server, era="auto")
        assert kinds(await load(server)) == {(HTTP, "308"): 4}


async def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    async def once(incoming: Incoming) -> None:
        await answer_well(incoming)
        await incoming.close()

    async with HostileServer() as server:
        server.behaviours |= {"server/discover": once, "tools/list": answering(TOOLS)}
        assert (await load(server, operations=(parse_tool("find"),))).recorder.good == 4
