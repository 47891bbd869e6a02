"""Before the load: find the one address, the era, the sessions and the tools, or say why there can be no load."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from only1mcp import __version__
from only1mcp._fast import ERROR
from only1mcp.backend.base import BackendCall
from only1mcp.backend.era import establish
from only1mcp.errors import BackendError, BackendRefused, BackendUnavailable
from only1mcp.loadgen.connection import Address, Connection, Traffic, reason_of
from only1mcp.loadgen.failure import LoadError
from only1mcp.loadgen.plan import Plan
from only1mcp.loadgen.requests import CALLER, Prepared, prepare
from only1mcp.loadgen.talk import Talk
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.eras import own_params
from only1mcp.wire.mcp import Era

MAX_PAGES: Final = 1000
# Handshakes and connections that are opened at a time: the target's backlog is not what is measured.
OPENING: Final = 64
END_SESSIONS_S: Final = 2.0

NextId = Callable[[], bytes]


@dataclass(slots=True)
class Seat:
    """Where one client of the load sits: its connection, its requests, and its session while there is one."""

    connection: Connection
    prepared: list[Prepared]
    talk: Talk | None


@dataclass(slots=True)
class Ground:
    """What is known of the target before the load begins."""

    address: Address
    revision: str
    server: str
    seats: list[Seat]


async def meet(plan: Plan, traffic: Traffic) -> Ground:
    """Return the target, ready to be loaded; raise `LoadError`."""
    ids = itertools.count(1)
    meeting = _Meeting(plan, traffic, lambda: b"%d" % next(ids))
    try:
        return await meeting.prepare()
    except BaseException as error:
        meeting.close()
        if isinstance(error, BackendError):
            raise _explained(plan, error) from error
        raise


async def end_sessions(ground: Ground) -> None:
    """Tell the target which sessions are over, as far as that goes quickly."""
    talks = [seat.talk for seat in ground.seats if seat.talk is not None and seat.talk.session_id is not None]
    gate = asyncio.Semaphore(OPENING)

    async def end(talk: Talk) -> None:
        async with gate:
            await talk.end_session(END_SESSIONS_S)

    tasks = [asyncio.ensure_future(end(talk)) for talk in talks]
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=END_SESSIONS_S)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for talk in talks:
        await talk.aclose()


class _Meeting:
    """One attempt to get to know the target."""

    def __init__(self, plan: Plan, traffic: Traffic, next_id: NextId) -> None:
        self._plan = plan
        self._traffic = traffic
        self._next_id = next_id
        self._talks: list[Talk] = []

    def close(self) -> None:
        for talk in self._talks:
            if talk.connection is not None:
                talk.connection.abort()

    async def prepare(self) -> Ground:
        first = await self._reach()
        revision, server = await self._learn_era(first)
        schemas: dict[str, Any] = {}
        called = {each.name or "" for each in self._plan.operations if each.method == "tools/call"}
        if called:
            schemas = await self._list_tools(first)
            if not self._plan.unlisted:
                _check_listed(called, schemas)
        operations = self._plan.operations
        shared = [prepare(self._plan, each, revision, first.session_id, schemas) for each in operations]
        in_session = mcp.era_of(revision) is Era.HANDSHAKE
        gate = asyncio.Semaphore(OPENING)

        async def take_seat(talk: Talk) -> Seat:
            async with gate:
                if in_session and talk is not first:
                    await establish(
                        talk, self._next_id, timeout_s=self._plan.timeout_s, client_version=__version__, probe=False
                    )
                prepared = shared
                if talk.session_id != first.session_id:
                    prepared = [prepare(self._plan, each, revision, talk.session_id, {}) for each in operations]
                return Seat(await talk.open(), prepared, talk if in_session else None)

        self._talks += [Talk(self._plan, self._address, self._traffic) for _ in range(self._plan.connections - 1)]
        tasks = [asyncio.ensure_future(take_seat(talk)) for talk in self._talks]
        try:
            seats = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Ground(self._address, revision, server, list(seats))

    async def _reach(self) -> Talk:
        """Resolve the name, and keep the first of its addresses that takes a connection."""
        target = self._plan.target
        context = _tls(self._plan) if target.tls else None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _unreachable(self._plan, reason_of(error)) from None
        failed: BackendUnavailable | None = None
        for *_, sockaddr in found:
            self._address = Address(str(sockaddr[0]), target.port, context, target.host if target.tls else None)
            talk = Talk(self._plan, self._address, self._traffic)
            try:
                await talk.open()
            except BackendUnavailable as error:
                failed = failed or error
                continue
            self._talks.append(talk)
            return talk
        raise failed or BackendUnavailable("host name not found")

    async def _learn_era(self, talk: Talk) -> tuple[str, str]:
        plan = self._plan
        if plan.era == "stateless":
            talk.revision = mcp.LATEST_STATELESS
            server = await self._greet(talk)
            return mcp.LATEST_STATELESS, server
        peer = await establish(
            talk,
            self._next_id,
            timeout_s=plan.timeout_s,
            client_version=__version__,
            probe=plan.era == "auto",
        )
        if plan.era == "handshake" and peer.era is not Era.HANDSHAKE:
            raise LoadError("the target refuses the handshake: it speaks the stateless era alone", usage=True)
        return peer.revision, str(peer.server_info.get("name") or "")

    async def _greet(self, talk: Talk) -> str:
        """Ask who it is, so that what refuses everybody is known before the load; whatever else it answers is fine."""
        try:
            answer = await self._ask(talk, "server/discover", {})
        except BackendRefused as error:
            if error.status in (401, 403):
                raise
            return ""
        if answer.result is None:
            return ""
        result = jsonrpc.decode(answer.data, answer.result)
        meta = result.get("_meta") if isinstance(result, dict) else None
        info = meta.get(mcp.META_SERVER_INFO) if isinstance(meta, dict) else None
        return str(info.get("name") or "") if isinstance(info, dict) else ""

    async def _list_tools(self, talk: Talk) -> dict[str, Any]:
        """Return the input schemas of all tools by name."""
        found: dict[str, Any] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            answer = await self._ask(talk, "tools/list", {} if cursor is None else {"cursor": orjson.dumps(cursor)})
            if answer.kind == ERROR:
                return found
            assert answer.result is not None
            result = jsonrpc.decode(answer.data, answer.result)
            tools = result.get("tools") if isinstance(result, dict) else None
            for each in tools if isinstance(tools, list) else ():
                if isinstance(each, dict) and isinstance(each.get("name"), str):
                    found[each["name"]] = each.get("inputSchema")
            cursor = result.get("nextCursor") if isinstance(result, dict) else None
            if not isinstance(cursor, str):
                break
        return found

    async def _ask(self, talk: Talk, method: str, fields: dict[str, bytes]) -> Any:
        assert talk.revision is not None
        id = self._next_id()
        params = own_params(mcp.era_of(talk.revision), talk.revision, CALLER, fields)
        return await talk.call(BackendCall(method, jsonrpc.request(id, method, params), id, self._plan.timeout_s))


def _check_listed(called: set[str], schemas: dict[str, Any]) -> None:
    for name in sorted(called):
        if name not in schemas:
            near = difflib.get_close_matches(name, schemas, 1)
            raise LoadError(
                f"the target lists no tool {name!r:.80}" + (f"; did you mean {near[0]!r:.80}?" if near else ""),
                hint="--unlisted calls it all the same",
                usage=True,
            )


def _explained(plan: Plan, error: BackendError) -> LoadError:
    if isinstance(error, BackendUnavailable):
        return _unreachable(plan, error.message)
    if isinstance(error, BackendRefused):
        hint = None
        if error.status in (401, 403):
            hint = "pass a JWT or an API key with --token or ONLY1MCP_TOKEN"
        elif error.status in (404, 405):
            hint = f"is {plan.target.path.decode('ascii')} the path of its MCP endpoint?"
        return LoadError(f"the target refused the first request: {error.message}", hint=hint)
    return LoadError(f"the target does not answer as an MCP server: {error.message}")


def _unreachable(plan: Plan, reason: str) -> LoadError:
    host = plan.target.host
    shown = f"[{host}]" if ":" in host else host
    hint = "the certificate cannot be trusted; --insecure does not look at it" if "certificate" in reason else None
    if hint is None and host in ("127.0.0.1", "localhost", "::1"):
        hint = "is the proxy running? start it with: only1mcp start"
    return LoadError(f"cannot connect to {shown}:{plan.target.port}: {reason}", cannot_connect=True, hint=hint)


def _tls(plan: Plan) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if plan.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
